"""PSNR, SSIM, RMSE and MAE of one 2-D slice, over the whole field and inside a mask, in the images' own units."""

from __future__ import annotations

import numpy as np
from monai.utils.module import optional_import

structural_similarity, _ = optional_import("skimage.metrics", name="structural_similarity")

# An exact prediction has an infinite PSNR, which neither a mean nor JSON can represent.
PSNR_CEILING_DB = 100.0
# 11x11 Gaussian window, sigma 1.5 (Wang et al., 2004).
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


def rmse(prediction: np.ndarray, truth: np.ndarray, *, mask: np.ndarray | None = None) -> float:
    """Compute the root mean squared error of arrays of equal shape, in their unit, inside `mask` if given.

    Example:
        >>> rmse(np.array([[3.0, 0.0]]), np.array([[0.0, 4.0]])) == 12.5**0.5
        True
    """
    return float(np.sqrt(np.mean(_error(prediction, truth, mask) ** 2)))


def mae(prediction: np.ndarray, truth: np.ndarray, *, mask: np.ndarray | None = None) -> float:
    """Compute the mean absolute error of arrays of equal shape, in their unit, inside `mask` if given.

    Example:
        >>> mae(np.array([[3.0, 0.0]]), np.array([[0.0, 4.0]]))
        3.5
    """
    return float(np.mean(np.abs(_error(prediction, truth, mask))))


def psnr(prediction: np.ndarray, truth: np.ndarray, *, data_range: float, mask: np.ndarray | None = None) -> float:
    """Compute the peak signal-to-noise ratio, 20 log10(data_range / RMSE), in dB; at most 100 dB (if exact).

    Args:
        prediction: Predicted slice, shape `(X, Y)`.
        truth: True slice of the same shape and unit.
        data_range: Width of the intensity range, in the same unit, > 0.
        mask: Boolean array of the same shape; the error is averaged inside it.

    Raises:
        ValueError: On unequal shapes, an empty mask or a data range that is not positive.

    Example:
        >>> psnr(np.full((4, 4), 1.0), np.zeros((4, 4)), data_range=10.0)
        20.0
    """
    _check_range(data_range)
    error = rmse(prediction, truth, mask=mask)
    return PSNR_CEILING_DB if error == 0.0 else min(20.0 * float(np.log10(data_range / error)), PSNR_CEILING_DB)


def ssim_map(prediction: np.ndarray, truth: np.ndarray, *, data_range: float) -> np.ndarray:
    """Compute the local structural similarity at every pixel of a slice, shape `(X, Y)`.

    Standard form with K1 = 0.01, K2 = 0.03 and an 11x11 Gaussian window of sigma 1.5 (Wang, Bovik, Sheikh, Simoncelli,
    "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004). The border of 5 pixels
    sees mirrored neighbours: `slice_quality` excludes it from the whole-field mean.

    Raises:
        ValueError: If shapes differ, slices are smaller than 11 pixels, or the data range is not positive.
    """
    _check_range(data_range)
    _check_shapes(prediction, truth)
    if prediction.ndim != 2 or min(prediction.shape) < SSIM_WINDOW:
        raise ValueError(
            f"`prediction` must be a 2-D slice of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels for SSIM, "
            f"got shape {prediction.shape}; crop less or resample."
        )
    _, similarity = structural_similarity(
        np.asarray(truth, dtype=np.float64),
        np.asarray(prediction, dtype=np.float64),
        data_range=float(data_range),
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
        full=True,
    )
    return np.asarray(similarity)


def slice_quality(
    prediction: np.ndarray, truth: np.ndarray, *, data_range: float, mask: np.ndarray | None = None
) -> dict[str, float]:
    """Compute PSNR, SSIM, RMSE and MAE of one slice.

    Args:
        prediction: Predicted slice, shape `(X, Y)`.
        truth: True slice of the same shape and unit.
        data_range: Width of the intensity range, in the same unit.
        mask: Boolean array of the same shape; adds the `*_mask` values.

    Returns:
        `psnr` [dB], `ssim`, `rmse`, `mae` [unit of the slice] over the whole field and, with a mask,
        `psnr_mask`, `ssim_mask`, `rmse_mask`, `mae_mask` inside it.

    Example:
        >>> ramp = np.tile(np.arange(16.0), (16, 1))
        >>> slice_quality(ramp, ramp, data_range=15.0)
        {'psnr': 100.0, 'ssim': 1.0, 'rmse': 0.0, 'mae': 0.0}
    """
    similarity = ssim_map(prediction, truth, data_range=data_range)
    border = SSIM_WINDOW // 2
    values = {
        "psnr": psnr(prediction, truth, data_range=data_range),
        "ssim": float(similarity[border:-border, border:-border].mean()),
        "rmse": rmse(prediction, truth),
        "mae": mae(prediction, truth),
    }
    if mask is not None:
        values |= {
            "psnr_mask": psnr(prediction, truth, data_range=data_range, mask=mask),
            "ssim_mask": float(similarity[np.asarray(mask, dtype=bool)].mean()),
            "rmse_mask": rmse(prediction, truth, mask=mask),
            "mae_mask": mae(prediction, truth, mask=mask),
        }
    return values


def _error(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    _check_shapes(prediction, truth)
    error = np.asarray(prediction, dtype=np.float64) - np.asarray(truth, dtype=np.float64)
    if mask is None:
        return error
    inside = np.asarray(mask, dtype=bool)
    if inside.shape != error.shape:
        raise ValueError(f"`mask` must have the shape of the images {error.shape}, got {inside.shape}.")
    if not inside.any():
        raise ValueError("`mask` must cover at least one pixel, got an empty mask; leave such slices out.")
    return np.asarray(error[inside])


def _check_shapes(prediction: np.ndarray, truth: np.ndarray) -> None:
    if prediction.shape != truth.shape:
        raise ValueError(
            f"`prediction` must have the shape of `truth` {truth.shape}, got {prediction.shape}; "
            "resample the prediction to the truth's grid first."
        )


def _check_range(data_range: float) -> None:
    if not (np.isfinite(data_range) and data_range > 0):
        raise ValueError(f"`data_range` must be a positive number in the images' unit, got {data_range}.")
