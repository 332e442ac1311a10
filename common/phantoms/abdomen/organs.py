"""Solid organs of the abdomen phantom: liver with focal lesions, gallbladder, spleen, pancreas and kidneys.

Kidneys have a cortex, pyramids of medulla, and fat in the sinus and around them. Lesions are cysts, hypovascular and
persistently enhancing lesions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..dataset import spread_evenly
from ..fields import FloatArray
from ..stack import Stack
from .canvas import LABELS, UNLABELLED, Canvas, bent_tube, ellipsoid
from .subject import SIDES, AbdomenSubject, Pelvis
from .wall import Body

# Liver, gallbladder and pancreas. Lobes: centre and half axes (z, y, x), and rotation in the plane.
RIGHT_LOBE = ((60.0, -4.0, -58.0), (105.0, 82.0, 74.0), 0.0)
LEFT_LOBE = ((40.0, -48.0, 8.0), (60.0, 36.0, 78.0), 0.12)
LOBES_BLEND_MM = 12.0
BILE_HU, GALLBLADDER_WALL_MM = 8.0, 1.6
GALLBLADDER, GALLBLADDER_TURN_RAD = ((98.0, -40.0, -50.0), (30.0, 20.0, 13.0)), 0.4  # centre and half axes
PANCREAS_RADII_MM = (13.0, 10.0, 9.0, 9.0, 8.0)
SPLEEN_BANDS_MM = 13.0
LIVER_TEXTURE_HU = ((2.5, 4.0), (9.0, 2.0))  # pairs of filter width in mm and SD in HU

# Kidneys.
KIDNEY_HALF_AXES_MM = (52.0, 30.0, 25.0)
KIDNEY_TURN_RAD = 0.5  # the hilum faces forward and towards the midline
CORTEX_MM = 6.0
PYRAMIDS = 7  # number around a section

# Lesions.
LESION_TYPES = ("cyst", "hypovascular_lesion", "enhancing_lesion")
TYPE_SHARE = 0.65  # fraction of patients with each type
LESION_RADIUS_MM = (6.0, 14.0)
SECOND_SHARE = 0.4  # fraction of patients with a type who have two lesions of it
CYST_HU = 6.0
DARKER_HU = (5.0, 18.0)  # how much darker than the liver before contrast
CORE_UPTAKE_HU, RIM_UPTAKE_HU, RIM_MM, RIM_STRENGTH = 20.0, 45.0, 2.5, 0.7
BRIGHTER_HU = (20.0, 50.0)  # how much brighter than the liver after contrast (no portal-venous washout here)
IRREGULARITY = 0.12  # relative to the radius
GAP_MM = 3.0  # smallest distance between two lesions


@dataclass(frozen=True)
class Organs:
    """Signed distances (slices, rows, columns) in mm, positive inside."""

    liver: FloatArray
    spleen: FloatArray
    pancreas: FloatArray


def make_organs(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, *, body: Body, kidneys: FloatArray
) -> Organs:
    """Draw the outlines of the organs inside the wall; none overlaps another or the `kidneys` (a distance)."""
    renal_fat = kidneys + 4 + 5 * subject.visceral_fat
    liver = _liver(rng, subject, stack, body=body, renal_fat=renal_fat)
    spleen = np.minimum(_spleen(rng, subject, stack), np.minimum(body.cavity - 3, -liver - 3))
    spleen = np.minimum(spleen, -renal_fat)
    pancreas = bent_tube(stack, subject.pancreas_mm, PANCREAS_RADII_MM, margin=8.0)
    pancreas = pancreas + 1.6 * stack.noise(rng, 4.0)  # lobulated
    return Organs(liver, spleen, np.minimum(pancreas, np.minimum(-liver - 1, -spleen - 1)))


def paint_organs(rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, o: Organs) -> None:
    """Paint spleen, pancreas and liver, each with its texture."""
    fine = stack.noise(rng, 2.5)
    spleen, enhanced_spleen = subject.hu("spleen")
    bands = subject.spleen_bands_hu * np.cos(2 * np.pi * o.spleen / SPLEEN_BANDS_MM + fine)  # along its outline
    canvas.paint((spleen, enhanced_spleen + bands), stack.occupancy(o.spleen), "spleen", texture=4 * fine)
    texture = 6 * stack.noise(rng, 4.0)
    canvas.paint(subject.hu("pancreas"), stack.occupancy(o.pancreas), "pancreas", texture=texture)
    texture = sum((sd * stack.noise(rng, width) for width, sd in LIVER_TEXTURE_HU), np.float32(0))
    canvas.paint(subject.hu("liver"), stack.occupancy(o.liver), "liver", texture=texture)


def paint_gallbladder(rng: np.random.Generator, stack: Stack, canvas: Canvas, body: Body) -> None:
    """Paint a pear of bile with a thin wall below the liver; no contrast agent reaches it in this phase."""
    _paint_bladder(rng, stack, canvas, body, bile_hu=BILE_HU, outline=GALLBLADDER)


def paint_second_gallbladder(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, body: Body
) -> None:
    """Paint a varied patient's gallbladder, which lies over the liver instead of below it."""
    if subject.gallbladder is not None:
        shift, scale, bile_hu = subject.gallbladder
        centre, half_axes = np.add(GALLBLADDER[0], shift), np.multiply(GALLBLADDER[1], scale)
        _paint_bladder(rng, stack, canvas, body, bile_hu=bile_hu, outline=(tuple(centre), tuple(half_axes)))


