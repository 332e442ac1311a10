"""Wall of the abdomen phantom: skin, fat, muscles, and the couch below."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .abdomen_canvas import UNLABELLED, Canvas, ellipsoid
from .abdomen_subject import SIDES, AbdomenSubject
from .chest_shape import super_ellipse
from .chest_stack import Stack, lay_over
from .fields import FloatArray

OUTLINE_EXPONENT = 2.3
LARGEST_BUMP_SD = 2.5
SKIN_MM, SKIN_HU = 2.0, 28.0
FAT_HU, FAT_TEXTURE_HU = -104.0, 6.0
MUSCLE_TEXTURE_HU = 4.0
WALL_MM = (13.0, 12.0)  # of muscle and ribs around the cavity, across and front to back
COUCH_GAP_MM, COUCH_MM, COUCH_SHELL_MM = 2.0, 20.0, 1.2
COUCH_HALF_WIDTH_MM = 168.0  # what of it lies in the field of view
COUCH_CURVATURE = 0.0006  # 1/mm: rise of its sides
COUCH_SHELL_HU, COUCH_FOAM_HU = -350.0, -940.0


@dataclass(frozen=True)
class Body:
    """Signed distances (slices, rows, columns) in mm, positive inside, and the fat that fills the body.

    Attributes:
        skin: to the outline of the body.
        muscle: to the outline of the muscles.
        cavity: to the inside of the wall.
        fat_hu: HU of fat in every voxel.
    """

    skin: FloatArray
    muscle: FloatArray
    cavity: FloatArray
    fat_hu: FloatArray


def make_body(rng: np.random.Generator, subject: AbdomenSubject, stack: Stack) -> Body:
    """Outlines with a common irregularity."""
    bump = 2.5 * np.clip(stack.noise(rng, 35.0), -LARGEST_BUMP_SD, LARGEST_BUMP_SD)
    across, deep = subject.muscle_half_axes_mm

    def outline(larger_x: float, larger_y: float) -> FloatArray:
        half_y, half_x = np.float32(deep + larger_y), np.float32(across + larger_x)
        return np.asarray(super_ellipse(stack.y, stack.x, half_y, half_x, OUTLINE_EXPONENT) + bump, dtype=np.float32)

    return Body(
        skin=outline(subject.fat_mm, 0.9 * subject.fat_mm),
        muscle=outline(0, 0),
        cavity=outline(-WALL_MM[0], -WALL_MM[1]),
        fat_hu=np.float32(FAT_HU) + FAT_TEXTURE_HU * stack.noise(rng, 4.0),
    )


def paint_wall(rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, body: Body) -> None:
    """Skin, subcutaneous fat, muscles with planes of fat between their layers, and fat where the organs will be."""
    fat = (body.fat_hu, body.fat_hu)
    canvas.paint((SKIN_HU, SKIN_HU), stack.occupancy(body.skin), UNLABELLED)
    canvas.paint(fat, stack.occupancy(body.skin - SKIN_MM), "fat")
    texture = MUSCLE_TEXTURE_HU * stack.noise(rng, 2.5)
    canvas.paint(subject.hu("muscle"), stack.occupancy(body.muscle), "muscle", texture=texture)
    plane = 1.2 - np.abs(body.muscle - 6 + 1.5 * stack.noise(rng, 12.0))
    canvas.paint(fat, 0.8 * stack.occupancy(plane), "fat")
    canvas.paint(fat, stack.occupancy(body.cavity), "fat")


def paint_back(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, *, body: Body, kidneys: FloatArray
) -> None:
    """Muscles around the spine: erectors, psoas, the square muscles of the loin and the crura of the diaphragm."""
    spine = subject.spine_y_mm
    erectors = ellipsoid(stack, (60, spine + 32, 0), (900, 24, 58), exponent=3.0) + stack.noise(rng, 10.0)
    # Fat parts the muscles of both sides along the midline.
    erectors = np.minimum(np.minimum(erectors, body.muscle - 3), np.abs(stack.x) - 0.8)
    parts = [erectors, _crura(stack, spine)]
    for side in SIDES.values():
        parts.append(ellipsoid(stack, (150, spine - 1, side * 35), (78, 16, 14), turn=side * 0.3))
        parts.append(ellipsoid(stack, (150, spine + 14, side * 58), (85, 7, 18), turn=side * 0.35))
    muscles = np.maximum.reduce(parts) + 0.6 * stack.noise(rng, 6.0)
    occupancy = stack.occupancy(np.minimum(muscles, -kidneys - 2))
    canvas.paint(subject.hu("muscle"), occupancy, "muscle", texture=MUSCLE_TEXTURE_HU * stack.noise(rng, 2.5))


def paint_couch(subject: AbdomenSubject, stack: Stack, *, hu: FloatArray, body_share: FloatArray) -> None:
    """A dished couch of foam in a shell of carbon fibre, in place; ``body_share`` is what the body fills of ``hu``."""
    back = subject.muscle_half_axes_mm[1] + 0.9 * subject.fat_mm
    centre = back + COUCH_GAP_MM + COUCH_MM / 2 - COUCH_CURVATURE * stack.x**2
    couch = np.minimum(COUCH_MM / 2 - np.abs(stack.y - centre), COUCH_HALF_WIDTH_MM - np.abs(stack.x))
    lay_over(hu, COUCH_SHELL_HU, stack.occupancy(couch) * (1 - body_share))
    lay_over(hu, COUCH_FOAM_HU, stack.occupancy(couch - COUCH_SHELL_MM) * (1 - body_share))


def _crura(stack: Stack, spine_y_mm: float) -> FloatArray:
    """Distance to the crura, which pass the aorta on both sides and end at the lumbar spine."""
    courses = [
        ((-20, spine_y_mm - 32, -14), (70, spine_y_mm - 24, -8), (130, spine_y_mm - 18, -10)),
        ((-20, spine_y_mm - 32, 32), (70, spine_y_mm - 24, 25), (125, spine_y_mm - 15, 20)),
    ]
    return np.maximum.reduce([stack.path(course, 4.0) for course in courses])
