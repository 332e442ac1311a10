"""Vessels of the abdomen phantom: aorta, inferior vena cava, portal vein and hepatic veins with their branches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .abdomen_canvas import Canvas, bent_tube
from .abdomen_kidneys import Kidney
from .abdomen_organs import points_in_liver
from .abdomen_subject import AbdomenSubject
from .chest_stack import Stack, ellipse
from .fields import FloatArray
from .trees import bend_segments, murray_radii, spanning_tree, tree_segments

# Trees in the liver: root (z, y, x) and number of branch points.
TREES: Mapping[str, tuple[tuple[float, float, float], int]] = {
    "portal_vein": ((82.0, -2.0, -24.0), 900),
    "hepatic_veins": ((18.0, 18.0, -24.0), 700),
}
TWIG_MM, MURRAY_EXPONENT, LARGEST_BRANCH_MM = 0.85, 2.6, 6.5
AORTA_MM, AORTA_X_MM, AORTA_BEFORE_SPINE_MM = 10.0, 8.0, 31.0
CAVA_HALF_AXES_MM, CAVA_X_MM, CAVA_BEFORE_SPINE_MM = (8.5, 12.0), -21.0, 31.0
CALCIFICATION_MM, CALCIFICATION_ARC_RAD, CALCIFICATION_HU = 1.2, 1.4, 450.0


def paint_liver_trees(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, liver: FloatArray
) -> None:
    """Portal and hepatic venous trees, cut off at the surface of the liver."""
    inside = stack.occupancy(liver - 1)
    for name, (root, count) in TREES.items():
        points = points_in_liver(rng, count)
        parents = spanning_tree(np.array(root), points)
        radii = murray_radii(parents, leaf_radius=TWIG_MM, exponent=MURRAY_EXPONENT)[1:]
        segments = bend_segments(rng, tree_segments(np.array(root), points, parents=parents), bend=0.06)
        tree = stack.tubes(segments, np.tile(np.minimum(radii, LARGEST_BRANCH_MM), 2))
        canvas.paint(subject.hu(name), stack.occupancy(tree) * inside, name)


def paint_portal_trunk(subject: AbdomenSubject, stack: Stack, canvas: Canvas) -> None:
    """Portal vein from the confluence to the liver, splenic and superior mesenteric vein."""
    portal = bent_tube(stack, ((106, 0, 2), (96, -1, -10), (82, -2, -26)), (7.0, 7.0), margin=2.0)
    splenic = bent_tube(stack, ((104, 0, 0), (86, 2, 24), (70, 12, 62)), (4.5, 4.5), margin=2.0)
    mesenteric = bent_tube(stack, ((106, 0, 2), (180, -10, -2)), (6.0,), margin=2.0)
    trunk = stack.occupancy(np.maximum.reduce([portal, splenic, mesenteric]))
    canvas.paint(subject.hu("portal_vein"), trunk, "portal_vein")


def paint_great_vessels(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, kidneys: Mapping[str, Kidney]
) -> None:
    """Aorta and inferior vena cava with the vessels of the kidneys and the superior mesenteric artery."""
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
