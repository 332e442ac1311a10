"""Anatomy of the chest phantom: noise-free HU and labels of a stack of axial slices.

The lungs have parenchyma, emphysema, fissures and solid or ground-glass nodules; everything else is painted by
`wall` and `mediastinum`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..fields import FloatArray
from ..stack import Stack, lay_over
from .mediastinum import (
    SIDES,
    LungTrees,
    Mediastinum,
    make_mediastinum,
    make_trees,
    paint_abdomen,
    paint_airways,
    paint_mediastinum,
    points_in_lung,
)
from .subject import ChestSubject
from .wall import (
    PERICARDIUM_MM,
    Wall,
    diaphragm,
    heart_shape,
    make_wall,
    mediastinum_shape,
    paint_bones,
    paint_couch,
    paint_wall,
)

# Lungs.
PLEURA_MM, PLEURA_HU = 0.8, 15.0
GRAVITY_HU_PER_MM = 0.25  # supine: denser at the back
COARSE_TEXTURE_HU, FINE_TEXTURE_HU = 14.0, 16.0
HEALTHY_FLOOR_HU = -935.0  # lowest HU of parenchyma without emphysema
EMPHYSEMA_LIMIT_HU = -950.0  # below it, lung counts as emphysema
EMPHYSEMA_HU = -985.0
EMPHYSEMA_EDGE = 0.12  # change of the noise that shapes it, from the limit to its centre
FISSURE_HU = 180.0

# Nodules.
NODULE_RADIUS_MM = (2.5, 9.0)
CLEARANCE_MM = 8.0
GROUND_GLASS_SHARE, GROUND_GLASS_HU = 0.3, -450.0
SOLID_HU = (10.0, 60.0)
IRREGULARITY = 0.18  # relative to the radius

LABEL_NAMES = {
    1: "lung_parenchyma",
    2: "emphysema",
    3: "airway_lumen",
    4: "blood_pool",
    5: "lung_vessel",
    6: "nodule",
    7: "bone",
}
LABELS = {name: value for value, name in LABEL_NAMES.items()}

AIR_OUTSIDE_HU = -1000.0
HIGHEST_HU = 3071.0
AIRWAY_WALL_HU = 20.0
HILUM_MM = 14.0  # how far into the mediastinum the vessels of the lungs are drawn
BLOOD_MARGIN_MM = 3.0  # distance from its border beyond which there is no partial volume and no blur


def lung_distance(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, wall: Wall, vessels: FloatArray
) -> FloatArray:
    """Compute the distance (slices, rows, columns) in mm to the outline of the lungs, positive inside.

    Args:
        rng: Source of the irregularity.
        subject: Subject.
        stack: Voxel grid.
        wall: Chest wall of the same subject.
        vessels: Signed distance to the great vessels, which displace the lungs.
    """
    z, y, x = stack.z, stack.y, stack.x
    septum = mediastinum_shape(subject, z, y, x) + 2.5 * stack.noise(rng, 20.0)
    outside = np.maximum(septum, heart_shape(subject, z, y, x) + PERICARDIUM_MM)
    outside = np.maximum(outside, np.maximum(vessels + 2.0, diaphragm(z, y, x)))
    return np.asarray(np.minimum(wall.cage, -outside) + 0.6 * stack.noise(rng, 6.0), dtype=np.float32)


def paint_lungs(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, hu: FloatArray, lung: FloatArray
) -> None:
    """Paint pleura and parenchyma; `lung` is the distance to the outline of the lungs."""
    lay_over(hu, PLEURA_HU, stack.occupancy(lung + PLEURA_MM))
    lay_over(hu, _parenchyma(rng, subject, stack, inside=lung > 0), stack.occupancy(lung))


def _parenchyma(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, inside: NDArray[np.bool_]
) -> FloatArray:
    """Draw the HU of the parenchyma: gravity, texture at two scales, emphysema and the major fissures."""
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
    """Draw noise that is highest where the parenchyma is destroyed: holes of some mm, in patches, more in front."""
    holes = stack.noise(rng, 2.2)
    return np.asarray(holes + 0.8 * stack.noise(rng, 22.0) - 0.004 * stack.y, dtype=np.float32)


def _with_emphysema(hu: FloatArray, excess: FloatArray) -> FloatArray:
    """Lower the parenchyma to the limit of emphysema where the excess is 0, and further where it is positive."""
    rim = np.clip(1 + 0.5 * excess, 0, 1)
    core = np.clip(excess, 0, 1)
    towards_limit = hu + (EMPHYSEMA_LIMIT_HU - hu) * rim
    return np.asarray(towards_limit + (EMPHYSEMA_HU - EMPHYSEMA_LIMIT_HU) * core, dtype=np.float32)


def paint_nodules(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, hu: FloatArray, inside: FloatArray
) -> FloatArray:
    """Paint nodules in some of the slices and return their occupancy; `inside` is the occupancy of the lung."""
    occupancy = np.zeros(stack.shape, dtype=np.float32)
    for _ in range(subject.nodules):
        side = str(rng.choice(list(SIDES)))
        radius = rng.uniform(*NODULE_RADIUS_MM)
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
    """Draw a point well inside a lung, moved to the nearest slice; None if the lung is too narrow there."""
    for point in points_in_lung(rng, subject, 200, side=side, clearance_mm=CLEARANCE_MM):
        distance = np.abs(stack.levels_mm - point[0])
        if distance.min() < max(stack.slice_mm, 5.0):
            return np.array([stack.levels_mm[distance.argmin()], point[1], point[2]])
    return None


def _ball(stack: Stack, centre: FloatArray, radius: float) -> FloatArray:
    squared = (stack.z - centre[0]) ** 2 + (stack.y - centre[1]) ** 2 + (stack.x - centre[2]) ** 2
    return np.asarray(radius - np.sqrt(squared), dtype=np.float32)


class Anatomy(NamedTuple):
    """Ground truth of a stack of slices: HU (slices, rows, columns), float32, and labels, uint8."""

    hu: FloatArray
    label: NDArray[np.uint8]


class Shares(NamedTuple):
    """Fraction of each voxel (slices, rows, columns) filled by structures in the lungs and by bones."""

    lung: FloatArray
    vessels: FloatArray
    air: FloatArray
    nodules: FloatArray
    bones: FloatArray


def make_anatomy(rng: np.random.Generator, subject: ChestSubject, stack: Stack) -> Anatomy:
    """Paint a subject, from outside to inside."""
    hu = np.full(stack.shape, AIR_OUTSIDE_HU, dtype=np.float32)
    wall = make_wall(rng, subject, stack)
    organs = make_mediastinum(rng, subject, stack, cage=wall.cage)
    trees = make_trees(rng, subject, stack)
    lung = lung_distance(rng, subject, stack, wall=wall, vessels=organs.vessels)
    paint_wall(rng, subject, stack, hu=hu, wall=wall)
    paint_lungs(rng, subject, stack, hu=hu, lung=lung)
    vessels = _paint_lung_vessels(subject, stack, hu=hu, lung=lung, trees=trees)
    nodules = paint_nodules(rng, subject, stack, hu=hu, inside=stack.occupancy(lung))
    paint_abdomen(rng, subject, stack, hu=hu, cage=wall.cage, heart=organs.heart)
    paint_mediastinum(rng, subject, stack, hu=hu, organs=organs)
    air = paint_airways(stack, hu=hu, organs=organs, trees=trees)
    bones = paint_bones(rng, subject, stack, hu=hu, wall=wall)
    paint_couch(subject, stack, hu=hu, wall=wall)
    np.clip(hu, AIR_OUTSIDE_HU, HIGHEST_HU, out=hu)
    shares = Shares(stack.occupancy(lung), vessels, air, nodules, bones)
    return Anatomy(hu, label_map(hu, shares, blood=_blood_pool(subject, stack, hu=hu, organs=organs)))


def label_map(hu: FloatArray, shares: Shares, *, blood: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Assign labels of `LABEL_NAMES` where a structure fills more than half of a voxel, 0 elsewhere."""
    label = np.zeros(hu.shape, dtype=np.uint8)
    lung = shares.lung > 0.5
    label[lung] = LABELS["lung_parenchyma"]
    label[lung & (hu < EMPHYSEMA_LIMIT_HU)] = LABELS["emphysema"]
    label[lung & (shares.vessels > 0.5)] = LABELS["lung_vessel"]
    label[shares.nodules > 0.5] = LABELS["nodule"]
    label[shares.air > 0.5] = LABELS["airway_lumen"]
    label[blood] = LABELS["blood_pool"]
    label[shares.bones > 0.5] = LABELS["bone"]
    return label


def _paint_lung_vessels(
    subject: ChestSubject, stack: Stack, *, hu: FloatArray, lung: FloatArray, trees: LungTrees
) -> FloatArray:
    """Paint vessels and airway walls in the lungs and at the hila, and return the occupancy of the vessels."""
    near_lung = stack.occupancy(lung + HILUM_MM)
    vessels = stack.occupancy(trees.vessels) * near_lung
    lay_over(hu, subject.blood_hu, vessels)
    lay_over(hu, AIRWAY_WALL_HU, stack.occupancy(trees.airway_walls) * near_lung)
    return vessels


def _blood_pool(subject: ChestSubject, stack: Stack, *, hu: FloatArray, organs: Mediastinum) -> NDArray[np.bool_]:
    """Find voxels of heart and great vessels at least `BLOOD_MARGIN_MM` from anything that is not blood."""
    blood = (organs.blood > 0) & (np.abs(hu - subject.blood_hu) < 0.5)
    pixel = stack.pixel_mm
    return np.stack([ndimage.distance_transform_edt(plane, sampling=pixel) > BLOOD_MARGIN_MM for plane in blood])
