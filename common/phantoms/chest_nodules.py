"""Lung nodules of the chest phantom, solid and ground glass."""

from __future__ import annotations

import numpy as np

from .chest_stack import Stack, lay_over
from .chest_subject import ChestSubject
from .chest_trees import SIDES, points_in_lung
from .fields import FloatArray

RADIUS_MM = (2.5, 9.0)
CLEARANCE_MM = 8.0
GROUND_GLASS_SHARE, GROUND_GLASS_HU = 0.3, -450.0
SOLID_HU = (10.0, 60.0)
IRREGULARITY = 0.18  # of the radius


def paint_nodules(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, hu: FloatArray, inside: FloatArray
) -> FloatArray:
    """Nodules in some of the slices; returns their occupancy, as ``inside`` is that of the lung."""
    occupancy = np.zeros(stack.shape, dtype=np.float32)
    for _ in range(subject.nodules):
        side = str(rng.choice(list(SIDES)))
        radius = rng.uniform(*RADIUS_MM)
        ground_glass = rng.random() < GROUND_GLASS_SHARE
        value = GROUND_GLASS_HU if ground_glass else rng.uniform(*SOLID_HU)
        centre = _centre(rng, subject, stack, side)
        if centre is None:
            continue
        noise = stack.noise(rng, radius / 2)
        share = stack.occupancy(_ball(stack, centre, radius) + IRREGULARITY * radius * noise, softness=2)
        if ground_glass:
            share = share**2
        lay_over(hu, value, share * inside)
        np.maximum(occupancy, share * inside, out=occupancy)
    return occupancy


def _centre(rng: np.random.Generator, subject: ChestSubject, stack: Stack, side: str) -> FloatArray | None:
    """A point well inside a lung, moved to the nearest slice; None if the lung is too narrow there."""
    for point in points_in_lung(rng, subject, 200, side=side, clearance_mm=CLEARANCE_MM):
        distance = np.abs(stack.levels_mm - point[0])
        if distance.min() < max(stack.slice_mm, 5.0):
            return np.array([stack.levels_mm[distance.argmin()], point[1], point[2]])
    return None


def _ball(stack: Stack, centre: FloatArray, radius: float) -> FloatArray:
    squared = (stack.z - centre[0]) ** 2 + (stack.y - centre[1]) ** 2 + (stack.x - centre[2]) ** 2
    return np.asarray(radius - np.sqrt(squared), dtype=np.float32)
