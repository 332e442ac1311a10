"""Mediastinum and lung trees of the chest phantom.

Heart, great vessels, trachea, oesophagus and the organs below the diaphragm; arteries, veins and airways of the lungs
as space-filling trees from each hilum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..fields import FloatArray
from ..stack import Stack, ellipse, lay_over
from ..trees import bend_segments, murray_radii, spanning_tree, tree_segments
from . import wall
from .subject import ChestSubject

SIDES = {"right": -1, "left": 1}  # sign of x
# Trees of the lungs.
TWIGS_PER_BRANCH = 9  # mean
REACH_MM = 20.0  # reach of the twigs of a branch: twigs farther from the slices are not grown
AIRWAY_WALL = (1.25, 0.45)  # outer radius: factor, and mm to add

# Mediastinum.
Path = tuple[tuple[float, float, float], ...]
REFERENCE_AORTA_MM = 15.0  # radius at which the radii below hold
# Great vessels: radius in mm and course (z, y, x). The aorta's descending part depends on the spine.
GREAT_VESSELS: Mapping[str, tuple[float, Path]] = {
    "ascending aorta": (15.0, ((160, -18, 4), (128, -30, -7), (98, -30, -8))),
    "aortic arch": (13.0, ((98, -30, -8), (86, -22, 8), (82, 4, 26), (88, 28, 27))),
    "superior vena cava": (9.0, ((66, -22, -22), (160, -16, -27))),
    "inferior vena cava": (12.0, ((172, 18, -26), (250, 26, -28))),
    "pulmonary trunk": (13.5, ((146, -34, 20), (124, -32, 22), (112, -14, 24))),
    "right pulmonary artery": (10.0, ((112, -14, 22), (118, -6, -6), (121, 0, -30))),
    "left pulmonary artery": (10.0, ((112, -14, 24), (111, 6, 36))),
    "right pulmonary vein": (7.0, ((146, 8, -6), (141, 6, -36))),
    "left pulmonary vein": (7.0, ((142, 10, 10), (136, 6, 38))),
    "left brachiocephalic vein": (6.0, ((56, -26, 30), (68, -36, 8), (78, -26, -20))),
    "right brachiocephalic vein": (7.0, ((40, -14, -32), (68, -22, -23))),
    "brachiocephalic artery": (6.5, ((30, -4, -18), (82, -20, 2))),
    "left carotid artery": (4.5, ((30, -6, 14), (82, -12, 14))),
    "left subclavian artery": (5.5, ((30, 12, 26), (82, 4, 24))),
}
CARINA_MM = (102.0, 15.0, 0.0)
TRACHEA_WALL_MM, TRACHEA_WALL_HU = 1.6, 35.0
AIR_HU = -995.0
EPICARDIAL_FAT_MM, EPICARDIAL_FAT_HU = 4.0, -90.0
PERICARDIUM_HU = 20.0
OESOPHAGUS_HU = 38.0
LIVER_HU, SPLEEN_HU = 58.0, 48.0


@dataclass(frozen=True)
class TreeKind:
    """Growth of one kind of tree in a lung.

    Attributes:
        offset_mm: Offset of its root from the hilum: z, y, and x away from the midline.
        branches: Number of points that the branches connect.
        twig_mm: Radius of the finest branches.
        exponent: Exponent of Murray's law.
        balance: Weight of the path length, see `trees.spanning_tree`.
        clearance_mm: Distance of the points from the pleura.
        largest_mm: Largest radius.
        twigs: Whether fine twigs are grown from the branches near the slices.
    """

    offset_mm: tuple[float, float, float]
    branches: int
    twig_mm: float
    exponent: float
    balance: float
    clearance_mm: float
    largest_mm: float
    twigs: bool


ARTERIES = TreeKind((-4, -8, 2), 700, 0.48, 2.75, 0.3, 2.0, 8.0, True)
VEINS = TreeKind((14, -4, 0), 550, 0.48, 2.75, 0.3, 2.0, 8.0, True)
AIRWAYS = TreeKind((0, 0, 0), 300, 0.8, 2.9, 0.35, 18.0, 5.5, False)


@dataclass(frozen=True)
class LungTrees:
    """Signed distances (slices, rows, columns) in mm, positive inside."""

    vessels: FloatArray
    airway_walls: FloatArray
    airway_lumina: FloatArray


def hilum_mm(side: str) -> tuple[float, float, float]:
    """Return the position (z, y, x) of a lung's root; the left one stands higher."""
    return (118.0, 14.0, 33.0) if side == "left" else (124.0, 12.0, -30.0)


