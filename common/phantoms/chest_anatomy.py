"""Anatomy of the chest phantom: noise-free HU and labels of a stack of axial slices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .chest_bones import paint_bones
from .chest_lungs import EMPHYSEMA_LIMIT_HU, lung_distance, paint_lungs
from .chest_mediastinum import (
    Mediastinum,
    make_mediastinum,
    paint_abdomen,
    paint_airways,
    paint_mediastinum,
)
from .chest_nodules import paint_nodules
from .chest_stack import Stack, lay_over
from .chest_subject import ChestSubject
from .chest_trees import LungTrees, make_trees
from .chest_wall import make_wall, paint_couch, paint_wall
from .fields import FloatArray

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
BLOOD_MARGIN_MM = 3.0  # from its border: what is left is free of partial volume and blur


class Anatomy(NamedTuple):
    """What is known of a stack of slices: HU (slices, rows, columns) float32 and labels, uint8."""

    hu: FloatArray
    label: NDArray[np.uint8]


class Shares(NamedTuple):
    """Share of each voxel (slices, rows, columns) that structures in the lungs and the bones fill."""

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
    """Labels of ``LABEL_NAMES`` where a structure fills more than half of a voxel, 0 elsewhere."""
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
    """Vessels and airway walls in the lungs and at the hila; returns the occupancy of the vessels."""
    near_lung = stack.occupancy(lung + HILUM_MM)
    vessels = stack.occupancy(trees.vessels) * near_lung
    lay_over(hu, subject.blood_hu, vessels)
    lay_over(hu, AIRWAY_WALL_HU, stack.occupancy(trees.airway_walls) * near_lung)
    return vessels


def _blood_pool(subject: ChestSubject, stack: Stack, *, hu: FloatArray, organs: Mediastinum) -> NDArray[np.bool_]:
    """Voxels of heart and great vessels at least ``BLOOD_MARGIN_MM`` from anything that is not blood."""
    blood = (organs.blood > 0) & (np.abs(hu - subject.blood_hu) < 0.5)
    pixel = stack.pixel_mm
    return np.stack([ndimage.distance_transform_edt(plane, sampling=pixel) > BLOOD_MARGIN_MM for plane in blood])
