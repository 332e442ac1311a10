"""Chest wall and couch of the chest phantom: skin, fat, muscle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import chest_shape as shape
from .chest_stack import Stack, lay_over
from .chest_subject import ChestSubject
from .fields import FloatArray

SKIN_MM, SKIN_HU = 1.8, 25.0
FAT_HU, FAT_TEXTURE_HU = -105.0, 6.0
MUSCLE_HU, MUSCLE_TEXTURE_HU = 52.0, 4.0
MEDIASTINAL_FAT_HU = -95.0
COUCH_GAP_MM = 2.0  # clothes
COUCH_MM, COUCH_SHELL_MM, COUCH_HALF_WIDTH_MM = 20.0, 1.2, 190.0
COUCH_CURVATURE = 0.0006  # 1/mm: rise of its sides
COUCH_SHELL_HU, COUCH_FOAM_HU = -350.0, -940.0


@dataclass(frozen=True)
class Wall:
    """Signed distances (slices, rows, columns) in mm, positive inside, with a common irregularity.

    Attributes:
        bump: what is added to the analytic outlines.
        skin: to the outline of the body.
        cage: to the inner outline of the rib cage.
    """

    bump: FloatArray
    skin: FloatArray
    cage: FloatArray


def make_wall(rng: np.random.Generator, subject: ChestSubject, stack: Stack) -> Wall:
    """Draw the irregularity of the outlines."""
    bump = np.float32(2.5) * stack.noise(rng, 40.0, across_mm=30.0)
    skin = shape.skin(subject, stack.y, stack.x) + bump
    return Wall(bump, skin, shape.cage(subject, stack.z, stack.y, stack.x) + bump)


def paint_wall(rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, hu: FloatArray, wall: Wall) -> None:
    """Skin, subcutaneous fat, muscle with planes of fat, and fat in the rib cage where the organs will be."""
    lay_over(hu, SKIN_HU, stack.occupancy(wall.skin))
    fat = FAT_HU + FAT_TEXTURE_HU * stack.noise(rng, 3.0)
    lay_over(hu, fat, stack.occupancy(wall.skin - SKIN_MM))
    muscle = shape.muscle(subject, stack.y, stack.x) + wall.bump + 1.5 * stack.noise(rng, 12.0)
    lay_over(hu, MUSCLE_HU + MUSCLE_TEXTURE_HU * stack.noise(rng, 2.0), stack.occupancy(muscle))
    # The layers of the wall, some 6 mm thick, are parted where a wide noise is near a multiple of its step.
    depth = muscle + 3.5 * stack.noise(rng, 18.0)
    plane = 0.9 - np.abs((depth + 3) % 6.5 - 3.25)
    lay_over(hu, FAT_HU, 0.75 * stack.occupancy(np.minimum(plane, muscle - 3), softness=2.5))
    lay_over(hu, MEDIASTINAL_FAT_HU, stack.occupancy(wall.cage + 2.5 + 0.8 * stack.noise(rng, 10.0)))


def couch_bottom_mm(subject: ChestSubject) -> float:
    """y of the lowest point of the couch."""
    return shape.skin_half_axes_mm(subject)[1] + COUCH_GAP_MM + COUCH_MM


def paint_couch(subject: ChestSubject, stack: Stack, *, hu: FloatArray, wall: Wall) -> None:
    """A dished couch of foam in a shell of carbon fibre."""
    centre = couch_bottom_mm(subject) - COUCH_MM / 2 - COUCH_CURVATURE * stack.x**2
    couch = np.minimum(COUCH_MM / 2 - np.abs(stack.y - centre), COUCH_HALF_WIDTH_MM - np.abs(stack.x))
    outside = stack.occupancy(-wall.skin)
    lay_over(hu, COUCH_SHELL_HU, stack.occupancy(couch) * outside)
    lay_over(hu, COUCH_FOAM_HU, stack.occupancy(couch - COUCH_SHELL_MM) * outside)
