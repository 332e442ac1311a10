"""Anatomy of the lung phantom: how much tissue each micro voxel holds, and of which structure.

Alveoli and lobules are the cells of two Voronoi tessellations with sheets between them. Airways, arteries, veins and
alveolar ducts are trees around and through the block. A tumour has a solid core and a lepidic rim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..fields import FloatArray
from ..stack import Stack, soft_occupancy
from ..trees import bend_segments, murray_radii, spanning_tree, tree_segments
from .imaging import LungSubject

# Alveoli and lobules.
SEED_STEP = 0.9  # distance between lattice nodes in cells; jittered nodes are the seeds
SEED_JITTER = 0.95  # relative to the step
SEED_MARGIN_STEPS = 2  # margin of seeds around the block
EMPHYSEMA_SIGMA_MM = 1.6
SURVIVING_SEEDS = 0.04  # fraction in emphysema: cells are then about three times as wide
LOBULE_MM = 12.0
LOBULE_MARGIN_MM = (8.0, 4.0, 4.0)  # margin of seeds around the block
WAVE_SIGMA_MM, WAVE_MM = 1.5, 0.25
LOBULE_WAVE, ALVEOLUS_WAVE = 2.0, 0.25  # times WAVE_MM: how far faces deviate from planes
SHEET_RESPONSE_VOXELS = 0.65  # half the width of the triangular response through which a thin sheet is seen

# Trees.
MARGIN_MM = (5.4, 3.0, 3.0)  # z, y, x: the trees grow in a block that is this much larger on every side
ROOT_DISTANCE = 0.62  # distance of the airways' root from the centre in fields of view
AIRWAY_WALL = (1.12, 0.07)  # outer radius: factor, and mm to add
ARTERY_SHIFT_MM = (0.2, 0.5, 0.5)  # offset from its airway (z, y, x); larger beside a wide one
ARTERY_RADIUS = 0.85  # relative to its airway
BEND = 0.1

LABEL_NAMES = {1: "vessel", 2: "bronchial_wall", 3: "septum", 4: "tumour", 5: "bronchial_lumen", 6: "alveolar_wall"}
LABELS = {name: value for value, name in LABEL_NAMES.items()}
ALVEOLAR_WALL_SHARE = 0.2  # fraction of a voxel from which it is labelled: alveolar walls are thinner than a voxel

WALL_VARIATION, WALL_SIGMA_MM, THINNEST_WALL_MM = 0.3, 1.0, 0.004
DUCT_OPENING = 0.93  # fraction of the alveolar walls that is missing in a duct
TEXTURE, TEXTURE_SIGMA_MM = 0.05, 0.2
HIGHEST_OCCUPANCY = 1.2

# Tumour.
TUMOUR_CENTRE = 0.25  # largest distance from the middle, in fields of view
TUMOUR_BUMPS = ((0.9, 0.12), (2.5, 0.2))  # bumps of its surface: filter width in mm, amplitude in radii
TUMOUR_EDGE_MM = 0.15  # half the width of its edge
TUMOUR_LEVEL, TUMOUR_TEXTURE, TUMOUR_TEXTURE_SIGMA_MM = 0.97, 0.12, 0.25
LEPIDIC_MM, LEPIDIC_REACH = 0.075, 0.45  # thickening of walls at its surface; decay, in radii
FILLED_BRONCHUS = 0.6  # occupancy of a bronchus in it


class Foam(NamedTuple):
    """Distances (slices, rows, columns) in mm to the nearest face between two alveoli, and between two lobules."""

    alveoli: FloatArray
    lobules: FloatArray


def make_foam(rng: np.random.Generator, subject: LungSubject, stack: Stack, *, lobule_mm: float = LOBULE_MM) -> Foam:
    """Draw the seeds of alveoli and lobules and measure the distance to the faces between their cells."""
    points = np.stack(np.broadcast_arrays(stack.levels_mm[:, None, None], stack.y, stack.x), axis=-1)
    wave = np.stack([WAVE_MM * stack.noise(rng, WAVE_SIGMA_MM) for _ in range(3)], axis=-1)
    alveoli, lobules = alveolar_seeds(rng, subject, stack), _lobular_seeds(rng, stack, lobule_mm)
    return Foam(
        alveoli=face_distance(alveoli, points + ALVEOLUS_WAVE * wave),
        lobules=face_distance(lobules, points + LOBULE_WAVE * wave),
    )


def face_distance(seeds: FloatArray, points: FloatArray) -> FloatArray:
    """Compute the distance to the face between the cells of the two nearest seeds of a Voronoi tessellation.

    Args:
        seeds: Positions (N, 3), N >= 2.
        points: Positions (slices, ..., 3).

    Returns:
        Distance (slices, ...), float32, 0 on a face; deep in a cell another face may be slightly nearer.

    Example:
        >>> seeds = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
        >>> face_distance(seeds, np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.75]])).tolist()
        [1.0, 0.25]
    """
    tree = cKDTree(seeds)
    distance = np.empty(points.shape[:-1], dtype=np.float32)
    for index, plane in enumerate(points):  # a plane at a time, to bound the memory
        (first, second), (one, other) = (np.moveaxis(found, -1, 0) for found in tree.query(plane, k=2))
        apart = np.linalg.norm(seeds[other] - seeds[one], axis=-1)
        distance[index] = (second**2 - first**2) / (2 * apart)
    return distance


def sheet_occupancy(distance: FloatArray, half_thickness: FloatArray | float, *, voxel_mm: float) -> FloatArray:
    """Compute the fraction of a voxel that a sheet fills, seen through a triangular response.

    It is exact also for a very thin sheet.

    Args:
        distance: Distance to the middle of the sheet in mm, >= 0.
        half_thickness: Half the thickness of the sheet in mm, broadcast to `distance`.
        voxel_mm: Voxel size.

    Returns:
        Occupancy in [0, 1], whose integral across the sheet is the sheet's thickness.

    Example:
        >>> sheet_occupancy(np.array([0.0, 0.5, 2.0]), 0.5, voxel_mm=1.0).round(2).tolist()
        [0.95, 0.5, 0.0]
    """
    response = SHEET_RESPONSE_VOXELS * voxel_mm
    near, far = distance - half_thickness, distance + half_thickness
    return np.asarray(_triangle_below(far / response) - _triangle_below(near / response))


def _triangle_below(position: FloatArray) -> FloatArray:
    """Return the fraction below `position` of a triangle of unit area on [-1, 1]."""
    inside = np.clip(position, -1, 1)
    return 0.5 + inside - 0.5 * inside * np.abs(inside)


def alveolar_seeds(rng: np.random.Generator, subject: LungSubject, stack: Stack) -> FloatArray:
    """Draw seeds (N, 3) (z, y, x) in mm in and around the block: a jittered lattice, thinned by emphysema."""
    step = SEED_STEP * subject.cell_mm
    spacing = np.array([stack.slice_mm, stack.pixel_mm, stack.pixel_mm])
    first = np.array([axis.min() for axis in (stack.levels_mm, stack.y, stack.x)])
    margin = SEED_MARGIN_STEPS * step
    axes = [
        np.arange(a - margin, a + n * s + margin, step) for a, n, s in zip(first, stack.shape, spacing, strict=True)
    ]
    seeds = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    seeds += SEED_JITTER * step * rng.uniform(-0.5, 0.5, seeds.shape)
    field, survival = stack.noise(rng, EMPHYSEMA_SIGMA_MM), rng.random(len(seeds))
    if subject.emphysema == 0:
        return seeds
    healthy = field < np.quantile(field, 1 - subject.emphysema)
    voxels = np.clip(np.rint((seeds - first) / spacing).astype(int), 0, np.array(stack.shape) - 1)
    return np.asarray(seeds[healthy[tuple(voxels.T)] | (survival < SURVIVING_SEEDS)])


def _lobular_seeds(rng: np.random.Generator, stack: Stack, lobule_mm: float) -> FloatArray:
    """Draw seeds (N, 3) (z, y, x) in mm uniformly in and around the block."""
    sides = np.array(stack.shape) * [stack.slice_mm, stack.pixel_mm, stack.pixel_mm]
    half = sides / 2 + LOBULE_MARGIN_MM
    count = max(6, int(np.prod(2 * half) / lobule_mm**3))
    return np.asarray(rng.uniform(-half, half, (count, 3)))


@dataclass(frozen=True)
class TreeKind:
    """Growth of one kind of tree.

    Attributes:
        density: Number of end points and branchings per mm^3.
        twig_mm: Radius of the finest branches.
        exponent: Exponent of Murray's law; a high one gives branches of nearly equal width.
        balance: Weight of the path length, see `trees.spanning_tree`.
        largest_mm: Largest radius.
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
class Growth:
    """How the trees and lobules of a block grow.

    Attributes:
        airways: Airways, beside which the arteries run.
        veins: Veins.
        airway_wall: Outer radius of an airway: a factor of its inner one, and mm to add.
        adjacent: Whether arteries touch their airways from outside, however wide; else wide ones overlap.
        lobule_mm: Width of the lobules, between which the septa lie.
    """

    airways: TreeKind = AIRWAYS
    veins: TreeKind = VEINS
    airway_wall: tuple[float, float] = AIRWAY_WALL
    adjacent: bool = False
    lobule_mm: float = LOBULE_MM


