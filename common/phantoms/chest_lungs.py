"""Lungs of the chest phantom: outline, parenchyma, emphysema and fissures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import chest_shape as shape
from .chest_stack import Stack, lay_over
from .chest_subject import ChestSubject
from .chest_wall import Wall
from .fields import FloatArray

PLEURA_MM, PLEURA_HU = 0.8, 15.0
GRAVITY_HU_PER_MM = 0.25  # supine: denser at the back
COARSE_TEXTURE_HU, FINE_TEXTURE_HU = 14.0, 16.0
HEALTHY_FLOOR_HU = -935.0  # of parenchyma without emphysema
EMPHYSEMA_LIMIT_HU = -950.0  # below it, lung counts as emphysema
EMPHYSEMA_HU = -985.0
EMPHYSEMA_EDGE = 0.12  # of the noise that shapes it, from the limit to its centre
FISSURE_HU = 180.0


def lung_distance(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, wall: Wall, vessels: FloatArray
) -> FloatArray:
    """(slices, rows, columns) distance in mm to the outline of the lungs, positive inside.

    Args:
        rng: for the irregularity.
        subject: the subject.
        stack: the grid.
        wall: of the same subject.
        vessels: signed distance to the great vessels, which the lungs spare.
    """
    z, y, x = stack.z, stack.y, stack.x
    septum = shape.mediastinum(subject, z, y, x) + 2.5 * stack.noise(rng, 20.0)
    outside = np.maximum(septum, shape.heart(subject, z, y, x) + shape.PERICARDIUM_MM)
    outside = np.maximum(outside, np.maximum(vessels + 2.0, shape.diaphragm(z, y, x)))
    return np.asarray(np.minimum(wall.cage, -outside) + 0.6 * stack.noise(rng, 6.0), dtype=np.float32)


def paint_lungs(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, hu: FloatArray, lung: FloatArray
) -> None:
    """Pleura and parenchyma; ``lung`` is the distance to the outline of the lungs."""
    lay_over(hu, PLEURA_HU, stack.occupancy(lung + PLEURA_MM))
    lay_over(hu, _parenchyma(rng, subject, stack, inside=lung > 0), stack.occupancy(lung))


def _parenchyma(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, inside: NDArray[np.bool_]
) -> FloatArray:
    """HU of the parenchyma: gravity, texture of two scales, emphysema and the major fissures."""
    gravity = subject.parenchyma_hu + GRAVITY_HU_PER_MM * (stack.y + 10)
    texture = COARSE_TEXTURE_HU * stack.noise(rng, 8.0) + FINE_TEXTURE_HU * stack.noise(rng, 1.0)
    hu = np.maximum(gravity + texture, HEALTHY_FLOOR_HU)
    tendency = _emphysema_tendency(rng, stack)
    if subject.emphysema_share > 0 and inside.any():
        threshold = np.quantile(tendency[inside], 1 - subject.emphysema_share)
        hu = _with_emphysema(hu, (tendency - threshold) / EMPHYSEMA_EDGE)
    fissure = np.abs(stack.y - 0.5 * (stack.z - 130) - 0.12 * np.abs(stack.x) - 4 * stack.noise(rng, 30.0))
    return hu + FISSURE_HU * stack.occupancy(0.4 - fissure, softness=1.5)


def _emphysema_tendency(rng: np.random.Generator, stack: Stack) -> FloatArray:
    """Noise that is highest where the parenchyma is destroyed: holes of some mm, in patches, rather at the front."""
    holes = stack.noise(rng, 2.2)
    return np.asarray(holes + 0.8 * stack.noise(rng, 22.0) - 0.004 * stack.y, dtype=np.float32)


def _with_emphysema(hu: FloatArray, excess: FloatArray) -> FloatArray:
    """Lower the parenchyma to the limit of emphysema where the excess is 0, and further where it is positive."""
    rim = np.clip(1 + 0.5 * excess, 0, 1)
    core = np.clip(excess, 0, 1)
    towards_limit = hu + (EMPHYSEMA_LIMIT_HU - hu) * rim
    return np.asarray(towards_limit + (EMPHYSEMA_HU - EMPHYSEMA_LIMIT_HU) * core, dtype=np.float32)
