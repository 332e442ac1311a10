"""Normalisation of the energy in bands of spatial frequency: kernel conversion of each scan by itself, without pairs.

L. Gallardo-Estrella et al., "Normalizing computed tomography data reconstructed with different filter kernels: effect
on emphysema quantification", European Radiology 26, 2016, 478-486.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from monai.utils.module import optional_import
from numpy.typing import NDArray

from ...metrics.noise import check_spacing, check_volume
from ...transforms.lung import lung_mask
from ..base import as_coefficients
from .radial_filter import HIGHEST_HU, LOWEST_HU

gaussian_filter, _ = optional_import("scipy.ndimage", name="gaussian_filter")

FloatArray = NDArray[np.float32]

SIGMAS_MM = (1.0, 2.0, 4.0, 8.0, 16.0)  # each band lies between two neighbouring blurs, the first begins at the image
TOLERANCE = 0.05  # relative difference to the reference's energy at which the iteration ends
ITERATIONS = 10
NO_ENERGY_HU = 1e-3  # a band finer than the pixels is empty
LARGEST_GAIN = 40.0  # in all, of a band; it limits how much rounding noise is amplified


class BandEnergyNormalization:
    """Bring the energy of each band of spatial frequency to that of a kernel's training scans.

    An axial slice is the sum of bands F_i = L_(i-1) - L_i, with L_i the slice blurred by `SIGMAS_MM`, L_0 the slice
    itself, and of the widest blur, which stays. Energy is a band's standard deviation within the lungs, or the whole
    image where there are none. The bands are multiplied by reference over own energy, again until they agree to 5 %.
    Unlike a radial filter it needs no source kernel: each scan's own energies decide.

    Args:
        energies_hu: The reference's energy in each band, the finest first.

    Raises:
        ValueError: If there is not one energy per band, or one is negative.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> volume, mm = rng.normal(40, 20, (64, 64, 2)), (1.0, 1.0, 5.0)
        >>> own = band_energies(volume, mm)
        >>> halved = BandEnergyNormalization(own / 2).apply(volume, mm)
        >>> bool(np.allclose(band_energies(halved, mm), own / 2, rtol=TOLERANCE))
        True
    """

    name: ClassVar[str] = "band_energy"

    def __init__(self, energies_hu: Any) -> None:
        self.energies_hu = as_coefficients(energies_hu, "energies_hu")
        if self.energies_hu.size != len(SIGMAS_MM) or (self.energies_hu < 0).any():
            raise ValueError(
                f"`energies_hu` must be {len(SIGMAS_MM)} numbers >= 0, got {self.energies_hu}; fit them again."
            )

    @classmethod
    def fit(cls, energies_hu: Iterable[np.ndarray]) -> BandEnergyNormalization:
        """Take the mean of the training scans' energies, see `band_energies`, as reference."""
        return cls(np.mean([*energies_hu], axis=0))

    def apply(self, volume_hu: np.ndarray, spacing_mm: Sequence[float]) -> FloatArray:
        """Normalise a volume `(X, Y, Z)` in HU, slice by slice; float32 of the same shape.

        Padding below -1024 HU does not change, and the result is clipped to -1024..3071 HU, as by `RadialFilter`.

        Args:
            volume_hu: CT volume, Z the axial slice axis.
            spacing_mm: Voxel size along X, Y (and Z), in mm.

        Raises:
            ValueError: If shape or spacing is invalid, or values are not finite.
        """
        volume = np.asarray(check_volume(volume_hu, "volume_hu"), dtype=np.float32)
        inside = np.clip(volume, LOWEST_HU, HIGHEST_HU)
        mask, gains, image = _measured_region(inside, spacing_mm), np.ones(len(SIGMAS_MM)), inside
        for _ in range(ITERATIONS):
            *bands, rest = _split(image, spacing_mm)
            own = np.array([band[mask].std() for band in bands])
            step = np.where(own > NO_ENERGY_HU, self.energies_hu / np.maximum(own, NO_ENERGY_HU), 1.0)
            if (abs(step - 1) < TOLERANCE).all():
                break
            step = np.minimum(step, LARGEST_GAIN / np.maximum(gains, 1e-6))
            gains = gains * step
            image = np.asarray(sum((band * np.float32(gain) for band, gain in zip(bands, step)), rest))
        clipped = np.clip(image, LOWEST_HU, np.maximum(volume, HIGHEST_HU))
        return np.asarray(np.where(volume < LOWEST_HU, volume, clipped), dtype=np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return `{"energies_hu": [...]}`."""
        return {"energies_hu": self.energies_hu.tolist()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> BandEnergyNormalization:
        """Rebuild the baseline from `to_dict`."""
        return cls(content["energies_hu"])


def band_energies(volume_hu: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Measure the energy [HU] of each band, the finest first, in the lungs of a volume `(X, Y, Z)` in HU.

    Raises:
        ValueError: If shape or spacing is invalid, or values are not finite.
    """
    volume = np.clip(np.asarray(check_volume(volume_hu, "volume_hu"), dtype=np.float32), LOWEST_HU, HIGHEST_HU)
    mask = _measured_region(volume, spacing_mm)
    return np.array([float(band[mask].std()) for band in _split(volume, spacing_mm)[:-1]])


def _split(volume: FloatArray, spacing_mm: Sequence[float]) -> list[FloatArray]:
    """Return the bands of a volume, the finest first, and the widest blur: their sum is the volume."""
    spacing, parts, finer = check_spacing(spacing_mm), [], volume
    for sigma in SIGMAS_MM:
        blurred = gaussian_filter(volume, [*(sigma / mm for mm in spacing), 0], mode="reflect", truncate=3.0)
        parts.append(finer - blurred)
        finer = blurred
    return [*parts, finer]


def _measured_region(volume: FloatArray, spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the lungs; everything where there are none."""
    thickness = spacing_mm[2] if len(spacing_mm) > 2 else 1.0
    try:
        return lung_mask(volume, (*check_spacing(spacing_mm), float(thickness)))
    except ValueError:  # no lung
        return np.ones(volume.shape, dtype=bool)
