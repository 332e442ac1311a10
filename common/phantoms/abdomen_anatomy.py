"""Anatomy of the abdomen phantom: noise-free HU before and after contrast, and after motion, with labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import abdomen_bowel as bowel
from .abdomen_bones import paint_bones
from .abdomen_canvas import Canvas
from .abdomen_kidneys import make_kidneys, paint_kidneys
from .abdomen_lesions import paint_lesions
from .abdomen_motion import LARGEST_SHIFT_MM, displaced, draw_displacement
from .abdomen_organs import make_organs, paint_gallbladder, paint_organs
from .abdomen_subject import AbdomenSubject
from .abdomen_vessels import paint_great_vessels, paint_liver_trees, paint_portal_trunk
from .abdomen_wall import Body, make_body, paint_back, paint_couch, paint_wall
from .chest_stack import Stack
from .fields import FloatArray

LARGEST_STEP_MM = 3.0  # between the slices of the object, as motion interpolates between them


class Anatomy(NamedTuple):
    """What is known of a stack of slices.

    Attributes:
        plain: HU before contrast (slices, rows, columns).
        enhanced: HU after contrast, at the same place.
        moved: HU after contrast and motion.
        displacement_mm: (3, slices, rows, columns) downwards, backwards, to the left: `moved` shows at x what
            `enhanced` shows at x + displacement.
        label: uint8, of `plain`.
    """

    plain: FloatArray
    enhanced: FloatArray
    moved: FloatArray
    displacement_mm: FloatArray
    label: NDArray[np.uint8]


def make_anatomy(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, *, lesion_types: tuple[str, ...]
) -> Anatomy:
    """Paint a subject on the slices of ``stack`` and a margin above and below, and move what was painted."""
    dense, stored = _dense(stack)
    body = make_body(rng, subject, dense)
    canvas = Canvas.of_air(dense.shape)
    _paint(rng, subject, dense, canvas, body=body, lesion_types=lesion_types, stored=stored)
    displacement = draw_displacement(rng, dense, body)[:, stored]
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
    """Everything in the skin, from outside to inside."""
    kidneys = make_kidneys(rng, subject, stack)
    both = np.maximum.reduce([kidney.outline for kidney in kidneys.values()])
    organs = make_organs(rng, subject, stack, body=body, kidneys=both)
    solid = np.maximum.reduce([organs.liver, organs.spleen, organs.pancreas])
    stomach = bowel.stomach(rng, stack, body=body, solid=np.maximum(solid, both + 4))
    paint_wall(rng, subject, stack, canvas, body)
    paint_gallbladder(rng, stack, canvas, body)
    others = np.maximum.reduce([solid, both + 4, stomach])
    colon = bowel.paint_colon(rng, subject, stack, canvas, body=body, others=others)
    others = np.maximum(others, colon)
    loops = bowel.paint_small_bowel(rng, subject, stack, canvas, body=body, others=others)
    bowel.paint_stomach(rng, subject, stack, canvas, stomach)
    others = np.maximum(others, loops)
    capsule_spares = np.maximum.reduce([solid, stomach, colon, loops])
    paint_kidneys(rng, subject, stack, canvas, kidneys=kidneys, body=body, others=capsule_spares)
    paint_organs(rng, subject, stack, canvas, organs)
    paint_liver_trees(rng, subject, stack, canvas, organs.liver)
    paint_lesions(rng, subject, stack, canvas, types=lesion_types, within=stored)
    paint_back(rng, subject, stack, canvas, body=body, kidneys=both)
    paint_portal_trunk(subject, stack, canvas)
    paint_great_vessels(rng, subject, stack, canvas, kidneys)
    paint_bones(rng, subject, stack, canvas, body)


def _dense(stack: Stack) -> tuple[Stack, slice]:
    """Slices dense enough for motion, with a margin of its range at both ends; and those that are the stack's."""
    factor = int(np.ceil(stack.slice_mm / LARGEST_STEP_MM))
    step = stack.slice_mm / factor
    margin = int(np.ceil(LARGEST_SHIFT_MM / step))
    inner = factor * (len(stack.levels_mm) - 1) + 1
    levels = stack.levels_mm[0] + step * np.arange(-margin, inner + margin)
    dense = Stack(levels_mm=levels, slice_mm=step, in_plane_shape=stack.in_plane_shape, pixel_mm=stack.pixel_mm)
    return dense, slice(margin, margin + inner, factor)
