"""Scores of a super-resolved volume against the micro truth of a phantom, and against its clinical source.

Texture and sharpness are also compared regardless of position, by the radial power spectrum of slices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.utils.module import optional_import

from .image_quality import psnr, slice_quality
from .noise import check_spacing, check_volume, ring_means
from .structures import Names, contrast, edge_width, find_structures

fft, _ = optional_import("scipy.fft")

# An image without any power at a frequency is off by a factor of a million, not infinitely.
LARGEST_RATIO = 1e6


def radial_power_spectrum(volume: np.ndarray, spacing_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the power spectrum of the axial slices of a volume, averaged over slices and directions.

    P(f) = dx dy / sum w^2 |FFT(w (slice - mean))|^2 with w a Hann window, averaged over rings as wide as the resolution
    of the spectrum, up to the Nyquist frequency. White noise of variance s^2 has P = s^2 dx dy.

    Args:
        volume: Volume `(X, Y, Z)`, Z the axial slice axis.
        spacing_mm: Pixel size along X and Y.

    Returns:
        Mean frequency of each ring in line pairs per mm, and power in the squared unit of the volume times mm^2.

    Raises:
        ValueError: If the shape is wrong, values are not finite, or the spacing is invalid.
    """
    volume = check_volume(volume, "volume")
    spacing = check_spacing(spacing_mm)
    window = np.outer(*(np.hanning(number + 2)[1:-1] for number in volume.shape[:2]))[:, :, None]
    less_mean = volume - volume.mean(axis=(0, 1), keepdims=True)
    power = (np.abs(fft.fft2(window * less_mean, axes=(0, 1))) ** 2).mean(axis=2)
    power *= spacing[0] * spacing[1] / (window**2).sum()
    frequency = np.hypot.outer(*(fft.fftfreq(number, step) for number, step in zip(volume.shape, spacing)))
    ring = max(1 / (number * step) for number, step in zip(volume.shape, spacing))
    return ring_means(frequency, power, ring_lp_mm=ring, limit=0.5 / max(spacing))


