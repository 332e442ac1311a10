"""Image quality of MR scaled to [0, 1], as the paper on neural contrast enhancement tabulates T2 to PD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .enhancement_regions import checked
from .masks import foreground_mask
from .window import window_quality

MSE_FACTOR = 100.0  # Table 1: "We scale up MSE on the IXI brain MRI dataset 100 times"


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
    """MSE x 100, MS-SSIM, PSNR and SSIM of both volumes scaled to [0, 1] and clipped, mean over the slices.

    Seo et al., "Neural contrast enhancement of CT image", WACV 2021, section 4.4 and Table 1, gives MSE x 100 and
    MS-SSIM and leaves open: how MR is scaled, scales and kernel of the MS-SSIM, and whether the mean runs over images
    or patients. Here: each true volume by its own percentiles, and a prediction as the network gave it, for it was
    decoded by the reference percentiles (MR has no unit, and the paper speaks of none); the rest as in
    `window_quality`. On [-1, 1] the MSE would be four times as large.

    Args:
        prediction: predicted volume ``(X, Y, Z)``, decoded to the target's units, Z the axial slice axis.
        truth: true volume, same shape.
        reference: what -1 and 1 of the network were decoded to.
        percentiles: of the truth, which become 0 and 1.
        labels: not used, as the next three: what the evaluator hands to every metric.
        source: see above.
        spacing_mm: see above.
        label_names: see above.

    Returns:
        ``mse_x100``, ``psnr_scaled`` [dB], ``ssim_scaled``, and ``ms_ssim``; the last is called ``ms_ssim_kernel7``
        where the image is too small for a kernel of 11 (112 to 175 pixels) and left out below.

    Raises:
        ValueError: on unequal shapes, values that are not finite, a reference that does not rise, or a truth without
            contrast.

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
