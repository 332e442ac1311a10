"""Kidneys of the abdomen phantom: cortex, pyramids of medulla, fat in the sinus and around."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .abdomen_canvas import Canvas, ellipsoid
from .abdomen_subject import SIDES, AbdomenSubject
from .abdomen_wall import Body
from .chest_stack import Stack
from .fields import FloatArray

HALF_AXES_MM = (52.0, 30.0, 25.0)
TURN_RAD = 0.5  # the hilum looks forward and to the midline
CORTEX_MM = 6.0
PYRAMIDS = 7  # around a section


@dataclass(frozen=True)
class Kidney:
    """Signed distances (slices, rows, columns) in mm to one kidney and its sinus, and its centre z, y, x."""

    outline: FloatArray
    sinus: FloatArray
    centre_mm: tuple[float, float, float]

    @property
    def hilum_mm(self) -> tuple[float, float, float]:
        """Where the vessels enter."""
        z, y, x = self.centre_mm
        return z - 2, y - 12, x - np.sign(x) * 14


def make_kidneys(rng: np.random.Generator, subject: AbdomenSubject, stack: Stack) -> dict[str, Kidney]:
    """Both kidneys, by side."""
    kidneys = {}
    for side, sign in SIDES.items():
        z, before_spine, away = subject.kidney_centres_mm[side]
        y, x = subject.spine_y_mm + before_spine, sign * away * subject.width
        outline = ellipsoid(stack, (z, y, x), HALF_AXES_MM, turn=sign * TURN_RAD) + 1.2 * stack.noise(rng, 8.0)
        inward = (z, y - 8, x - sign * 13)
        sinus = ellipsoid(stack, inward, (27, 11, 15), turn=sign * TURN_RAD) + 2.5 * stack.noise(rng, 4.0)
        kidneys[side] = Kidney(outline, sinus, (z, y, x))
    return kidneys


def paint_kidneys(
    rng: np.random.Generator,
    subject: AbdomenSubject,
    stack: Stack,
    canvas: Canvas,
    *,
    kidneys: dict[str, Kidney],
    body: Body,
    others: FloatArray,
) -> None:
    """Both kidneys in their fat; ``others`` is the distance to what that fat must not cover."""
    fat = (body.fat_hu, body.fat_hu)
    spared = stack.occupancy(-others) * stack.occupancy(body.cavity)
    for kidney in kidneys.values():
        capsule = stack.occupancy(kidney.outline + 8 * subject.visceral_fat + 2)
        canvas.paint(fat, capsule * spared, "fat")
        texture = 3 * stack.noise(rng, 3.0)
        canvas.paint(subject.hu("kidney_cortex"), stack.occupancy(kidney.outline), "kidney_cortex", texture=texture)
        pyramids = stack.occupancy(_pyramids(rng, stack, kidney), softness=1.5)
        canvas.paint(subject.hu("kidney_medulla"), pyramids, "kidney_medulla", texture=texture)
        sinus = stack.occupancy(np.minimum(kidney.sinus, kidney.outline + 2), softness=2.0)
        canvas.paint(fat, sinus, "fat")


def _pyramids(rng: np.random.Generator, stack: Stack, kidney: Kidney) -> FloatArray:
    """Distance to the medulla: cones with their tips at the sinus, parted by columns of cortex."""
    z, y, x = kidney.centre_mm
    angle = np.arctan2(stack.y - y, stack.x - x) + 0.3 * stack.noise(rng, 9.0)
    around = np.cos(PYRAMIDS * angle + rng.uniform(0, 2 * np.pi))
    along = np.cos(2 * np.pi * (stack.z - z) / 26 + rng.uniform(0, 2 * np.pi) + stack.noise(rng, 14.0))
    depth = kidney.outline - CORTEX_MM
    cones = 3.5 * around + 1.5 * along + 2.5 - 0.15 * depth
    return np.asarray(np.minimum(np.minimum(depth, cones), -kidney.sinus), dtype=np.float32)
