"""Image quality as the paper on neural contrast enhancement tabulates it: in a CT window, or of MR scaled to [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import MultiScaleSSIMMetric

from .enhancement_regions import checked
from .image_quality import slice_quality
from .score import MIN_COVERAGE, foreground_mask

WINDOW_HU = (-100.0, 200.0)
KERNELS = (11, 7)
# Five scales halve the image four times; MONAI requires kernel - 1 pixels times 16.
MS_SSIM_DIVISOR = 16

MSE_FACTOR = 100.0  # Table 1: "We scale up MSE on the IXI brain MRI dataset 100 times"


def window_quality(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    body: np.ndarray | None = None,
    window_hu: tuple[float, float] = WINDOW_HU,
) -> dict[str, float]:
    """Compute MSE, MS-SSIM, PSNR and SSIM of both volumes clipped to the window, scaled to [0, 1], over the slices.

    Table 1 of Seo et al., "Neural contrast enhancement of CT image", WACV 2021, gives MSE and MS-SSIM and leaves open:
    the scale of the MSE (its 0.1 on abdomens fits [-1, 1], on which it is four times as large as here), the scales and
    the kernel of the MS-SSIM, and whether the mean runs over images or patients. Here: [0, 1]; five scales with Wang's
    weights and an 11x11 Gaussian of sigma 1.5; whole field; mean over the slices in which the body covers at least 1 %,
    to be averaged over patients.

    Args:
        prediction: Predicted volume `(X, Y, Z)` in HU, Z the axial slice axis.
        truth: True volume of the same shape.
        body: Boolean mask that selects the slices; by default `foreground_mask` of the truth.
        window_hu: Lowest and highest HU.

    Returns:
        `mse_window`, `psnr_window` [dB], `ssim_window`, and `ms_ssim_window`; the last is called
        `ms_ssim_window_kernel7` where the image is too small for a kernel of 11 (112 to 175 pixels) and omitted
        below. Without slices there are no numbers.

    Raises:
        ValueError: If shapes differ, values are not finite, or the window does not rise.

    Example:
        >>> truth = np.full((128, 128, 1), -1000.0); truth[20:100, 20:100] = 50.0
        >>> values = window_quality(truth + 30.0 * (truth > 0), truth)
        >>> round(values["mse_window"], 6) == round((80 / 128) ** 2 * 0.1**2, 6), sorted(values)[0]
        (True, 'ms_ssim_window_kernel7')
    """
    low, high = window_hu
    if not low < high:
        raise ValueError(f"`window_hu` must be (lowest, highest) in HU, got {tuple(window_hu)}.")
    prediction, truth = checked(truth, prediction=prediction, truth=truth)
    inside = foreground_mask(truth) if body is None else np.asarray(body, dtype=bool)
    slices = np.flatnonzero(inside.mean(axis=(0, 1)) >= MIN_COVERAGE)
    if slices.size == 0:
        return {}
    first, second = (np.clip((volume[:, :, slices] - low) / (high - low), 0.0, 1.0) for volume in (prediction, truth))
    rows = [slice_quality(first[:, :, k], second[:, :, k], data_range=1.0) for k in range(slices.size)]
    values = {
        "mse_window": float(np.mean((first - second) ** 2)),
        "psnr_window": float(np.mean([row["psnr"] for row in rows])),
        "ssim_window": float(np.mean([row["ssim"] for row in rows])),
    }
    kernel = ms_ssim_kernel(truth.shape[:2])
    if kernel is None:
        return values
    name = "ms_ssim_window" if kernel == KERNELS[0] else f"ms_ssim_window_kernel{kernel}"
    return values | {name: ms_ssim(first, second, kernel=kernel)}


def ms_ssim_kernel(shape: tuple[int, ...]) -> int | None:
    """Return the largest kernel for which five scales of a slice of this shape have room, or None.

    Example:
        >>> ms_ssim_kernel((256, 256)), ms_ssim_kernel((128, 256)), ms_ssim_kernel((96, 256))
        (11, 7, None)
    """
    fitting = [kernel for kernel in KERNELS if min(shape) // MS_SSIM_DIVISOR > kernel - 1]
    return fitting[0] if fitting else None


def ms_ssim(prediction: np.ndarray, truth: np.ndarray, *, kernel: int) -> float:
    """Average the multi-scale structural similarity of the slices of two volumes `(X, Y, Z)` in [0, 1].

    Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003, as MONAI
    computes it.

    Raises:
        ValueError: If the slices are too small for the kernel.
    """
    metric = MultiScaleSSIMMetric(spatial_dims=2, data_range=1.0, kernel_size=kernel)
    images = (
        torch.as_tensor(np.ascontiguousarray(np.moveaxis(volume, 2, 0)[:, None]), dtype=torch.float32)
        for volume in (prediction, truth)
    )
    return float(np.mean(np.asarray(metric(*images))))


def scaled_quality(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    reference: Sequence[float],
    percentiles: Sequence[float] = (1.0, 99.0),
    labels: np.ndarray | None = None,
    source: np.ndarray | None = None,
    spacing_mm: Sequence[float] | None = None,
    label_names: Mapping[int, str] | None = None,
) -> dict[str, float]:
    """Compute MSE x 100, MS-SSIM, PSNR and SSIM of both volumes scaled to [0, 1] and clipped, mean over the slices.

    Seo et al., "Neural contrast enhancement of CT image", WACV 2021, section 4.4 and Table 1, gives MSE x 100 and
    MS-SSIM and leaves open: how MR is scaled, scales and kernel of the MS-SSIM, and whether the mean runs over images
    or patients. Here: each true volume by its own percentiles, and a prediction as the network returned it, since it
    was decoded by the reference percentiles (MR has no unit, and the paper mentions none); the rest as in
    `window_quality`. On [-1, 1] the MSE would be four times as large.

    Args:
        prediction: Predicted volume `(X, Y, Z)`, decoded to the target's units, Z the axial slice axis.
        truth: True volume of the same shape.
        reference: Values to which -1 and 1 of the network were decoded.
        percentiles: Percentiles of the truth that become 0 and 1.
        labels: Not used, like the next three (the evaluator calls all metrics alike).
        source: Not used.
        spacing_mm: Not used.
        label_names: Not used.

    Returns:
        `mse_x100`, `psnr_scaled` [dB], `ssim_scaled`, and `ms_ssim`; the last is called `ms_ssim_kernel7`
        where the image is too small for a kernel of 11 (112 to 175 pixels) and omitted below.

    Raises:
        ValueError: If shapes differ, values are not finite, the reference does not rise, or the truth has no contrast.

    Example:
        >>> truth = np.zeros((32, 32, 1)); truth[8:24, 8:24] = 1000.0
        >>> values = scaled_quality(0.45 * truth, truth, reference=(0.0, 500.0))
        >>> round(values["mse_x100"], 3)  # 0.1 on a quarter of the pixels
        0.25
    """
    prediction, truth = checked(truth, prediction=prediction, truth=truth)
    low, high = np.percentile(truth, percentiles)
    if not reference[0] < reference[1]:
        raise ValueError(f"`reference` must be (lowest, highest) in the target's units, got {tuple(reference)}.")
    if not low < high:
        raise ValueError(
            f"`truth` must have contrast between its percentiles {tuple(percentiles)}, got {low} for both."
        )
    scaled = (prediction - reference[0]) / (reference[1] - reference[0])
    values: dict[str, Any] = window_quality(
        scaled, (truth - low) / (high - low), body=foreground_mask(truth), window_hu=(0.0, 1.0)
    )
    names = {"psnr_window": "psnr_scaled", "ssim_window": "ssim_scaled"}
    named = {names.get(name, name.replace("_window", "")): value for name, value in values.items()}
    return {"mse_x100": MSE_FACTOR * named.pop("mse"), **named} if named else {}