@dataclass(frozen=True)
class LungTrees:
    """Signed distances (slices, rows, columns) in mm, positive inside."""

    lumina: FloatArray
    walls: FloatArray
    vessels: FloatArray
    ducts: FloatArray


def make_trees(rng: np.random.Generator, stack: Stack, growth: Growth) -> LungTrees:
    """Grow the trees and draw what lies in the block: arteries along the airways, veins on their own."""
    half = _half_block_mm(stack)
    angle = rng.uniform(0, 2 * np.pi)
    root = ROOT_DISTANCE * stack.pixel_mm * stack.shape[2] * np.array([0, np.sin(angle), np.cos(angle)])
    segments, radii = _grow(rng, growth.airways, root, half)
    factor, extra = growth.airway_wall
    side = rng.choice([-1, 1], 3)
    shift = side * ARTERY_SHIFT_MM
    apart = (factor + ARTERY_RADIUS) * radii + extra  # between the axes of an airway and an artery that touch
    reach = apart / np.linalg.norm(shift) if growth.adjacent else 1 + radii
    arteries = segments + shift * reach[:, None, None]
    vein_root = half * [0, rng.choice([-0.9, 0.9]), rng.uniform(-0.6, 0.6)]
    veins, vein_radii = _grow(rng, growth.veins, vein_root, half)
    return LungTrees(
        lumina=stack.tubes(segments, radii),
        walls=stack.tubes(segments, factor * radii + extra),
        vessels=stack.tubes(np.concatenate([arteries, veins]), np.concatenate([ARTERY_RADIUS * radii, vein_radii])),
        ducts=stack.tubes(*_grow(rng, DUCTS, root, half)),
    )


