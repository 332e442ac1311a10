"""Power spectra of CT images: of the noise in uniform tissue, and of whole slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from monai.utils.module import optional_import

from ..metrics.noise import (
    RING_LP_MM,
    check_spacing,
    check_volume,
    noise_power_spectrum,
    ring_means,
    uniform_patches,
)
from .radial_filter import HIGHEST_HU, LOWEST_HU

fft, _ = optional_import("scipy.fft")

# Relative SD of a ring's power beyond its sampling error: deviations from the model; and between whole patients.
NOISE_MODEL_SD, IMAGE_MODEL_SD = 0.05, 0.15


class Spectrum(NamedTuple):
    """Power of one volume at the rings' frequencies, and what is known about its error.

    ``frequency`` [lp/mm], ``power`` [HU^2 mm^2], ``relative_sd`` of the power, each ``(rings,)``; ``rounding``: power
    of the rounding to whole HU; ``nyquist`` [lp/mm].
    """

    frequency: np.ndarray
    power: np.ndarray
    relative_sd: np.ndarray
    rounding: float
    nyquist: float


class VolumeSpectra(NamedTuple):
    """Spectra of one volume: of the noise in uniform tissue (None without such tissue), and of whole slices."""

    noise: Spectrum | None
    image: Spectrum


def measure_spectra(volume_hu: np.ndarray, spacing_mm: Sequence[float]) -> VolumeSpectra:
    """Measure a volume ``(X, Y, Z)`` in HU; a volume of whole numbers has the known rounding noise of 1/12 HU^2.

    Raises:
        ValueError: on a wrong shape or spacing, values that are not finite, or a constant volume.
    """
    volume = check_volume(volume_hu, "volume_hu")
    spacing = check_spacing(spacing_mm)
    if np.ptp(volume) == 0:
        raise ValueError("`volume_hu` must vary, got a constant volume; check the image.")
    rounded = bool((volume == np.rint(volume)).all())
    rounding = spacing[0] * spacing[1] / 12.0 if rounded else 0.0
    nyquist = 0.5 / max(spacing)
    patches = uniform_patches(volume, spacing)
    noise = None
    if len(patches.corners):
        frequency, power = noise_power_spectrum(volume, patches, spacing, corners=True)
        # Samples of a ring; window and overlap leave a quarter of them independent.
        samples = 2 * np.pi * frequency * RING_LP_MM * np.prod(np.multiply(patches.size, spacing)) / 4
        deviation = np.sqrt(1.0 / np.maximum(samples * len(patches.corners), 1.0) + NOISE_MODEL_SD**2)
        noise = Spectrum(frequency, power, deviation, rounding, nyquist)
    frequency, power = _image_power(volume, spacing)
    return VolumeSpectra(noise, Spectrum(frequency, power, np.full(power.size, IMAGE_MODEL_SD), rounding, nyquist))


def _image_power(volume: np.ndarray, spacing: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Radial power spectrum [HU^2 mm^2] of whole slices, each less its mean and under a Hann window."""
    window = np.outer(*(np.hanning(number + 2)[1:-1] for number in volume.shape[:2])).astype(np.float32)
    power = np.zeros(volume.shape[:2])
    for index in range(volume.shape[2]):
        image = np.clip(volume[:, :, index], LOWEST_HU, HIGHEST_HU)
        power += np.abs(fft.fft2(window * (image - np.average(image, weights=window)))) ** 2
    power *= spacing[0] * spacing[1] / (window**2).sum(dtype=np.float64) / volume.shape[2]
    frequency = np.hypot.outer(*(fft.fftfreq(number, step) for number, step in zip(volume.shape, spacing)))
    return ring_means(frequency, power, ring_lp_mm=RING_LP_MM)
