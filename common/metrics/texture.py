"""Texture of a synthetic image against the true one: is it as sharp, and does it show the grid of up-sampling?"""

from __future__ import annotations

import numpy as np

AROUND, NEXT = 8, 2  # bins of the spectrum that a peak is compared with, without those next to it (the window's)
LEAST_SIDE = 32  # pixels


def gradient_energy(volume: np.ndarray, mask: np.ndarray) -> float:
    """Return the mean squared in-plane step between neighbouring voxels that both lie inside a mask.

    Args:
        volume: Volume (X, Y, Z), axial slices along Z.
        mask: Boolean array of the same shape.

    Example:
        >>> gradient_energy(np.arange(5.0)[:, None, None] * np.ones((5, 5, 2)), np.ones((5, 5, 2), dtype=bool))
        0.5
    """
    values = np.asarray(volume, dtype=np.float64)
    squares, count = 0.0, 0
    for axis in (0, 1):
        both = np.logical_and(*(np.moveaxis(mask, axis, 0)[part] for part in (slice(1, None), slice(None, -1))))
        steps = np.moveaxis(np.diff(values, axis=axis), axis, 0)[both]
        squares, count = squares + float(np.square(steps).sum()), count + steps.size
    return squares / max(1, count)


def sharpness(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Return the prediction's gradient energy as a share of the truth's, both in one unit: below 1 it is smoother."""
    return gradient_energy(prediction, mask) / max(gradient_energy(truth, mask), 1e-12)


def checkerboard_index(volume: np.ndarray) -> float:
    """Return the power at a period of two pixels, relative to the frequencies around: about 1 without a checkerboard.

    Strided layers may leave the grid of their strides in an image. Its period is two pixels, along rows, columns or
    both, where an image of anatomy has its least power. The largest of the three ratios of the slices' mean spectrum.

    Args:
        volume: Volume (X, Y, Z), axial slices along Z, of at least 32 x 32 pixels.

    Raises:
        ValueError: If the slices are smaller.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(64, 64, 8))
        >>> pattern = np.indices((64, 64)).sum(axis=0)[..., None] % 2
        >>> checkerboard_index(noise) < 3, checkerboard_index(noise + pattern) > 100
        (True, True)
    """
    values = np.asarray(volume, dtype=np.float64)
    if values.ndim != 3 or min(values.shape[:2]) < LEAST_SIDE:
        raise ValueError(f"`volume` must be (X, Y, Z) with at least {LEAST_SIDE} pixels a side, got {values.shape}.")
    width, height = (n // 2 * 2 for n in values.shape[:2])
    values = values[:width, :height] * np.outer(np.hanning(width), np.hanning(height))[..., None]
    spectra = np.abs(np.fft.fft2(values, axes=(0, 1))) ** 2
    totals = spectra.sum(axis=(0, 1))
    power = (spectra / np.maximum(totals, 1e-12)).mean(axis=-1)
    places = [(width // 2, 0), (0, height // 2), (width // 2, height // 2)]
    return max(_peak(np.roll(power, (AROUND - x, AROUND - y), axis=(0, 1))) for x, y in places)


def _peak(power: np.ndarray) -> float:
    """Return the power at (AROUND, AROUND) relative to the mean of the square around it, without its next bins."""
    square = power[: 2 * AROUND + 1, : 2 * AROUND + 1].copy()
    peak = square[AROUND, AROUND]
    square[AROUND - NEXT : AROUND + NEXT + 1, AROUND - NEXT : AROUND + NEXT + 1] = 0
    return float(peak / max(square.sum() / (square.size - (2 * NEXT + 1) ** 2), 1e-30))
