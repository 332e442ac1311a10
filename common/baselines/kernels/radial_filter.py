"""Radially symmetric filter in line pairs per millimetre: the relation of one CT reconstruction kernel to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from monai.utils.module import optional_import

from ...metrics.noise import check_spacing, check_volume
from ..base import as_coefficients

fft, _ = optional_import("scipy.fft")

KINDS = ("paired", "spectra", "noise", "unpaired")
# CT numbers of 12 bits; values below are padding outside the scanner's field, not attenuation.
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0


class RadialFilter:
    """Multiplication of the spectrum of every axial slice by a real gain H(f), f in lp/mm, with H(0) = 1.

    Two kernels K_a, K_b applied to the same raw data give images that differ by H = K_b / K_a, whatever the pixel size
    (up to aliasing, rounding and clipped values). H is linear between the knots and constant beyond the last.

    Slices are continued by reflection: the cosine transform of type II is the Fourier transform of the image and its
    mirror images, so that no border meets the opposite one. The result is clipped to -1024..3071 HU as on a scanner,
    which matters in air, where the noise of a sharp kernel reaches below. Voxels below -1024 HU are padding and are not
    changed; metal above 3071 HU keeps its excess.

    Args:
        frequencies_lp_mm: Knots, from 0 on, rising.
        gains: H at the knots; the first is 1.
        kind: How it was fitted: `paired`, `spectra`, `noise` or `unpaired`.

    Raises:
        ValueError: If there are fewer than two knots, they do not rise from 0, the gain at 0 is not 1, or the kind is
            unknown.

    Example:
        >>> soft = RadialFilter([0.0, 0.5], [1.0, 0.0], "paired")
        >>> wave = np.cos(np.pi * 20 * (np.arange(40) + 0.5) / 40).reshape(40, 1, 1)  # 0.25 lp/mm at 1 mm
        >>> bool(np.allclose(soft.apply(wave, (1.0, 1.0, 5.0)), 0.5 * wave, atol=1e-6))
        True
    """

    name: ClassVar[str] = "radial_filter"

    def __init__(self, frequencies_lp_mm: Any, gains: Any, kind: str) -> None:
        self.frequencies_lp_mm = as_coefficients(frequencies_lp_mm, "frequencies_lp_mm")
        self.gains = as_coefficients(gains, "gains")
        self.kind = kind
        if kind not in KINDS:
            raise ValueError(f"`kind` must be one of {', '.join(KINDS)}, got {kind!r}.")
        if self.gains.size != self.frequencies_lp_mm.size:
            raise ValueError(
                f"`gains` must have one value for each of the {self.frequencies_lp_mm.size} `frequencies_lp_mm`, "
                f"got {self.gains.size}; fit the filter again."
            )
        if self.frequencies_lp_mm[0] != 0 or (np.diff(self.frequencies_lp_mm) <= 0).any():
            raise ValueError("`frequencies_lp_mm` must rise from 0, got others; fit the filter again.")
        if abs(self.gains[0] - 1.0) > 1e-9:
            raise ValueError(f"`gains` must begin with 1 so that HU are kept, got {self.gains[0]:g}.")

    def response(self, frequency_lp_mm: np.ndarray) -> np.ndarray:
        """Evaluate H at any frequencies [lp/mm]; the result has their shape."""
        return np.asarray(np.interp(frequency_lp_mm, self.frequencies_lp_mm, self.gains))

    def apply(self, volume_hu: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
        """Filter a volume `(X, Y, Z)` in HU, slice by slice; float32 of the same shape.

        Args:
            volume_hu: CT volume, Z the axial slice axis.
            spacing_mm: Voxel size along X, Y (and Z), in mm.

        Raises:
            ValueError: If shape or spacing is invalid, or values are not finite.
        """
        volume = check_volume(volume_hu, "volume_hu")
        frequency = cosine_frequencies(volume.shape[:2], check_spacing(spacing_mm))
        excess = (self.response(frequency) - 1.0).astype(np.float32)
        result = np.empty(volume.shape, dtype=np.float32)
        for index in range(volume.shape[2]):
            image = volume[:, :, index].astype(np.float32)
            change = fft.idctn(cosine_spectrum(image) * excess, norm="ortho")
            clipped = np.clip(image + change, LOWEST_HU, np.maximum(image, HIGHEST_HU))
            result[:, :, index] = np.where(image < LOWEST_HU, image, clipped)
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return `{"frequencies_lp_mm": [...], "gains": [...], "fitted": kind}`."""
        knots, gains = self.frequencies_lp_mm.tolist(), self.gains.tolist()
        return {"frequencies_lp_mm": knots, "gains": gains, "fitted": self.kind}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RadialFilter:
        """Rebuild the filter from `to_dict`."""
        return cls(content["frequencies_lp_mm"], content["gains"], content["fitted"])


def cosine_frequencies(shape: Sequence[int], spacing_mm: Sequence[float]) -> np.ndarray:
    """Compute the radial frequency [lp/mm] of each coefficient of `cosine_spectrum`, shape `(X, Y)`."""
    axes = [np.arange(number) / (2.0 * number * step) for number, step in zip(shape, spacing_mm)]
    return np.asarray(np.hypot.outer(*axes))


def cosine_spectrum(image_hu: np.ndarray) -> np.ndarray:
    """Compute the orthonormal type-II cosine transform of a slice `(X, Y)`, clipped to CT numbers of 12 bits."""
    return np.asarray(fft.dctn(np.clip(image_hu, LOWEST_HU, HIGHEST_HU), norm="ortho"))
