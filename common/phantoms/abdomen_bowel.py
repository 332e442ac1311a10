"""Stomach and bowel of the abdomen phantom: enhancing walls, contents that do not, and gas."""

from __future__ import annotations

import numpy as np

from .abdomen_canvas import Canvas, bent_tube, ellipsoid
from .abdomen_subject import AbdomenSubject
from .abdomen_wall import Body
from .chest_stack import Stack
from .fields import FloatArray

GAS_HU = -920.0
STOMACH_WALL_MM, COLON_WALL_MM, SMALL_BOWEL_WALL_MM = 3.5, 2.4, 2.4
STOOL_HU, CHYME_HU = -10.0, 18.0
# Courses (z, y, x) for the reference width of the trunk.
COLON = (
    *((135, 0, -98), (112, -28, -92), (104, -62, -52), (98, -74, 5)),  # ascending and transverse
    *((84, -56, 66), (62, -8, 100), (96, 22, 102), (190, 30, 100)),  # transverse and descending
)
COLON_RADII_MM = (17.0, 16.0, 14.0, 14.0, 14.0, 13.0, 13.0)
DUODENUM = ((74, -26, -28), (88, -10, -44), (118, 4, -44), (128, 6, -10), (122, 4, 26))
DUODENUM_RADIUS_MM = 10.0


def stomach(rng: np.random.Generator, stack: Stack, *, body: Body, solid: FloatArray) -> FloatArray:
    """Distance to the stomach, in front of the spleen; ``solid`` is that to the organs it gives way to."""
    body_part = ellipsoid(stack, (42, -30, 58), (56, 46, 38), turn=0.5)
    antrum = bent_tube(stack, ((70, -44, 46), (86, -46, 16), (80, -34, -18)), (17.0, 14.0), margin=8.0)
    outline = np.maximum(body_part, antrum) + 3 * stack.noise(rng, 15.0)
    return np.asarray(np.minimum(np.minimum(outline, body.cavity - 3), -solid - 2), dtype=np.float32)


def paint_stomach(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, outline: FloatArray
) -> None:
    """Wall, fluid and, in front of its surface, gas."""
    lumen = outline - STOMACH_WALL_MM + np.clip(stack.noise(rng, 5.0), -1, 2)  # folds
    canvas.paint(subject.hu("bowel_wall"), stack.occupancy(outline), "bowel")
    fluid = subject.stomach_fluid_hu + 6 * stack.noise(rng, 5.0)
    canvas.paint((fluid, fluid), stack.occupancy(lumen), "bowel")
    surface = subject.stomach_fluid_level_mm - stack.y
    canvas.paint((GAS_HU, GAS_HU), stack.occupancy(np.minimum(lumen, surface)), "bowel")


def paint_colon(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, *, body: Body, others: FloatArray
) -> FloatArray:
    """Colon with haustra, stool and gas; returns its distance. ``others`` is that to what it gives way to."""
    course = np.array(COLON) * (1, 1, subject.width)
    outline = bent_tube(stack, course, COLON_RADII_MM, margin=10.0) + 2.5 * stack.noise(rng, 7.0)
    outline = np.minimum(np.minimum(outline, body.cavity - 3), -others - 2)
    lumen = outline - COLON_WALL_MM
    # Gas rises to the front of the loops and leaves mottled stool behind.
    gas = np.minimum(lumen, 5 * stack.noise(rng, 9.0) - 0.18 * (stack.y + 48))
    stool = STOOL_HU + 40 * np.clip(stack.noise(rng, 2.2), -2, 1.5)
    _paint_loop(subject, stack, canvas, outline=outline, lumen=lumen, content=stool, gas=gas)
    return np.asarray(outline, dtype=np.float32)


def paint_small_bowel(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, *, body: Body, others: FloatArray
) -> FloatArray:
    """Duodenum and loops of jejunum where there is room in front; returns their distance."""
    loops = 14 * stack.noise(rng, 11.0) - 6 * subject.visceral_fat - 3
    below = 0.5 * np.clip(stack.z - 84, -30, 20)  # they lie below the stomach, more of them the deeper
    front = -10 * np.clip((stack.y + 2) / 12, 0, 9)
    loops = np.minimum(loops + below + front, body.cavity - 6)
    duodenum = bent_tube(stack, DUODENUM, (DUODENUM_RADIUS_MM,) * (len(DUODENUM) - 1), margin=8.0)
    outline = np.maximum(loops, duodenum + 1.2 * stack.noise(rng, 6.0))
    outline = np.minimum(outline, -others - 2.5)
    lumen = outline - SMALL_BOWEL_WALL_MM
    gas = np.minimum(lumen - 2, 12 * (stack.noise(rng, 14.0) - 1.1) - 0.15 * (stack.y + 40))
    chyme = CHYME_HU + 12 * stack.noise(rng, 4.0)
    _paint_loop(subject, stack, canvas, outline=outline, lumen=lumen, content=chyme, gas=gas)
    return np.asarray(outline, dtype=np.float32)


def _paint_loop(
    subject: AbdomenSubject,
    stack: Stack,
    canvas: Canvas,
    *,
    outline: FloatArray,
    lumen: FloatArray,
    content: FloatArray,
    gas: FloatArray,
) -> None:
    canvas.paint(subject.hu("bowel_wall"), stack.occupancy(outline), "bowel")
    canvas.paint((content, content), stack.occupancy(lumen), "bowel")
    canvas.paint((GAS_HU, GAS_HU), stack.occupancy(gas), "bowel")
