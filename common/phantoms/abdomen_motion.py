"""Motion between the two scans of the abdomen phantom: another breath-hold, and another position of the patient."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .abdomen_wall import Body
from .chest_stack import Stack
from .fields import FloatArray
from .raster import soft_occupancy

BREATH_MM = (4.0, 14.0)  # cranio-caudal shift of the organs, either way
BREATH_EDGE_MM = 12.0  # half the width over which it fades in the wall
WALL_MM = 4.0  # largest shift of the front wall, either way
RANDOM_MM, RANDOM_SIGMA_MM = 1.6, 30.0  # SD an axis and filter width
LARGEST_SHIFT_MM = 20.0  # cranio-caudal


def draw_displacement(rng: np.random.Generator, stack: Stack, body: Body) -> FloatArray:
    """Displacement d in mm such that the second scan shows at x what the first shows at x + d(x).

    Breathing moves what is in the cavity up or down, more so in front, and the front wall in or out; a smooth random
    field stands for everything else.

    Args:
        rng: source of the motion.
        stack: the grid.
        body: outlines on the grid.

    Returns:
        (3, slices, rows, columns) float32: downwards, backwards, to the patient's left.
    """
    amplitude = rng.choice([-1, 1]) * rng.uniform(*BREATH_MM)
    inside = soft_occupancy(body.cavity + 6, BREATH_EDGE_MM)
    down = amplitude * inside * (0.6 + 0.4 * np.clip(0.5 - stack.y / 150, 0, 1))
    front = np.clip(0.4 - stack.y / 160, 0, 1) * soft_occupancy(body.skin + 10, 14.0)
    back = rng.uniform(-WALL_MM, WALL_MM) * front
    shifts = [shift + RANDOM_MM * stack.noise(rng, RANDOM_SIGMA_MM) for shift in (down, back, np.zeros_like(back))]
    shifts[0] = np.clip(shifts[0], -LARGEST_SHIFT_MM, LARGEST_SHIFT_MM)
    return np.stack(shifts).astype(np.float32)


def displaced(
    image: FloatArray,
    displacement_mm: FloatArray,
    *,
    spacing_mm: tuple[float, float, float],
    slices: slice = slice(None),
) -> FloatArray:
    """Look up an image at x + d(x), linearly; beyond its border the border's values continue.

    Args:
        image: (slices, rows, columns).
        displacement_mm: (3, chosen slices, rows, columns) along the axes of the image.
        spacing_mm: voxel size along the axes of the image.
        slices: those for which the displacement is given; default all.

    Returns:
        (chosen slices, rows, columns) float32.

    Example:
        >>> ramp = np.arange(4.0).reshape(4, 1, 1)
        >>> shift = np.zeros((3, 4, 1, 1))
        >>> shift[0] = 1.5
        >>> displaced(ramp, shift, spacing_mm=(3.0, 1.0, 1.0)).ravel().tolist()
        [0.5, 1.5, 2.5, 3.0]
    """
    z, y, x = (np.arange(n, dtype=np.float32) for n in image.shape)
    grid = np.meshgrid(z[slices], y, x, indexing="ij", sparse=True)
    places = [g + d / np.float32(s) for g, d, s in zip(grid, displacement_mm, spacing_mm, strict=True)]
    return np.asarray(ndimage.map_coordinates(image, places, order=1, mode="nearest", output=np.float32))
