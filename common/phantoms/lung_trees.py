"""Airways, arteries, veins and alveolar ducts of the lung phantom, around and through a block of lung."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .chest_stack import Stack
from .fields import FloatArray
from .trees import bend_segments, murray_radii, spanning_tree, tree_segments

MARGIN_MM = (5.4, 3.0, 3.0)  # z, y, x: the trees grow in a block that is this much larger on every side
ROOT_DISTANCE = 0.62  # of the airways' root from the centre, in fields of view
AIRWAY_WALL = (1.12, 0.07)  # outer radius: factor, and mm to add
ARTERY_SHIFT_MM = (0.2, 0.5, 0.5)  # from its airway, z, y, x; more beside a wide one
ARTERY_RADIUS = 0.85  # of its airway's
BEND = 0.1


@dataclass(frozen=True)
class TreeKind:
    """How a tree grows.

    Attributes:
        density: end points and branchings a mm^3.
        twig_mm: radius of the finest branches.
        exponent: of Murray's law; a high one gives branches of nearly equal width.
        balance: weight of the path length, see `trees.spanning_tree`.
        largest_mm: radius.
    """

    density: float
    twig_mm: float
    exponent: float
    balance: float
    largest_mm: float


AIRWAYS = TreeKind(density=0.0136, twig_mm=0.17, exponent=2.9, balance=0.5, largest_mm=1.1)
VEINS = TreeKind(density=0.0111, twig_mm=0.12, exponent=2.7, balance=0.4, largest_mm=0.9)
DUCTS = TreeKind(density=0.0863, twig_mm=0.22, exponent=9.0, balance=0.3, largest_mm=0.28)


@dataclass(frozen=True)
class LungTrees:
    """Signed distances (slices, rows, columns) in mm, positive inside."""

    lumina: FloatArray
    walls: FloatArray
    vessels: FloatArray
    ducts: FloatArray


def make_trees(rng: np.random.Generator, stack: Stack) -> LungTrees:
    """Grow the trees and draw what lies in the block: arteries along the airways, veins on their own."""
    half = _half_block_mm(stack)
    angle = rng.uniform(0, 2 * np.pi)
    root = ROOT_DISTANCE * stack.pixel_mm * stack.shape[2] * np.array([0, np.sin(angle), np.cos(angle)])
    segments, radii = _grow(rng, AIRWAYS, root, half)
    side = rng.choice([-1, 1], 3)
    arteries = segments + side * ARTERY_SHIFT_MM * (1 + radii[:, None, None])
    vein_root = half * [0, rng.choice([-0.9, 0.9]), rng.uniform(-0.6, 0.6)]
    veins, vein_radii = _grow(rng, VEINS, vein_root, half)
    factor, extra = AIRWAY_WALL
    return LungTrees(
        lumina=stack.tubes(segments, radii),
        walls=stack.tubes(segments, factor * radii + extra),
        vessels=stack.tubes(np.concatenate([arteries, veins]), np.concatenate([ARTERY_RADIUS * radii, vein_radii])),
        ducts=stack.tubes(*_grow(rng, DUCTS, root, half)),
    )


def _half_block_mm(stack: Stack) -> FloatArray:
    """Half the sides z, y, x of the block in which the trees grow."""
    sides = np.array(stack.shape) * [stack.slice_mm, stack.pixel_mm, stack.pixel_mm]
    return np.asarray(sides / 2 + MARGIN_MM)


def _grow(
    rng: np.random.Generator, kind: TreeKind, root: FloatArray, half_block_mm: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Segments (M, 2, 3) and radii (M,) in mm of a tree from ``root`` through a block around the origin."""
    count = max(2, round(kind.density * float(np.prod(2 * half_block_mm))))
    points = rng.uniform(-half_block_mm, half_block_mm, (count, 3))
    parents = spanning_tree(root, points, balance=kind.balance)
    radii = murray_radii(parents, leaf_radius=kind.twig_mm, exponent=kind.exponent)[1:]
    segments = bend_segments(rng, tree_segments(root, points, parents=parents), bend=BEND)
    return segments, np.tile(np.minimum(radii, kind.largest_mm), 2)