def _paint_bladder(
    rng: np.random.Generator, stack: Stack, canvas: Canvas, body: Body, *, bile_hu: float, outline: tuple[Any, Any]
) -> None:
    bladder = ellipsoid(stack, *outline, turn=GALLBLADDER_TURN_RAD) + 0.8 * stack.noise(rng, 8.0)
    bladder = np.minimum(bladder, body.cavity - 4)
    canvas.paint((40.0, 75.0), stack.occupancy(bladder), UNLABELLED)
    canvas.paint((bile_hu, bile_hu), stack.occupancy(bladder - GALLBLADDER_WALL_MM), UNLABELLED)


def points_in_liver(rng: np.random.Generator, count: int) -> FloatArray:
    """Draw about `count` points (N, 3) in mm, uniformly in the two lobes without their irregularity."""
    points = rng.uniform((0, -90, -130), (155, 80, 80), (8 * count, 3))
    inside = np.zeros(len(points), dtype=bool)
    for centre, half_axes, _ in (RIGHT_LOBE, LEFT_LOBE):
        inside |= (((points - centre) / (0.93 * np.array(half_axes))) ** 2).sum(axis=1) < 1
    return points[inside][:count]


def _liver(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, *, body: Body, renal_fat: FloatArray
) -> FloatArray:
    right, left = (ellipsoid(stack, c, axes, turn=turn) / LOBES_BLEND_MM for c, axes, turn in (RIGHT_LOBE, LEFT_LOBE))
    lobes = LOBES_BLEND_MM * np.logaddexp(right, left) - 4 + 3.5 * stack.noise(rng, 14.0)
    retroperitoneum = ellipsoid(stack, (60, subject.spine_y_mm - 6, 0), (300, 40, 44))
    outside = np.maximum.reduce([retroperitoneum + 2, renal_fat, _fissure(rng, stack)])
    return np.asarray(np.minimum(np.minimum(lobes, body.cavity - 2), -outside), dtype=np.float32)


