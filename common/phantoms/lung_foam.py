"""Alveoli and lobules of the lung phantom: the cells of two Voronoi tessellations, and the sheets between them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from .chest_stack import Stack
from .fields import FloatArray
from .lung_subject import LungSubject

SEED_STEP = 0.9  # of a cell: distance of the lattice nodes that jitter makes the seeds
SEED_JITTER = 0.95  # of the step
SEED_MARGIN_STEPS = 2  # of seeds around the block
EMPHYSEMA_SIGMA_MM = 1.6
SURVIVING_SEEDS = 0.04  # share, in emphysema: cells are then about three times as wide
LOBULE_MM = 12.0
LOBULE_MARGIN_MM = (8.0, 4.0, 4.0)  # of seeds around the block
WAVE_SIGMA_MM, WAVE_MM = 1.5, 0.25
LOBULE_WAVE, ALVEOLUS_WAVE = 2.0, 0.25  # times WAVE_MM: how far faces are from plane
SHEET_RESPONSE_VOXELS = 0.65  # half the width of the triangular response through which a thin sheet is seen


class Foam(NamedTuple):
    """Distances (slices, rows, columns) in mm to the nearest face between two alveoli, and between two lobules."""

    alveoli: FloatArray
    lobules: FloatArray


def make_foam(rng: np.random.Generator, subject: LungSubject, stack: Stack) -> Foam:
    """Draw the seeds of alveoli and lobules and measure the distance to the faces between their cells."""
    points = np.stack(np.broadcast_arrays(stack.levels_mm[:, None, None], stack.y, stack.x), axis=-1)
    wave = np.stack([WAVE_MM * stack.noise(rng, WAVE_SIGMA_MM) for _ in range(3)], axis=-1)
    alveoli, lobules = alveolar_seeds(rng, subject, stack), _lobular_seeds(rng, stack)
    return Foam(
        alveoli=face_distance(alveoli, points + ALVEOLUS_WAVE * wave),
        lobules=face_distance(lobules, points + LOBULE_WAVE * wave),
    )


def face_distance(seeds: FloatArray, points: FloatArray) -> FloatArray:
    """Distance to the face between the cells of the two nearest seeds of a Voronoi tessellation.

    Args:
        seeds: (N, 3) positions, N >= 2.
        points: (slices, ..., 3) positions.

    Returns:
        (slices, ...) float32, 0 on a face; deep in a cell another face may be a little nearer.

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
    """Share of a voxel that a sheet fills, seen through a triangular response; exact also for a very thin one.

    Args:
        distance: to the middle of the sheet in mm, >= 0.
        half_thickness: of the sheet in mm, broadcast to ``distance``.
        voxel_mm: voxel size.

    Returns:
        occupancy in [0, 1], whose integral across the sheet is the sheet's thickness.

    Example:
        >>> sheet_occupancy(np.array([0.0, 0.5, 2.0]), 0.5, voxel_mm=1.0).round(2).tolist()
        [0.95, 0.5, 0.0]
    """
    response = SHEET_RESPONSE_VOXELS * voxel_mm
    near, far = distance - half_thickness, distance + half_thickness
    return np.asarray(_triangle_below(far / response) - _triangle_below(near / response))


def _triangle_below(position: FloatArray) -> FloatArray:
    """Share below ``position`` of a triangle of unit area on [-1, 1]."""
    inside = np.clip(position, -1, 1)
    return 0.5 + inside - 0.5 * inside * np.abs(inside)


def alveolar_seeds(rng: np.random.Generator, subject: LungSubject, stack: Stack) -> FloatArray:
    """(N, 3) positions z, y, x in mm in and around the block: a jittered lattice, thinned where emphysema is."""
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


def _lobular_seeds(rng: np.random.Generator, stack: Stack) -> FloatArray:
    """(N, 3) positions z, y, x in mm in and around the block, at random."""
    sides = np.array(stack.shape) * [stack.slice_mm, stack.pixel_mm, stack.pixel_mm]
    half = sides / 2 + LOBULE_MARGIN_MM
    count = max(6, int(np.prod(2 * half) / LOBULE_MM**3))
    return np.asarray(rng.uniform(-half, half, (count, 3)))
