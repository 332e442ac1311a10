"""Focal lesions in the liver of the abdomen phantom: cysts, hypovascular and persistently enhancing lesions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .abdomen_canvas import LABELS, Canvas, ellipsoid
from .abdomen_subject import AbdomenSubject
from .chest_stack import Stack

TYPES = ("cyst", "hypovascular_lesion", "enhancing_lesion")
TYPE_SHARE = 0.65  # of the patients, for each type
GOLDEN_RATIO = (5**0.5 - 1) / 2
RADIUS_MM = (6.0, 14.0)
SECOND_SHARE = 0.4  # of the patients with a type have two lesions of it
CYST_HU = 6.0
DARKER_HU = (5.0, 18.0)  # than the liver, before contrast
CORE_UPTAKE_HU, RIM_UPTAKE_HU, RIM_MM, RIM_STRENGTH = 20.0, 45.0, 2.5, 0.7
BRIGHTER_HU = (20.0, 50.0)  # than the liver after contrast: portal-venous washout would be the rule, but not here
IRREGULARITY = 0.12  # of the radius
GAP_MM = 3.0  # between two lesions


def lesion_types(patient: int, *, seed: int, task: int) -> tuple[str, ...]:
    """Types of lesion in a patient's liver, one or two: of any two neighbours at least one has each type.

    A golden-ratio sequence with an offset from the seed, so that every split of two patients or more has all types
    for every seed.
    """
    offset = np.random.default_rng([task, seed]).random() + patient * GOLDEN_RATIO
    return tuple(name for index, name in enumerate(TYPES) if (offset + index / len(TYPES)) % 1 < TYPE_SHARE)


def paint_lesions(
    rng: np.random.Generator,
    subject: AbdomenSubject,
    stack: Stack,
    canvas: Canvas,
    *,
    types: tuple[str, ...],
    within: slice,
) -> None:
    """One or two lesions of each type, centred in the liver in the slices ``within``."""
    liver = canvas.label == LABELS["liver"]
    free = np.zeros(stack.shape, dtype=bool)
    free[within] = liver[within]
    inside = liver | np.isin(canvas.label, (LABELS["portal_vein"], LABELS["hepatic_veins"]))
    for name in types:
        for _ in range(1 + (rng.random() < SECOND_SHARE)):
            _paint_lesion(rng, subject, stack, canvas, name=name, free=free, inside=inside)


def _paint_lesion(
    rng: np.random.Generator,
    subject: AbdomenSubject,
    stack: Stack,
    canvas: Canvas,
    *,
    name: str,
    free: NDArray[np.bool_],
    inside: NDArray[np.bool_],
) -> None:
    """Paint one lesion, and take its surroundings from the places that are ``free`` for further ones."""
    radius = rng.uniform(*RADIUS_MM)
    centre = _centre(rng, stack, free, clearance_mm=0.8 * radius)
    half_axes = (radius, radius * rng.uniform(0.8, 1.2), radius * rng.uniform(0.8, 1.2))
    values = _values(rng, subject, name)
    irregularity = IRREGULARITY * radius * stack.noise(rng, radius / 2)
    if centre is None:
        return
    distance = ellipsoid(stack, centre, half_axes) + irregularity
    share = stack.occupancy(distance) * inside
    canvas.paint(values, share, name)
    if name == "hypovascular_lesion":
        rim = RIM_STRENGTH * share * stack.occupancy(RIM_MM - distance)
        canvas.paint((values[0], values[0] + RIM_UPTAKE_HU * subject.dose), rim, name)
    free &= distance < -RADIUS_MM[0] - GAP_MM


def _centre(
    rng: np.random.Generator, stack: Stack, free: NDArray[np.bool_], *, clearance_mm: float
) -> tuple[float, float, float] | None:
    """A free place at least ``clearance_mm`` from what is not free in its slice, or the one furthest from it."""
    if not free.any():
        return None
    room = np.zeros(free.shape)
    for level in np.flatnonzero(free.any(axis=(1, 2))):
        room[level] = ndimage.distance_transform_edt(free[level], sampling=stack.pixel_mm)
    places = np.argwhere(room >= min(clearance_mm, room.max()))
    level, row, column = places[rng.integers(len(places))]
    return float(stack.levels_mm[level]), float(stack.y[0, row, 0]), float(stack.x[0, 0, column])


def _values(rng: np.random.Generator, subject: AbdomenSubject, name: str) -> tuple[float, float]:
    """HU of a lesion (of its core) before and after contrast."""
    liver, enhanced_liver = subject.hu("liver")
    plain, brighter = liver - rng.uniform(*DARKER_HU), rng.uniform(*BRIGHTER_HU)
    if name == "cyst":
        return CYST_HU, CYST_HU
    if name == "hypovascular_lesion":
        return plain, plain + CORE_UPTAKE_HU * subject.dose
    return plain, enhanced_liver + brighter