def _fissure(rng: np.random.Generator, stack: Stack) -> FloatArray:
    """Draw the distance to the cleft of the round ligament, a wedge of fat that separates the lobes from the front."""
    tip, midline, slope = rng.uniform(-66, -46), rng.uniform(-14, 4), rng.uniform(-0.3, 0.3)
    half_width = np.clip(0.16 * (tip - stack.y), -4, 4)
    bend = midline + slope * (stack.y - tip) + 4 * stack.noise(rng, 10.0)
    return np.asarray(half_width - np.abs(stack.x - bend), dtype=np.float32)


def _spleen(rng: np.random.Generator, subject: AbdomenSubject, stack: Stack) -> FloatArray:
    """Draw the distance to the spleen, a crescent along the wall on the left."""
    w = subject.width
    outer = ellipsoid(stack, (52, 32, 94 * w), (62, 52, 36), turn=0.5) + 2 * stack.noise(rng, 12.0)
    hollow = ellipsoid(stack, (52, 8, 68 * w), (70, 42, 34), turn=0.4)
    return np.asarray(np.minimum(outer, -hollow), dtype=np.float32)


@dataclass(frozen=True)
class Kidney:
    """Signed distances (slices, rows, columns) in mm to one kidney and its sinus, and its centre z, y, x."""

    outline: FloatArray
    sinus: FloatArray
    centre_mm: tuple[float, float, float]

    @property
    def hilum_mm(self) -> tuple[float, float, float]:
        """Point at which the vessels enter."""
        z, y, x = self.centre_mm
        return z - 2, y - 12, x - np.sign(x) * 14


def make_kidneys(rng: np.random.Generator, subject: AbdomenSubject, stack: Stack) -> dict[str, Kidney]:
    """Draw both kidneys and return them by side."""
    kidneys = {}
    for side, sign in SIDES.items():
        z, before_spine, away = subject.kidney_centres_mm[side]
        y, x = subject.spine_y_mm + before_spine, sign * away * subject.width
        turn = sign * KIDNEY_TURN_RAD
        outline = ellipsoid(stack, (z, y, x), KIDNEY_HALF_AXES_MM, turn=turn) + 1.2 * stack.noise(rng, 8.0)
        inward = (z, y - 8, x - sign * 13)
        sinus = ellipsoid(stack, inward, (27, 11, 15), turn=turn) + 2.5 * stack.noise(rng, 4.0)
        kidneys[side] = Kidney(outline, sinus, (z, y, x))
    return kidneys


def paint_kidneys(
    rng: np.random.Generator,
    subject: AbdomenSubject,
    stack: Stack,
    canvas: Canvas,
    *,
    kidneys: dict[str, Kidney],
    body: Body,
    others: FloatArray,
) -> None:
    """Paint both kidneys in their fat; `others` is the distance to structures that this fat must not cover."""
    fat = (body.fat_hu, body.fat_hu)
    spared = stack.occupancy(-others) * stack.occupancy(body.cavity)
    for side, kidney in kidneys.items():
        capsule = stack.occupancy(kidney.outline + 8 * subject.visceral_fat + 2)
        canvas.paint(fat, capsule * spared, "fat")
        texture = 3 * stack.noise(rng, 3.0)
        canvas.paint(subject.hu("kidney_cortex"), stack.occupancy(kidney.outline), "kidney_cortex", texture=texture)
        pyramids = stack.occupancy(_pyramids(rng, stack, kidney), softness=1.5)
        canvas.paint(subject.hu("kidney_medulla"), pyramids, "kidney_medulla", texture=texture)
        sinus = stack.occupancy(np.minimum(kidney.sinus, kidney.outline + 2), softness=2.0)
        canvas.paint(fat, sinus, "fat")
        if side in subject.pelvis:
            _paint_pelvis(rng, stack, canvas, kidney=kidney, pelvis=subject.pelvis[side])