def _half_block_mm(stack: Stack) -> FloatArray:
    """Return half the sides (z, y, x) of the block in which the trees grow."""
    sides = np.array(stack.shape) * [stack.slice_mm, stack.pixel_mm, stack.pixel_mm]
    return np.asarray(sides / 2 + MARGIN_MM)


def _grow(
    rng: np.random.Generator, kind: TreeKind, root: FloatArray, half_block_mm: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Grow a tree from `root` through a block around the origin: segments (M, 2, 3) and radii (M,) in mm."""
    count = max(2, round(kind.density * float(np.prod(2 * half_block_mm))))
    points = rng.uniform(-half_block_mm, half_block_mm, (count, 3))
    parents = spanning_tree(root, points, balance=kind.balance)
    radii = murray_radii(parents, leaf_radius=kind.twig_mm, exponent=kind.exponent)[1:]
    segments = bend_segments(rng, tree_segments(root, points, parents=parents), bend=BEND)
    return segments, np.tile(np.minimum(radii, kind.largest_mm), 2)


class Anatomy(NamedTuple):
    """Block of lung.

    Attributes:
        occupancy: Tissue in each voxel (slices, rows, columns), 0 (air) to about 1, with its texture up to 1.2.
        label: Values of `LABEL_NAMES`, 0 for air; uint8.
    """

    occupancy: FloatArray
    label: NDArray[np.uint8]


class Tumour(NamedTuple):
    """Occupancy of the solid core, and what the growth along its rim adds to half the thickness of walls in mm."""

    solid: FloatArray
    thickening_mm: FloatArray


def make_anatomy(
    rng: np.random.Generator, subject: LungSubject, stack: Stack, *, growth: Growth | None = None
) -> Anatomy:
    """Fill a block with foam, trees and tumour, uniting overlapping tissue and cutting airways and ducts into it."""
    growth = growth or Growth()
    tumour = _make_tumour(rng, subject, stack)
    trees = make_trees(rng, stack, growth)
    foam = make_foam(rng, subject, stack, lobule_mm=growth.lobule_mm)
    variation = 1 + WALL_VARIATION * stack.noise(rng, WALL_SIGMA_MM)
    walls_mm = np.maximum((subject.wall_mm + tumour.thickening_mm) * variation, THINNEST_WALL_MM)
    septum = subject.septum_mm - foam.lobules
    occupancy = sheet_occupancy(foam.alveoli, walls_mm, voxel_mm=stack.pixel_mm)
    occupancy *= 1 - DUCT_OPENING * stack.occupancy(trees.ducts)
    bronchial = stack.occupancy(trees.walls)
    occupancy = np.maximum.reduce([occupancy, stack.occupancy(septum), tumour.solid, bronchial])
    occupancy *= 1 - stack.occupancy(trees.lumina) * (1 - FILLED_BRONCHUS * tumour.solid)
    occupancy = np.maximum(occupancy, stack.occupancy(trees.vessels))
    label = _label(occupancy, trees=trees, septum=septum, solid=tumour.solid)
    texture = 1 + TEXTURE * stack.noise(rng, TEXTURE_SIGMA_MM)
    return Anatomy(np.clip(occupancy * texture, 0, HIGHEST_OCCUPANCY).astype(np.float32), label)


def _label(occupancy: FloatArray, *, trees: LungTrees, septum: FloatArray, solid: FloatArray) -> NDArray[np.uint8]:
    """Make the label map; of structures at the same place the later one wins."""
    label = np.zeros(occupancy.shape, dtype=np.uint8)
    label[occupancy > ALVEOLAR_WALL_SHARE] = LABELS["alveolar_wall"]
    label[septum > 0] = LABELS["septum"]
    label[trees.walls > 0] = LABELS["bronchial_wall"]
    label[trees.lumina > 0] = LABELS["bronchial_lumen"]
    label[trees.vessels > 0] = LABELS["vessel"]
    label[solid > 0.5] = LABELS["tumour"]
    return label


def _make_tumour(rng: np.random.Generator, subject: LungSubject, stack: Stack) -> Tumour:
    """Draw a solid tumour with a lepidic rim, where tumour cells line the alveolar walls and thicken them."""
    if subject.tumour_share is None:
        nothing = np.zeros(stack.shape, dtype=np.float32)
        return Tumour(nothing, nothing)
    field_mm = stack.shape[2] * stack.pixel_mm
    radius = subject.tumour_radius_mm(field_mm)
    z, (y, x) = rng.choice(stack.levels_mm), TUMOUR_CENTRE * field_mm * rng.uniform(-1, 1, 2)
    from_centre = np.sqrt((stack.z - z) ** 2 + (stack.y - y) ** 2 + (stack.x - x) ** 2)
    surface = (radius - from_centre).astype(np.float32)
    for sigma_mm, amplitude in TUMOUR_BUMPS:
        surface += np.float32(amplitude * radius) * stack.noise(rng, sigma_mm)
    texture = TUMOUR_LEVEL + TUMOUR_TEXTURE * stack.noise(rng, TUMOUR_TEXTURE_SIGMA_MM)
    thickening = LEPIDIC_MM * np.exp(np.minimum(surface, 0) / (LEPIDIC_REACH * radius))
    return Tumour(soft_occupancy(surface, TUMOUR_EDGE_MM) * np.clip(texture, 0, 1), thickening.astype(np.float32))
