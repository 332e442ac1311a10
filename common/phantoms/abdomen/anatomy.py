"""Anatomy of the abdomen phantom: noise-free HU before and after contrast, motion between the two scans, and labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..fields import FloatArray
from ..stack import Stack, soft_occupancy
from . import vessels
from .canvas import Canvas
from .metal import paint_metal
from .organs import (
    make_kidneys,
    make_organs,
    paint_gallbladder,
    paint_kidneys,
    paint_lesions,
    paint_organs,
    paint_second_gallbladder,
)
from .subject import AbdomenSubject
from .vessels import paint_great_vessels, paint_liver_trees, paint_portal_trunk
from .wall import Body, make_body, paint_back, paint_bones, paint_couch, paint_wall

# Motion.
ALL = slice(None)
BREATH_MM = (4.0, 14.0)  # cranio-caudal shift of the organs in either direction
BREATH_EDGE_MM = 12.0  # half the width over which the shift fades in the wall
WALL_MM = 4.0  # largest shift of the front wall in either direction
RANDOM_MM, RANDOM_SIGMA_MM = 1.6, 30.0  # SD per axis, and filter width
LARGEST_SHIFT_MM = 20.0  # cranio-caudal
LARGEST_STEP_MM = 3.0  # between the slices of the object, as motion interpolates between them


def draw_displacement(rng: np.random.Generator, stack: Stack, body: Body) -> FloatArray:
    """Draw the displacement d in mm such that the second scan shows at x what the first shows at x + d(x).

    Breathing moves the content of the cavity up or down, more so in front, and the front wall in or out; a smooth
    random field stands for all other motion.

    Args:
        rng: Source of the motion.
        stack: Voxel grid.
        body: Outlines on the grid.

    Returns:
        Displacement (3, slices, rows, columns), float32: downwards, backwards, to the patient's left.
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
    image: FloatArray, displacement_mm: FloatArray, *, spacing_mm: tuple[float, float, float], slices: slice = ALL
) -> FloatArray:
    """Look up an image at x + d(x) by linear interpolation; beyond its border the values of the border continue.

    Args:
        image: Image (slices, rows, columns).
        displacement_mm: Displacement (3, chosen slices, rows, columns) along the axes of the image.
        spacing_mm: Voxel size along the axes of the image.
        slices: Slices for which the displacement is given; by default all.

    Returns:
        Image (chosen slices, rows, columns), float32.

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


class Anatomy(NamedTuple):
    """Noise-free ground truth of a stack of slices.

    Attributes:
        plain: HU before contrast (slices, rows, columns).
        enhanced: HU after contrast, at the same place.
        moved: HU after contrast and motion.
        displacement_mm: Displacement (3, slices, rows, columns) downwards, backwards, to the left: `moved` shows at x
            what `enhanced` shows at x + displacement.
        label: Label map of `plain`, uint8.
    """

    plain: FloatArray
    enhanced: FloatArray
    moved: FloatArray
    displacement_mm: FloatArray
    label: NDArray[np.uint8]


def make_anatomy(
    rng: np.random.Generator,
    subject: AbdomenSubject,
    stack: Stack,
    *,
    lesion_types: tuple[str, ...],
    motion: np.random.Generator | None = None,
) -> Anatomy:
    """Paint a subject on the slices of `stack` with a margin above and below, and apply the motion.

    Args:
        rng: Source of shapes and textures.
        subject: Subject.
        stack: Voxel grid.
        lesion_types: Types of lesion in the liver.
        motion: Source of the motion; by default `rng`.

    Returns:
        Anatomy of the slices of `stack`.
    """
    dense, stored = _dense(stack)
    body = make_body(rng, subject, dense)
    canvas = Canvas.of_air(dense.shape)
    _paint(rng, subject, dense, canvas, body=body, lesion_types=lesion_types, stored=stored)
    displacement = draw_displacement(rng if motion is None else motion, dense, body)[:, stored]
    body_share = dense.occupancy(body.skin)
    spacing = (dense.slice_mm, dense.pixel_mm, dense.pixel_mm)
    moved, moved_share = (
        displaced(image, displacement, spacing_mm=spacing, slices=stored) for image in (canvas.enhanced, body_share)
    )
    plain, enhanced = canvas.plain[stored], canvas.enhanced[stored]
    for hu, share in ((plain, body_share[stored]), (enhanced, body_share[stored]), (moved, moved_share)):
        paint_couch(subject, stack, hu=hu, body_share=share)
    return Anatomy(plain, enhanced, moved, displacement, canvas.label[stored])


def _paint(
    rng: np.random.Generator,
    subject: AbdomenSubject,
    stack: Stack,
    canvas: Canvas,
    *,
    body: Body,
    lesion_types: tuple[str, ...],
    stored: slice,
) -> None:
    """Paint everything inside the skin, from outside to inside."""
    kidneys = make_kidneys(rng, subject, stack)
    both = np.maximum.reduce([kidney.outline for kidney in kidneys.values()])
    organs = make_organs(rng, subject, stack, body=body, kidneys=both)
    solid = np.maximum.reduce([organs.liver, organs.spleen, organs.pancreas])
    stomach = vessels.stomach(rng, stack, body=body, solid=np.maximum(solid, both + 4))
    paint_wall(rng, subject, stack, canvas, body)
    paint_gallbladder(rng, stack, canvas, body)
    others = np.maximum.reduce([solid, both + 4, stomach])
    colon = vessels.paint_colon(rng, subject, stack, canvas, body=body, others=others)
    others = np.maximum(others, colon)
    loops = vessels.paint_small_bowel(rng, subject, stack, canvas, body=body, others=others)
    vessels.paint_stomach(rng, subject, stack, canvas, stomach)
    others = np.maximum(others, loops)
    capsule_spares = np.maximum.reduce([solid, stomach, colon, loops])
    paint_kidneys(rng, subject, stack, canvas, kidneys=kidneys, body=body, others=capsule_spares)
    paint_organs(rng, subject, stack, canvas, organs)
    paint_liver_trees(rng, subject, stack, canvas, organs.liver)
    paint_lesions(rng, subject, stack, canvas, types=lesion_types, within=stored)
    paint_second_gallbladder(rng, subject, stack, canvas, body)
    paint_back(rng, subject, stack, canvas, body=body, kidneys=both)
    paint_portal_trunk(subject, stack, canvas)
    paint_great_vessels(rng, subject, stack, canvas, kidneys)
    paint_bones(rng, subject, stack, canvas, body)
    paint_metal(subject, stack, canvas)


def _dense(stack: Stack) -> tuple[Stack, slice]:
    """Return slices dense enough for motion, with a margin of its range at both ends, and which are the stack's."""
    factor = int(np.ceil(stack.slice_mm / LARGEST_STEP_MM))
    step = stack.slice_mm / factor
    margin = int(np.ceil(LARGEST_SHIFT_MM / step))
    inner = factor * (len(stack.levels_mm) - 1) + 1
    levels = stack.levels_mm[0] + step * np.arange(-margin, inner + margin)
    dense = Stack(levels_mm=levels, slice_mm=step, in_plane_shape=stack.in_plane_shape, pixel_mm=stack.pixel_mm)
    return dense, slice(margin, margin + inner, factor)
