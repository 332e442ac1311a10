"""Canvas of the abdomen phantom: HU before and after contrast, the label map, and the shape of most organs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..fields import FloatArray
from ..stack import Stack, lay_over

AIR_OUTSIDE_HU = -1000.0
LABEL_NAMES = {
    1: "liver",
    2: "spleen",
    3: "pancreas",
    4: "kidney_cortex",
    5: "kidney_medulla",
    6: "aorta",
    7: "inferior_vena_cava",
    8: "portal_vein",
    9: "hepatic_veins",
    10: "muscle",
    11: "bone",
    12: "bowel",
    13: "cyst",
    14: "hypovascular_lesion",
    15: "enhancing_lesion",
    16: "fat",
}
LABELS = {name: value for value, name in LABEL_NAMES.items()}
UNLABELLED = "unlabelled"  # skin, bile, discs, spinal cord, air and couch

Values = tuple[FloatArray | float, FloatArray | float]


@dataclass(frozen=True)
class Canvas:
    """One object in two states; each array is (slices, rows, columns).

    Attributes:
        plain: HU before contrast, float32.
        enhanced: HU after contrast, float32.
        label: Values of `LABEL_NAMES`, 0 elsewhere, uint8.
    """

    plain: FloatArray
    enhanced: FloatArray
    label: NDArray[np.uint8]

    @classmethod
    def of_air(cls, shape: tuple[int, int, int]) -> Canvas:
        """Create a canvas filled with air."""
        plain = np.full(shape, AIR_OUTSIDE_HU, dtype=np.float32)
        return cls(plain, plain.copy(), np.zeros(shape, dtype=np.uint8))

    def paint(self, values: Values, occupancy: FloatArray, label: str, *, texture: FloatArray | float = 0.0) -> None:
        """Replace the fraction `occupancy` of each voxel, and the label where it exceeds half of the voxel.

        Args:
            values: HU before and after contrast.
            occupancy: Fraction (slices, rows, columns) in [0, 1].
            label: Name from `LABELS`, or `UNLABELLED`.
            texture: HU to add to both values.
        """
        plain, enhanced = values
        lay_over(self.plain, plain + texture, occupancy)
        lay_over(self.enhanced, enhanced + texture, occupancy)
        self.label[occupancy > 0.5] = LABELS.get(label, 0)


def ellipsoid(
    stack: Stack,
    centre: tuple[float, float, float],
    half_axes: tuple[float, float, float],
    *,
    turn: float = 0.0,
    exponent: float = 2.0,
) -> FloatArray:
    """Compute the distance to a super-ellipsoid in mm, positive inside, exact on its smaller half axis in the plane.

    Args:
        stack: Voxel grid.
        centre: Centre (z, y, x) in mm.
        half_axes: Half axes (z, y, x) in mm before the rotation.
        turn: Angle of the rotation in the plane, in radians from the x axis towards the y axis.
        exponent: 2 for an ellipsoid, more for a boxier shape.

    Returns:
        Distance (slices, rows, columns) in mm, float32.
    """
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    y, x = stack.y - centre[1], stack.x - centre[2]
    across, along = np.abs(y * cos - x * sin), np.abs(x * cos + y * sin)
    total = (np.abs(stack.z - centre[0]) / half_axes[0]) ** exponent
    total = total + (across / half_axes[1]) ** exponent + (along / half_axes[2]) ** exponent
    radius = np.sqrt(total) if exponent == 2.0 else total ** np.float32(1 / exponent)
    return np.asarray((1 - radius) * min(half_axes[1:]), dtype=np.float32)


def bent_tube(
    stack: Stack,
    points: FloatArray | tuple[tuple[float, float, float], ...],
    radii: tuple[float, ...],
    *,
    margin: float,
) -> FloatArray:
    """Compute the distance in mm to a tube through `points` (N, 3) with N - 1 `radii`, exact up to `margin` outside."""
    corners = np.asarray(points, dtype=float)
    segments = np.stack([corners[:-1], corners[1:]], axis=1)
    return stack.tubes(segments, np.asarray(radii) + margin) - np.float32(margin)