def spectrum_distance(prediction: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Average |log10| of the ratio of two radial power spectra over frequencies up to Nyquist: 0 where they agree.

    1 is a factor of ten in power at every frequency; a ratio counts up to a million. Blind to where structures are.

    Args:
        prediction: Volume `(X, Y, Z)`.
        truth: Volume of the same shape and unit.
        spacing_mm: Pixel size along X and Y.

    Raises:
        ValueError: If shapes differ, or the truth has no structure.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(32, 32, 2))
        >>> round(spectrum_distance(10 * noise, noise, (0.1, 0.1)), 6)
        2.0
    """
    if np.shape(prediction) != np.shape(truth):
        raise ValueError(f"`prediction` must have the shape of `truth` {np.shape(truth)}, got {np.shape(prediction)}.")
    (_, predicted), (_, true) = (radial_power_spectrum(volume, spacing_mm) for volume in (prediction, truth))
    if not (true > 0).all():
        raise ValueError("`truth` must vary from pixel to pixel at every frequency, got a flat or periodic image.")
    ratio = np.clip(predicted / true, 1 / LARGEST_RATIO, LARGEST_RATIO)
    return float(np.abs(np.log10(ratio)).mean())


def super_resolution_metrics(
    prediction: np.ndarray,
    source: np.ndarray,
    *,
    truth: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    spacing_mm: Sequence[float],
    label_names: Names | None = None,
    data_range: float,
) -> dict[str, float]:
    """Compute all numbers of one super-resolved volume; undefined ones are omitted.

    Slices of the output are as thick as those of the clinical source: the truth of one is the mean of all micro slices
    within it, see `thick_slices`, for image quality, contrast, edges and spectrum alike.

    Args:
        prediction: Output `(f X, f Y, Z)` in HU, Z the axial slice axis.
        source: Clinical volume `(X, Y, Z)` in HU.
        truth: Noise-free truth of the prediction's shape in HU; if None, only the consistency is measured.
        labels: Micro label map `(f X, f Y, n Z)`, with n micro slices per slice.
        spacing_mm: Pixel size of the prediction along X and Y.
        label_names: Names of the label values.
        data_range: Width of the intensity range in HU, for PSNR and SSIM.

    Returns:
        `consistency_mse` [HU^2] and `consistency_psnr` [dB], from `consistency`. With a truth: `psnr` [dB],
        `ssim`, `rmse` and `mae` [HU], means over slices; `spectrum_distance` [decades]. With labels, for each
        structure: `contrast_<name>` (relative to the truth's contrast), `edge_width_<name>_mm`,
        `edge_width_true_<name>_mm` and their ratio `edge_ratio_<name>`.

    Raises:
        ValueError: If shapes do not fit, or values are not finite.

    Example:
        >>> truth = np.random.default_rng(0).normal(-800.0, 100.0, (32, 32, 1))
        >>> clinical = truth.reshape(8, 4, 8, 4, 1).mean(axis=(1, 3))
        >>> options = {"spacing_mm": (0.1, 0.1), "data_range": 1600.0}
        >>> values = super_resolution_metrics(truth + 4.0, clinical, truth=truth, **options)
        >>> round(values["consistency_mse"], 3), round(values["mae"], 3), round(values["spectrum_distance"], 3)
        (16.0, 4.0, 0.0)
    """
    values = consistency(prediction, source, data_range=data_range)
    if truth is None:
        return values
    prediction, truth = check_volume(prediction, "prediction"), check_volume(truth, "truth")
    if prediction.shape != truth.shape:
        raise ValueError(f"`prediction` must have the shape of `truth` {truth.shape}, got {prediction.shape}.")
    rows = [
        slice_quality(prediction[:, :, z], truth[:, :, z], data_range=data_range) for z in range(prediction.shape[2])
    ]
    values |= {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    values["spectrum_distance"] = spectrum_distance(prediction, truth, spacing_mm)
    if labels is not None:
        found = find_structures(labels, truth.shape[2], spacing_mm, label_names=label_names)
        for name, structure in found.items():
            values |= _ratio(f"contrast_{name}", *(contrast(image, structure) for image in (prediction, truth)))
            widths = [edge_width(image, structure, spacing_mm) for image in (prediction, truth)]
            named = zip((f"edge_width_{name}_mm", f"edge_width_true_{name}_mm"), widths)
            values |= {key: width for key, width in named if width is not None}
            values |= _ratio(f"edge_ratio_{name}", *widths)
    return values


def consistency(prediction: np.ndarray, source: np.ndarray, *, data_range: float) -> dict[str, float]:
    """Compare an output, averaged over the pixels of its source, with the source: MSE [HU^2] and PSNR [dB].

    Zheng et al., SPIE Medical Imaging 2020, section 4.2. The source's noise counts too: an output without it is not
    perfectly consistent.

    Args:
        prediction: Output `(f X, f Y, Z)` in HU, f an integer.
        source: Source `(X, Y, Z)` in HU.
        data_range: Width of the intensity range for the PSNR.

    Returns:
        `consistency_mse`, `consistency_psnr`.

    Raises:
        ValueError: If the sizes do not fit.

    Example:
        >>> consistency(np.full((4, 4, 1), 3.0), np.full((2, 2, 1), 1.0), data_range=20.0)
        {'consistency_mse': 4.0, 'consistency_psnr': 20.0}
    """
    prediction, source = check_volume(prediction, "prediction"), check_volume(source, "source")
    factors = {fine / coarse for fine, coarse in zip(prediction.shape[:2], source.shape[:2], strict=True)}
    factor = int(min(factors))
    if factors != {float(factor)} or prediction.shape[2] != source.shape[2]:
        raise ValueError(
            f"`prediction` must be a whole number of times as large as `source` {source.shape} along X and Y and have "
            f"as many slices, got {prediction.shape}."
        )
    x, y, z = source.shape
    pooled = prediction.reshape(x, factor, y, factor, z).mean(axis=(1, 3), dtype=np.float64)
    mse = float(np.mean((pooled - source) ** 2))
    return {"consistency_mse": mse, "consistency_psnr": psnr(pooled, source, data_range=data_range)}


def thick_slices(volume: np.ndarray, slices: int) -> np.ndarray:
    """Average a micro volume `(X, Y, n slices)` over slices n times as thick: `(X, Y, slices)`.

    A clinical slice is thicker than a micro slice, and in-plane super-resolution does not change that.

    Raises:
        ValueError: If the number of the volume's slices is not a multiple of `slices`.

    Example:
        >>> thick_slices(np.array([[[1.0, 3.0, 5.0, 9.0]]]), 2).tolist()
        [[[2.0, 7.0]]]
    """
    volume = check_volume(volume, "volume")
    if slices < 1 or volume.shape[2] % slices:
        raise ValueError(f"`volume` must have a multiple of {slices} slices, got {volume.shape[2]}.")
    return np.asarray(volume.reshape(*volume.shape[:2], slices, -1).mean(axis=3, dtype=np.float64))


def _ratio(name: str, value: float | None, true: float | None) -> dict[str, float]:
    return {name: value / true} if value is not None and true else {}
