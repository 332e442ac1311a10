"""Arms beside the body of a CT phantom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fields import FloatArray
from .stack import Stack, ellipse, lay_over

HALF_AXES_MM = (38.0, 50.0)  # range of both
FAT_MM, GAP_MM, BACK_MM = (4.0, 10.0), (2.0, 8.0), (5.0, 30.0)  # ranges: fat, distance to the body, and place y
HUMERUS_MM, CORTEX_MM, CORTEX_HU, MARROW_HU = 11.5, 4.0, 1250.0, -20.0
SKIN_MM, SKIN_HU, FAT_HU, MUSCLE_HU, MUSCLE_TEXTURE_HU = 1.8, 25.0, -105.0, 52.0, 4.0
SOFT_TISSUE_HU = -300.0  # above the couch, below fat


@dataclass(frozen=True)
class Arms:
    """Both upper arms on slices that hold them.

    Attributes:
        margin: Columns by which slices are widened on each side.
        layers: Pairs of HU and occupancy (slices, rows, wider columns), from outside to inside.
        bone: Mask of the humerus (slices, rows, wider columns).
    """

    margin: int
    layers: tuple[tuple[FloatArray | float, FloatArray], ...]
    bone: NDArray[np.bool_]

    @classmethod
    def draw(cls, rng: np.random.Generator, stack: Stack, hu: FloatArray) -> Arms:
        """Draw arms of one size beside a body.

        Args:
            rng: Source of size and place.
            stack: Voxel grid of the body.
            hu: Body (slices, rows, columns) in HU.

        Returns:
            Arms, which touch neither the body nor the border.
        """
        half_x, half_y = rng.uniform(*HALF_AXES_MM, 2)
        fat, gap, back = (rng.uniform(*limits) for limits in (FAT_MM, GAP_MM, BACK_MM))
        beside = np.abs(stack.x[0, 0, (hu > SOFT_TISSUE_HU).any(axis=(0, 1))]).max()
        centre = beside + gap + half_x
        needed = (centre + half_x + gap) / stack.pixel_mm - stack.in_plane_shape[1] / 2
        margin = max(0, int(np.ceil(needed)) + 1)
        rows, columns = stack.in_plane_shape
        wide = Stack(stack.levels_mm, stack.slice_mm, (rows, columns + 2 * margin), stack.pixel_mm)
        y, x = wide.y - back, np.abs(wide.x) - centre
        skin = np.broadcast_to(ellipse(y, x, (half_y, half_x)), wide.shape)
        humerus = np.broadcast_to(HUMERUS_MM - np.hypot(y, x), wide.shape)
        muscle = skin - SKIN_MM - fat + 1.5 * wide.noise(rng, 12.0)
        distances = (
            (SKIN_HU, skin),
            (FAT_HU, skin - SKIN_MM),
            (MUSCLE_HU + MUSCLE_TEXTURE_HU * wide.noise(rng, 2.0), muscle),
            (CORTEX_HU, humerus),
            (MARROW_HU, humerus - CORTEX_MM),
        )
        return cls(margin, tuple((value, wide.occupancy(distance)) for value, distance in distances), humerus > 0)

    def beside(self, hu: FloatArray) -> FloatArray:
        """Return slices in HU with the arms, widened by the air at their border."""
        wide = self.widened(hu, mode="edge")
        for value, occupancy in self.layers:
            lay_over(wide, value, occupancy)
        return wide

    def widened(self, array: NDArray[Any], **how: Any) -> NDArray[Any]:
        """Return slices (slices, rows, columns), widened; `how` as in `numpy.pad`, by default with zeros."""
        return np.pad(array, ((0, 0), (0, 0), (self.margin, self.margin)), **how)
