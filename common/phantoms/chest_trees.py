"""Arteries, veins and airways of the chest phantom: space-filling trees from each hilum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from . import chest_shape as shape
from .chest_stack import Stack
from .chest_subject import ChestSubject
from .fields import FloatArray
from .trees import bend_segments, murray_radii, spanning_tree, tree_segments

SIDES = {"right": -1, "left": 1}  # sign of x
TWIGS_PER_BRANCH = 9  # mean
REACH_MM = 20.0  # of the twigs of a branch: twigs further from the slices are not grown
AIRWAY_WALL = (1.25, 0.45)  # outer radius: factor, and mm to add


@dataclass(frozen=True)
class TreeKind:
    """How a tree of one lung grows.

    Attributes:
        offset_mm: of its root from the hilum: z, y, and x away from the midline.
        branches: number of points that the branches connect.
        twig_mm: radius of the finest branches.
        exponent: of Murray's law.
        balance: weight of the path length, see `trees.spanning_tree`.
        clearance_mm: that the points keep from the pleura.
        largest_mm: radius.
        twigs: whether fine twigs are grown from the branches near the slices.
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
    """Position z, y, x of a lung's root; the left one stands higher."""
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
    """About ``count`` points (N, 3) in mm, uniform in a lung and ``clearance_mm`` from its surface."""
    half_x, half_y = shape.cage_half_axes_mm(subject, np.float32(160))
    box = np.array([[12.0, -half_y, 5.0], [222.0, half_y, 1.05 * half_x]])
    found: list[FloatArray] = []
    drawn, inside = 0, 0
    while inside < count and drawn < 40 * count:
        points = rng.uniform(box[0], box[1], (count, 3))
        points[:, 2] *= SIDES[side]
        found.append(points[shape.lung(subject, *points.T) > clearance_mm])
        drawn, inside = drawn + count, inside + len(found[-1])
    return np.concatenate(found)[:count]


def _grow(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, kind: TreeKind, side: str
) -> tuple[FloatArray, FloatArray]:
    """Segments (M, 2, 3) and radii (M,) in mm of one tree: branches everywhere, twigs near the slices."""
    away = np.array([1, 1, SIDES[side]])
    root = np.array(hilum_mm(side)) + away * kind.offset_mm
    points = points_in_lung(rng, subject, kind.branches, side=side, clearance_mm=kind.clearance_mm)
    parents = spanning_tree(root, points, balance=kind.balance)
    # A branch ends in as many twigs as its share of the lung holds.
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
    """A small tree from each branch point near the slices to the twig ends that are nearest to it."""
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
