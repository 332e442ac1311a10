"""Vessels, stomach and bowel of the abdomen phantom.

The vessels are aorta, inferior vena cava, portal vein and hepatic veins with their branches. Stomach and bowel have
enhancing walls, contents that do not enhance, and gas.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..fields import FloatArray
from ..stack import Stack, ellipse
from ..trees import bend_segments, murray_radii, spanning_tree, tree_segments
from .canvas import Canvas, bent_tube, ellipsoid
from .organs import Kidney, points_in_liver
from .subject import AbdomenSubject
from .wall import Body

# Vessels. Trees in the liver: root (z, y, x) and number of branch points.
TREES: Mapping[str, tuple[tuple[float, float, float], int]] = {
    "portal_vein": ((82.0, -2.0, -24.0), 900),
    "hepatic_veins": ((18.0, 18.0, -24.0), 700),
}
TWIG_MM, MURRAY_EXPONENT, LARGEST_BRANCH_MM = 0.85, 2.6, 6.5
AORTA_MM, AORTA_X_MM, AORTA_BEFORE_SPINE_MM = 10.0, 8.0, 31.0
CAVA_HALF_AXES_MM, CAVA_X_MM, CAVA_BEFORE_SPINE_MM = (8.5, 12.0), -21.0, 31.0
CALCIFICATION_MM, CALCIFICATION_ARC_RAD, CALCIFICATION_HU = 1.2, 1.4, 450.0

# Stomach and bowel.
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


def paint_liver_trees(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, liver: FloatArray
) -> None:
    """Paint the portal and hepatic venous trees, cut off at the surface of the liver."""
    inside = stack.occupancy(liver - 1)
    for name, (root, count) in TREES.items():
        points = points_in_liver(rng, count)
        parents = spanning_tree(np.array(root), points)
        radii = murray_radii(parents, leaf_radius=TWIG_MM, exponent=MURRAY_EXPONENT)[1:]
        segments = bend_segments(rng, tree_segments(np.array(root), points, parents=parents), bend=0.06)
        tree = stack.tubes(segments, np.tile(np.minimum(radii, LARGEST_BRANCH_MM), 2))
        canvas.paint(subject.hu(name), stack.occupancy(tree) * inside, name)


def paint_portal_trunk(subject: AbdomenSubject, stack: Stack, canvas: Canvas) -> None:
    """Paint the portal vein from the confluence to the liver, and the splenic and superior mesenteric veins."""
    portal = bent_tube(stack, ((106, 0, 2), (96, -1, -10), (82, -2, -26)), (7.0, 7.0), margin=2.0)
    splenic = bent_tube(stack, ((104, 0, 0), (86, 2, 24), (70, 12, 62)), (4.5, 4.5), margin=2.0)
    mesenteric = bent_tube(stack, ((106, 0, 2), (180, -10, -2)), (6.0,), margin=2.0)
    trunk = stack.occupancy(np.maximum.reduce([portal, splenic, mesenteric]))
    canvas.paint(subject.hu("portal_vein"), trunk, "portal_vein")


def paint_great_vessels(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, kidneys: Mapping[str, Kidney]
) -> None:
    """Paint aorta and inferior vena cava with the renal vessels and the superior mesenteric artery."""
    aorta_y, cava_y = subject.spine_y_mm - AORTA_BEFORE_SPINE_MM, subject.spine_y_mm - CAVA_BEFORE_SPINE_MM
    wobble = 0.5 * stack.noise(rng, 8.0)
    aorta = ellipse(stack.y - aorta_y, stack.x - AORTA_X_MM, (AORTA_MM, AORTA_MM)) + wobble
    cava = ellipse(stack.y - cava_y, stack.x - CAVA_X_MM, CAVA_HALF_AXES_MM) + 1.6 * wobble
    mesenteric = ((84, aorta_y - 6, AORTA_X_MM), (98, -4, 12), (180, -8, 12))
    arteries, veins = [bent_tube(stack, mesenteric, (3.6, 3.6), margin=2.0)], []
    for side, kidney in kidneys.items():
        hilum, level = kidney.hilum_mm, kidney.centre_mm[0] - 4
        # The left renal vein crosses in front of the aorta, the right renal artery behind the vena cava.
        over = AORTA_X_MM + 6 if side == "left" else CAVA_X_MM
        vein = ((level, cava_y - 2, CAVA_X_MM), (level, cava_y - (14 if side == "left" else 0), over), hilum)
        veins.append(bent_tube(stack, vein, (4.0, 4.5), margin=2.0))
        artery = ((level - 3, aorta_y, AORTA_X_MM), (level - 3, aorta_y + 8, 0.4 * hilum[2]), hilum)
        arteries.append(bent_tube(stack, artery, (2.8, 2.6), margin=2.0))
    veins_share = stack.occupancy(np.maximum.reduce([cava, *veins]))
    canvas.paint(subject.hu("inferior_vena_cava"), veins_share, "inferior_vena_cava")
    canvas.paint(subject.hu("aorta"), stack.occupancy(np.maximum.reduce([aorta, *arteries])), "aorta")
    if subject.calcification_rad is not None:
        angle = np.arctan2(stack.y - aorta_y, stack.x - AORTA_X_MM)
        plaque = CALCIFICATION_MM - np.abs(aorta - CALCIFICATION_MM / 2)
        share = stack.occupancy(plaque) * (np.abs(angle - subject.calcification_rad) < CALCIFICATION_ARC_RAD / 2)
        canvas.paint((CALCIFICATION_HU, CALCIFICATION_HU), share, "aorta")


def stomach(rng: np.random.Generator, stack: Stack, *, body: Body, solid: FloatArray) -> FloatArray:
    """Compute the distance to the stomach, in front of the spleen.

    `solid` is the distance to the organs that displace it.
    """
    body_part = ellipsoid(stack, (42, -30, 58), (56, 46, 38), turn=0.5)
    antrum = bent_tube(stack, ((70, -44, 46), (86, -46, 16), (80, -34, -18)), (17.0, 14.0), margin=8.0)
    outline = np.maximum(body_part, antrum) + 3 * stack.noise(rng, 15.0)
    return np.asarray(np.minimum(np.minimum(outline, body.cavity - 3), -solid - 2), dtype=np.float32)


def paint_stomach(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, outline: FloatArray
) -> None:
    """Paint wall, fluid and, in front of the surface of the fluid, gas."""
    lumen = outline - STOMACH_WALL_MM + np.clip(stack.noise(rng, 5.0), -1, 2)  # folds
    canvas.paint(subject.hu("bowel_wall"), stack.occupancy(outline), "bowel")
    fluid = subject.stomach_fluid_hu + 6 * stack.noise(rng, 5.0)
    canvas.paint((fluid, fluid), stack.occupancy(lumen), "bowel")
    surface = subject.stomach_fluid_level_mm - stack.y
    canvas.paint((GAS_HU, GAS_HU), stack.occupancy(np.minimum(lumen, surface)), "bowel")


def paint_colon(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, *, body: Body, others: FloatArray
) -> FloatArray:
    """Paint the colon with haustra, stool and gas, and return its distance.

    `others` is the distance to the organs that displace it.
    """
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
    """Paint duodenum and loops of jejunum where there is room in front, and return their distance.

    `others` is the distance to the organs that displace them.
    """
    loops = 14 * stack.noise(rng, 11.0) - 6 * subject.visceral_fat - 3
    below = 0.5 * np.clip(stack.z - 84, -30, 20)  # they lie below the stomach, and increase with depth
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