def make_trees(rng: np.random.Generator, subject: ChestSubject, stack: Stack) -> LungTrees:
    """Grow the trees of both lungs and draw what the slices cut."""
    vessels = [_grow(rng, subject, stack, kind, side) for side in SIDES for kind in (ARTERIES, VEINS)]
    airways = [_grow(rng, subject, stack, AIRWAYS, side) for side in SIDES]
    segments, radii = (np.concatenate(parts) for parts in zip(*airways, strict=True))
    factor, extra = AIRWAY_WALL
    return LungTrees(
        vessels=stack.tubes(*(np.concatenate(parts) for parts in zip(*vessels, strict=True))),
        airway_walls=stack.tubes(segments, factor * radii + extra),
        airway_lumina=stack.tubes(segments, radii),
    )


def points_in_lung(
    rng: np.random.Generator, subject: ChestSubject, count: int, *, side: str, clearance_mm: float
) -> FloatArray:
    """Draw about `count` points (N, 3) in mm, uniformly in a lung and `clearance_mm` from its surface."""
    half_x, half_y = wall.cage_half_axes_mm(subject, np.float32(160))
    box = np.array([[12.0, -half_y, 5.0], [222.0, half_y, 1.05 * half_x]])
    found: list[FloatArray] = []
    drawn, inside = 0, 0
    while inside < count and drawn < 40 * count:
        points = rng.uniform(box[0], box[1], (count, 3))
        points[:, 2] *= SIDES[side]
        found.append(points[wall.lung(subject, *points.T) > clearance_mm])
        drawn, inside = drawn + count, inside + len(found[-1])
    return np.concatenate(found)[:count]


def _grow(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, kind: TreeKind, side: str
) -> tuple[FloatArray, FloatArray]:
    """Grow one tree, branches everywhere and twigs near the slices: segments (M, 2, 3) and radii (M,) in mm."""
    away = np.array([1, 1, SIDES[side]])
    root = np.array(hilum_mm(side)) + away * kind.offset_mm
    points = points_in_lung(rng, subject, kind.branches, side=side, clearance_mm=kind.clearance_mm)
    parents = spanning_tree(root, points, balance=kind.balance)
    # A branch ends in as many twigs as its part of the lung contains.
    leaf = kind.twig_mm * (TWIGS_PER_BRANCH ** (1 / kind.exponent) if kind.twigs else 1)
    radii = murray_radii(parents, leaf_radius=leaf, exponent=kind.exponent)[1:]
    segments = [tree_segments(root, points, parents=parents)]
    widths = [np.minimum(radii, kind.largest_mm)]
    if kind.twigs:
        count = TWIGS_PER_BRANCH * kind.branches
        ends = points_in_lung(rng, subject, count, side=side, clearance_mm=kind.clearance_mm)
        for twigs, twig_radii in _twigs(points, ends, stack, kind):
            segments.append(twigs)
            widths.append(twig_radii)
    bent = bend_segments(rng, np.concatenate(segments), bend=0.06)
    return bent, np.tile(np.concatenate(widths), 2)


def _twigs(branches: FloatArray, ends: FloatArray, stack: Stack, kind: TreeKind) -> list[tuple[FloatArray, FloatArray]]:
    """Grow a small tree from each branch point near the slices to the twig ends that are nearest to it."""
    levels = stack.levels_mm
    ends = ends[(ends[:, 0] > levels.min() - REACH_MM) & (ends[:, 0] < levels.max() + REACH_MM)]
    owner = cKDTree(branches).query(ends)[1]
    trees = []
    for branch in np.unique(owner):
        own = ends[owner == branch]
        parents = spanning_tree(branches[branch], own, balance=kind.balance)
        radii = murray_radii(parents, leaf_radius=kind.twig_mm, exponent=kind.exponent)
        trees.append((tree_segments(branches[branch], own, parents=parents), radii[1:]))
    return trees


