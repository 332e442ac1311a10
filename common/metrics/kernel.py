"""Physical properties of a converted CT kernel: noise, its texture, sharpness, emphysema index and Perc15."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from monai.utils.module import optional_import

from .edge import LEAST_PIXELS, EdgePixels, curve_at, edge_pixels
from .noise import UniformPatches, check_spacing, check_volume, noise_power_spectrum, noise_sd, uniform_patches

THRESHOLD_HU = -950.0
PERCENTILE = 15.0  # of the lung's HU

ndimage, _ = optional_import("scipy.ndimage")

# Regions are shrunk so far that no kernel spreads their border inside.
MARGIN_MM = 3.0
LEAST_VOXELS = 100
LABELS = {"lung_parenchyma": 1, "emphysema": 2, "blood_pool": 4}


def emphysema_index(volume_hu: np.ndarray, lung_mask: np.ndarray, threshold_hu: float = THRESHOLD_HU) -> float:
    """Compute the percentage of the lung's voxels below the threshold (also called LAA-950).

    P. A. Gevenois et al., "Comparison of computed density and macroscopic morphometry in pulmonary emphysema", Am. J.
    Respir. Crit. Care Med. 152, 1995. It rises with noise, hence with the sharpness of the reconstruction kernel.

    Args:
        volume_hu: CT volume `(X, Y, Z)` in HU.
        lung_mask: Mask of the lung, of the same shape.
        threshold_hu: Threshold below which a voxel counts.

    Raises:
        ValueError: If the shapes differ or the mask is empty.

    Example:
        >>> emphysema_index(np.array([[[-980.0, -850.0, -951.0, -950.0]]]), np.ones((1, 1, 4)))
        50.0
    """
    return float(100.0 * (_in_lung(volume_hu, lung_mask) < threshold_hu).mean())


def perc15(volume_hu: np.ndarray, lung_mask: np.ndarray) -> float:
    """Compute the 15th percentile of the lung's HU (Perc15, or PD15 where 1000 is added), which emphysema lowers.

    A. Dirksen et al., "A randomized clinical trial of alpha1-antitrypsin augmentation therapy", Am. J. Respir. Crit.
    Care Med. 160, 1999. It falls with noise, hence with the sharpness of the reconstruction kernel.

    Args:
        volume_hu: CT volume `(X, Y, Z)` in HU.
        lung_mask: Mask of the lung, of the same shape.

    Raises:
        ValueError: If the shapes differ or the mask is empty.

    Example:
        >>> perc15(np.linspace(-1000.0, -800.0, 201).reshape(1, 1, 201), np.ones((1, 1, 201)))
        -970.0
    """
    return float(np.percentile(_in_lung(volume_hu, lung_mask), PERCENTILE))


def kernel_metrics(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    spacing_mm: Sequence[float],
    label_names: Mapping[int, str] | Mapping[str, str] | None = None,
    source: np.ndarray | None = None,
) -> dict[str, float]:
    """Compare a converted volume with the target kernel's image of the same patient; undefined numbers are omitted.

    Args:
        prediction: Converted volume `(X, Y, Z)` in HU, Z the axial slice axis.
        truth: Image of the target kernel, of the same shape; places are located in it.
        labels: Label map of the same shape; without it there is no noise SD, emphysema index and Perc15.
        spacing_mm: Voxel size along X, Y (and Z), in mm.
        label_names: Name of each value; `lung_parenchyma`, `emphysema` and `blood_pool` are used. By default the
            values 1, 2 and 4 of the chest phantom.
        source: Not used (the evaluator calls all metrics alike).

    Returns:
        `noise_sd` and `noise_sd_target` [HU] in the blood pool, shrunk by 3 mm; `noise_sd_error`: |relative
        difference|; `nps_error`: mean |difference| of the noise power spectra of uniform soft tissue up to Nyquist,
        over the target's mean; `edge_error`: mean |difference| of the edge curves up to Nyquist;
        `emphysema_index`, `emphysema_index_target` and `emphysema_true` (by the labels) in percent of the lung;
        `emphysema_error`: |index - true|, percentage points; `perc15` and `perc15_target` of the lung in HU, and
        `perc15_error`, their |difference|.

    Raises:
        ValueError: If shapes differ, values are not finite, or the spacing is invalid.
    """
    truth = check_volume(truth, "truth")
    prediction = check_volume(prediction, "prediction")
    if prediction.shape != truth.shape:
        raise ValueError(f"`prediction` must have the shape of `truth` {truth.shape}, got {prediction.shape}.")
    check_spacing(spacing_mm)
    values: dict[str, float] = {}
    if labels is not None:
        labels = check_volume(labels, "labels")
        if labels.shape != truth.shape:
            raise ValueError(f"`labels` must have the shape of `truth` {truth.shape}, got {labels.shape}.")
        numbers = _label_values(label_names)
        values |= _noise_values(prediction, truth, labels == numbers.get("blood_pool", -1), spacing_mm)
        values |= _emphysema_values(prediction, truth, labels, numbers)
    places = _places(truth, spacing_mm)
    mine, target = (_curves(volume, places, spacing_mm) for volume in (prediction, truth))
    if "nps" in mine and np.mean(target["nps"]) > 0:
        values["nps_error"] = float(np.abs(np.subtract(mine["nps"], target["nps"])).mean() / np.mean(target["nps"]))
    if "edge" in mine and "edge" in target:
        values["edge_error"] = float(np.abs(np.subtract(mine["edge"], target["edge"])).mean())
    return values


def lung_metrics(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    spacing_mm: Sequence[float],
    label_names: Mapping[int, str] | Mapping[str, str] | None = None,
    source: np.ndarray | None = None,
) -> dict[str, float]:
    """Compute the part of `kernel_metrics` that is about the lung, which takes no time: emphysema index and Perc15.

    Args:
        prediction: As for `kernel_metrics`.
        truth: As for `kernel_metrics`.
        labels: As for `kernel_metrics`.
        spacing_mm: Not used.
        label_names: As for `kernel_metrics`.
        source: Not used.

    Returns:
        `emphysema_*` and `perc15*`; nothing without labels of a lung.
    """
    if labels is None:
        return {}
    return _emphysema_values(prediction, truth, labels, _label_values(label_names))


def kernel_curves(
    volume_hu: np.ndarray, spacing_mm: Sequence[float], *, reference_hu: np.ndarray | None = None
) -> dict[str, list[float]]:
    """Return noise power spectrum and edge curve up to Nyquist as plain lists, for plots; undefined ones are omitted.

    Args:
        volume_hu: CT volume `(X, Y, Z)` in HU.
        spacing_mm: Voxel size along X, Y (and Z), in mm.
        reference_hu: Volume in which uniform tissue and edges are located; by default the volume itself.

    Returns:
        `nps_lp_mm`, `nps` [HU^2 mm^2], `edge_lp_mm`, `edge`.

    Raises:
        ValueError: If shape or spacing is invalid.
    """
    reference = volume_hu if reference_hu is None else reference_hu
    return _curves(volume_hu, _places(reference, spacing_mm), spacing_mm)


def _in_lung(volume_hu: np.ndarray, lung_mask: np.ndarray) -> np.ndarray:
    volume = check_volume(volume_hu, "volume_hu")
    mask = np.asarray(lung_mask).astype(bool)
    if mask.shape != volume.shape:
        raise ValueError(f"`lung_mask` must have the shape of `volume_hu` {volume.shape}, got {mask.shape}.")
    if not mask.any():
        raise ValueError("`lung_mask` must hold at least one voxel, got none; there is no lung in this volume.")
    return np.asarray(volume[mask])


def _places(reference_hu: np.ndarray, spacing_mm: Sequence[float]) -> tuple[UniformPatches, EdgePixels]:
    return uniform_patches(reference_hu, spacing_mm), edge_pixels(reference_hu, spacing_mm)


def _curves(
    volume_hu: np.ndarray, places: tuple[UniformPatches, EdgePixels], spacing_mm: Sequence[float]
) -> dict[str, list[float]]:
    patches, pixels = places
    curves: dict[str, list[float]] = {}
    if len(patches.corners):
        frequency, power = noise_power_spectrum(volume_hu, patches, spacing_mm)
        curves |= {"nps_lp_mm": frequency.tolist(), "nps": power.tolist()}
    if len(pixels.voxels) >= LEAST_PIXELS:
        try:
            frequency, curve = curve_at(volume_hu, pixels, spacing_mm)
        except ValueError:  # the volume has no edge at these places: the curve is undefined
            return curves
        curves |= {"edge_lp_mm": frequency.tolist(), "edge": curve.tolist()}
    return curves


def _noise_values(
    prediction: np.ndarray, truth: np.ndarray, region: np.ndarray, spacing_mm: Sequence[float]
) -> dict[str, float]:
    spacing = check_spacing(spacing_mm)
    inner = np.zeros(region.shape, dtype=bool)
    for index in np.flatnonzero(region.any(axis=(0, 1))):
        inner[:, :, index] = ndimage.distance_transform_edt(region[:, :, index], sampling=spacing) > MARGIN_MM
    if inner.sum() < LEAST_VOXELS:
        return {}
    mine, target = noise_sd(prediction, inner), noise_sd(truth, inner)
    values = {"noise_sd": mine, "noise_sd_target": target}
    return values | ({"noise_sd_error": abs(mine - target) / target} if target > 0 else {})


def _emphysema_values(
    prediction: np.ndarray, truth: np.ndarray, labels: np.ndarray, numbers: Mapping[str, int]
) -> dict[str, float]:
    emphysema = labels == numbers.get("emphysema", -1)
    lung = emphysema | (labels == numbers.get("lung_parenchyma", -1))
    if not lung.any():
        return {}
    index, true = emphysema_index(prediction, lung), float(100.0 * emphysema.sum() / lung.sum())
    target = emphysema_index(truth, lung)
    names = ("emphysema_index", "emphysema_index_target", "emphysema_true", "emphysema_error")
    values = dict(zip(names, (index, target, true, abs(index - true))))
    mine, theirs = perc15(prediction, lung), perc15(truth, lung)
    return values | {"perc15": mine, "perc15_target": theirs, "perc15_error": abs(mine - theirs)}


def _label_values(names: Mapping[int, str] | Mapping[str, str] | None) -> dict[str, int]:
    return dict(LABELS) if names is None else {name: int(value) for value, name in names.items()}