def _paint_pelvis(rng: np.random.Generator, stack: Stack, canvas: Canvas, *, kidney: Kidney, pelvis: Pelvis) -> None:
    """Paint the urine of the collecting system, and its stone."""
    urine = stack.occupancy(np.minimum(kidney.sinus + pelvis.beyond_mm, kidney.outline - CORTEX_MM))
    canvas.paint((pelvis.urine_hu, pelvis.urine_hu), urine, UNLABELLED)
    if pelvis.stone is not None:
        radius, hu = pelvis.stone
        z, y, x = kidney.centre_mm
        place = (z + rng.uniform(-15, 15), y - 8 + rng.uniform(-6, 6), x - np.sign(x) * (10 + rng.uniform(-6, 6)))
        stone = ellipsoid(stack, place, (radius, radius, radius))
        canvas.paint((hu, hu), stack.occupancy(np.minimum(stone, kidney.outline - 1)), UNLABELLED)


def _pyramids(rng: np.random.Generator, stack: Stack, kidney: Kidney) -> FloatArray:
    """Compute the distance to the medulla: cones with their tips at the sinus, separated by columns of cortex."""
    z, y, x = kidney.centre_mm
    angle = np.arctan2(stack.y - y, stack.x - x) + 0.3 * stack.noise(rng, 9.0)
    around = np.cos(PYRAMIDS * angle + rng.uniform(0, 2 * np.pi))
    along = np.cos(2 * np.pi * (stack.z - z) / 26 + rng.uniform(0, 2 * np.pi) + stack.noise(rng, 14.0))
    depth = kidney.outline - CORTEX_MM
    cones = 3.5 * around + 1.5 * along + 2.5 - 0.15 * depth
    return np.asarray(np.minimum(np.minimum(depth, cones), -kidney.sinus), dtype=np.float32)


def lesion_types(patient: int, *, seed: int, task: int) -> tuple[str, ...]:
    """Return the one or two types of lesion in a patient's liver; of any two neighbours at least one has each type.

    Every split of two patients or more therefore has all types for every seed, see `dataset.spread_evenly`.
    """
    offset = spread_evenly(patient, seed=seed, task=task)
    return tuple(
        name for index, name in enumerate(LESION_TYPES) if (offset + index / len(LESION_TYPES)) % 1 < TYPE_SHARE
    )


def paint_lesions(
    rng: np.random.Generator,
    subject: AbdomenSubject,
    stack: Stack,
    canvas: Canvas,
    *,
    types: tuple[str, ...],
    within: slice,
) -> None:
    """Paint one or two lesions of each type, centred in the liver in the slices `within`."""
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
    """Paint one lesion, and remove its surroundings from the places that are `free` for further ones."""
    radius = rng.uniform(*LESION_RADIUS_MM)
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
    free &= distance < -LESION_RADIUS_MM[0] - GAP_MM


def _centre(
    rng: np.random.Generator, stack: Stack, free: NDArray[np.bool_], *, clearance_mm: float
) -> tuple[float, float, float] | None:
    """Draw a free place at least `clearance_mm` from any place in its slice that is not free, or the farthest one."""
    if not free.any():
        return None
    room = np.zeros(free.shape)
    for level in np.flatnonzero(free.any(axis=(1, 2))):
        room[level] = ndimage.distance_transform_edt(free[level], sampling=stack.pixel_mm)
    places = np.argwhere(room >= min(clearance_mm, room.max()))
    level, row, column = places[rng.integers(len(places))]
    return float(stack.levels_mm[level]), float(stack.y[0, row, 0]), float(stack.x[0, 0, column])


def _values(rng: np.random.Generator, subject: AbdomenSubject, name: str) -> tuple[float, float]:
    """Draw the HU of a lesion (of its core) before and after contrast."""
    liver, enhanced_liver = subject.hu("liver")
    plain, brighter = liver - rng.uniform(*DARKER_HU), rng.uniform(*BRIGHTER_HU)
    if name == "cyst":
        return CYST_HU, CYST_HU
    if name == "hypovascular_lesion":
        return plain, plain + CORE_UPTAKE_HU * subject.dose
    return plain, enhanced_liver + brighter
