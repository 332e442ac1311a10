"""Mediastinum of the chest phantom: heart, great vessels, trachea, oesophagus, and the organs below the diaphragm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from . import chest_shape as shape
from .chest_stack import Stack, ellipse, lay_over
from .chest_subject import ChestSubject
from .chest_trees import LungTrees, hilum_mm
from .fields import FloatArray

Path = tuple[tuple[float, float, float], ...]

REFERENCE_AORTA_MM = 15.0  # radius at which the radii below hold
# Great vessels: radius in mm and course (z, y, x). The aorta's descending part depends on the spine.
GREAT_VESSELS: Mapping[str, tuple[float, Path]] = {
    "ascending aorta": (15.0, ((160, -18, 4), (128, -30, -7), (98, -30, -8))),
    "aortic arch": (13.0, ((98, -30, -8), (86, -22, 8), (82, 4, 26), (88, 28, 27))),
    "superior vena cava": (9.0, ((66, -22, -22), (160, -16, -27))),
    "inferior vena cava": (12.0, ((172, 18, -26), (250, 26, -28))),
    "pulmonary trunk": (13.5, ((146, -34, 20), (124, -32, 22), (112, -14, 24))),
    "right pulmonary artery": (10.0, ((112, -14, 22), (118, -6, -6), (121, 0, -30))),
    "left pulmonary artery": (10.0, ((112, -14, 24), (111, 6, 36))),
    "right pulmonary vein": (7.0, ((146, 8, -6), (141, 6, -36))),
    "left pulmonary vein": (7.0, ((142, 10, 10), (136, 6, 38))),
    "left brachiocephalic vein": (6.0, ((56, -26, 30), (68, -36, 8), (78, -26, -20))),
    "right brachiocephalic vein": (7.0, ((40, -14, -32), (68, -22, -23))),
    "brachiocephalic artery": (6.5, ((30, -4, -18), (82, -20, 2))),
    "left carotid artery": (4.5, ((30, -6, 14), (82, -12, 14))),
    "left subclavian artery": (5.5, ((30, 12, 26), (82, 4, 24))),
}
CARINA_MM = (102.0, 15.0, 0.0)
TRACHEA_WALL_MM, TRACHEA_WALL_HU = 1.6, 35.0
AIR_HU = -995.0
EPICARDIAL_FAT_MM, EPICARDIAL_FAT_HU = 4.0, -90.0
PERICARDIUM_HU = 20.0
OESOPHAGUS_HU = 38.0
LIVER_HU, SPLEEN_HU = 58.0, 48.0


@dataclass(frozen=True)
class Mediastinum:
    """Signed distances (slices, rows, columns) in mm, positive inside.

    Attributes:
        heart: to the heart.
        vessels: to the great vessels.
        lumen: to the lumina of trachea and main bronchi.
        oesophagus: to the oesophagus.
    """

    heart: FloatArray
    vessels: FloatArray
    lumen: FloatArray
    oesophagus: FloatArray

    @property
    def blood(self) -> FloatArray:
        """Distance to the outline of all blood outside the lungs."""
        return np.maximum(self.heart, self.vessels)


def make_mediastinum(rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, cage: FloatArray) -> Mediastinum:
    """Draw the outlines inside a rib cage."""
    heart = shape.heart(subject, stack.z, stack.y, stack.x) + 1.5 * stack.noise(rng, 15.0)
    scale = subject.ascending_aorta_mm / REFERENCE_AORTA_MM
    spine = shape.spine_front_mm(subject)
    descending: Path = ((88, 28, 27), (106, spine - 17, 27), (180, spine - 22, 21), (250, spine - 28, 8))
    paths = [*GREAT_VESSELS.values(), (11.5, descending)]
    vessels = np.maximum.reduce([stack.path(path, scale * radius) for radius, path in paths])
    trachea = [stack.path(((-30, 8, 0), CARINA_MM), subject.trachea_mm)]
    bronchi = [stack.path((CARINA_MM, hilum_mm(side)), 0.7 * subject.trachea_mm) for side in ("right", "left")]
    gullet = stack.path(((-30, 28, 3), (100, spine - 26, 4), (180, spine - 30, 6), (250, spine - 44, 20)), 7.0)
    return Mediastinum(
        heart=np.minimum(heart, cage - 3.0).astype(np.float32),
        vessels=vessels + 0.4 * stack.noise(rng, 6.0),
        lumen=np.maximum.reduce([*trachea, *bronchi]),
        oesophagus=gullet + 0.8 * stack.noise(rng, 6.0),
    )


def paint_mediastinum(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, hu: FloatArray, organs: Mediastinum
) -> None:
    """Heart in its fat, great vessels, oesophagus."""
    lay_over(hu, PERICARDIUM_HU, stack.occupancy(organs.heart + shape.PERICARDIUM_MM + 1.0))
    lay_over(hu, EPICARDIAL_FAT_HU, stack.occupancy(organs.heart + shape.PERICARDIUM_MM))
    # Fat is thick in the grooves between the chambers and thin over the ventricles.
    grooves = 1.5 * np.abs(stack.noise(rng, 14.0)) - 1.0
    lay_over(hu, subject.blood_hu, stack.occupancy(organs.heart + EPICARDIAL_FAT_MM * np.clip(grooves, 0, 0.8)))
    lay_over(hu, OESOPHAGUS_HU, stack.occupancy(organs.oesophagus))
    if subject.oesophageal_air:
        lay_over(hu, -700.0, stack.occupancy(organs.oesophagus - 5.0))
    lay_over(hu, subject.blood_hu, stack.occupancy(organs.vessels))


def paint_airways(stack: Stack, *, hu: FloatArray, organs: Mediastinum, trees: LungTrees) -> FloatArray:
    """Walls of trachea and main bronchi, and the air in all airways; returns the occupancy of the air."""
    lay_over(hu, TRACHEA_WALL_HU, stack.occupancy(organs.lumen + TRACHEA_WALL_MM))
    outside_blood = -organs.blood - TRACHEA_WALL_MM
    air = stack.occupancy(np.maximum(organs.lumen, np.minimum(trees.airway_lumina, outside_blood)))
    lay_over(hu, AIR_HU, air)
    return air


def paint_abdomen(
    rng: np.random.Generator,
    subject: ChestSubject,
    stack: Stack,
    *,
    hu: FloatArray,
    cage: FloatArray,
    heart: FloatArray,
) -> None:
    """Liver (right) and spleen (left) below the domes of the diaphragm."""
    below = np.minimum(shape.diaphragm(stack.z, stack.y, stack.x) + 0.5, cage)
    below = np.minimum(below, -(heart + shape.PERICARDIUM_MM + 1.0))
    retroperitoneum = ellipse(stack.y - shape.spine_front_mm(subject) - 4, stack.x - 4, (46.0, 36.0))
    below = np.minimum(below, -retroperitoneum - 2 + 1.5 * stack.noise(rng, 12.0))
    value = np.where(stack.x < 30, np.float32(LIVER_HU), np.float32(SPLEEN_HU))
    lay_over(hu, value, stack.occupancy(below))
