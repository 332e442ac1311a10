"""Texture and sharpness without position: the radial power spectrum of slices, and how far two of them are apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.utils.module import optional_import

from .noise import check_spacing, check_volume, ring_means

fft, _ = optional_import("scipy.fft")

# An image without any power at a frequency is a million times off, not infinitely.
LARGEST_RATIO = 1e6


def radial_power_spectrum(volume: np.ndarray, spacing_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Power spectrum of the axial slices of a volume, mean over slices and directions.

    P(f) = dx dy / sum w^2 |FFT(w (slice - mean))|^2 with w a Hann window, averaged over rings as wide as the resolution
    of the spectrum, up to the Nyquist frequency. White noise of variance s^2 has P = s^2 dx dy.

    Args:
        volume: ``(X, Y, Z)``, Z the axial slice axis.
        spacing_mm: pixel size along X and Y.

    Returns:
        mean frequency of each ring in line pairs a mm, power in squared unit of the volume times mm^2.

    Raises:
        ValueError: on a wrong shape, values that are not finite, or a bad spacing.
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
    """Mean over frequencies up to Nyquist of |log10| of the ratio of two radial power spectra: 0 where they agree.

    1 is a factor of ten in power at every frequency; a ratio counts up to a million. Blind to where structures are.

    Args:
        prediction: ``(X, Y, Z)``.
        truth: same shape and unit.
        spacing_mm: pixel size along X and Y.

    Raises:
        ValueError: on unequal shapes, or a truth without any structure.

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