@dataclass(frozen=True)
class Mediastinum:
    """Signed distances (slices, rows, columns) in mm, positive inside.

    Attributes:
        heart: Distance to the heart.
        vessels: Distance to the great vessels.
        lumen: Distance to the lumina of trachea and main bronchi.
        oesophagus: Distance to the oesophagus.
    """

    heart: FloatArray
    vessels: FloatArray
    lumen: FloatArray
    oesophagus: FloatArray

    @property
    def blood(self) -> FloatArray:
        """Distance to the outline of all blood outside the lungs."""
        return np.maximum(self.heart, self.vessels)


def make_mediastinum(rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, cage: FloatArray) -> Mediastinum:
    """Draw the outlines inside a rib cage."""
    heart = wall.heart_shape(subject, stack.z, stack.y, stack.x) + 1.5 * stack.noise(rng, 15.0)
    scale = subject.ascending_aorta_mm / REFERENCE_AORTA_MM
    spine = wall.spine_front_mm(subject)
    descending: Path = ((88, 28, 27), (106, spine - 17, 27), (180, spine - 22, 21), (250, spine - 28, 8))
    paths = [*GREAT_VESSELS.values(), (11.5, descending)]
    vessels = np.maximum.reduce([stack.path(path, scale * radius) for radius, path in paths])
    trachea = [stack.path(((-30, 8, 0), CARINA_MM), subject.trachea_mm)]
    bronchi = [stack.path((CARINA_MM, hilum_mm(side)), 0.7 * subject.trachea_mm) for side in ("right", "left")]
    gullet = stack.path(((-30, 28, 3), (100, spine - 26, 4), (180, spine - 30, 6), (250, spine - 44, 20)), 7.0)
    return Mediastinum(
        heart=np.minimum(heart, cage - 3.0).astype(np.float32),
        vessels=vessels + 0.4 * stack.noise(rng, 6.0),
        lumen=np.maximum.reduce([*trachea, *bronchi]),
        oesophagus=gullet + 0.8 * stack.noise(rng, 6.0),
    )


def paint_mediastinum(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, hu: FloatArray, organs: Mediastinum
) -> None:
    """Paint the heart in its fat, the great vessels and the oesophagus."""
    lay_over(hu, PERICARDIUM_HU, stack.occupancy(organs.heart + wall.PERICARDIUM_MM + 1.0))
    lay_over(hu, EPICARDIAL_FAT_HU, stack.occupancy(organs.heart + wall.PERICARDIUM_MM))
    # Fat is thick in the grooves between the chambers and thin over the ventricles.
    grooves = 1.5 * np.abs(stack.noise(rng, 14.0)) - 1.0
    lay_over(hu, subject.blood_hu, stack.occupancy(organs.heart + EPICARDIAL_FAT_MM * np.clip(grooves, 0, 0.8)))
    lay_over(hu, OESOPHAGUS_HU, stack.occupancy(organs.oesophagus))
    if subject.oesophageal_air:
        lay_over(hu, -700.0, stack.occupancy(organs.oesophagus - 5.0))
    lay_over(hu, subject.blood_hu, stack.occupancy(organs.vessels))


def paint_airways(stack: Stack, *, hu: FloatArray, organs: Mediastinum, trees: LungTrees) -> FloatArray:
    """Paint the walls of trachea and main bronchi and the air in all airways, and return the occupancy of the air."""
    lay_over(hu, TRACHEA_WALL_HU, stack.occupancy(organs.lumen + TRACHEA_WALL_MM))
    outside_blood = -organs.blood - TRACHEA_WALL_MM
    air = stack.occupancy(np.maximum(organs.lumen, np.minimum(trees.airway_lumina, outside_blood)))
    lay_over(hu, AIR_HU, air)
    return air


def paint_abdomen(
    rng: np.random.Generator,
    subject: ChestSubject,
    stack: Stack,
    *,
    hu: FloatArray,
    cage: FloatArray,
    heart: FloatArray,
) -> None:
    """Paint liver (right) and spleen (left) below the domes of the diaphragm."""
    below = np.minimum(wall.diaphragm(stack.z, stack.y, stack.x) + 0.5, cage)
    below = np.minimum(below, -(heart + wall.PERICARDIUM_MM + 1.0))
    retroperitoneum = ellipse(stack.y - wall.spine_front_mm(subject) - 4, stack.x - 4, (46.0, 36.0))
    below = np.minimum(below, -retroperitoneum - 2 + 1.5 * stack.noise(rng, 12.0))
    value = np.where(stack.x < 30, np.float32(LIVER_HU), np.float32(SPLEEN_HU))
    lay_over(hu, value, stack.occupancy(below))
