"""Anatomy of the lung phantom: how much tissue each micro voxel holds, and of which structure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .chest_stack import Stack
from .fields import FloatArray
from .lung_foam import make_foam, sheet_occupancy
from .lung_subject import LungSubject
from .lung_trees import LungTrees, make_trees
from .raster import soft_occupancy

LABEL_NAMES = {
    1: "vessel",
    2: "bronchial_wall",
    3: "septum",
    4: "tumour",
    5: "bronchial_lumen",
    6: "alveolar_wall",
}
LABELS = {name: value for value, name in LABEL_NAMES.items()}
ALVEOLAR_WALL_SHARE = 0.2  # of a voxel, from which it is labelled: alveolar walls are thinner than a voxel

WALL_VARIATION, WALL_SIGMA_MM, THINNEST_WALL_MM = 0.3, 1.0, 0.004
DUCT_OPENING = 0.93  # share of the alveolar walls that is missing in a duct
TEXTURE, TEXTURE_SIGMA_MM = 0.05, 0.2
HIGHEST_OCCUPANCY = 1.2

TUMOUR_CENTRE = 0.25  # of the field of view: furthest from its middle
TUMOUR_BUMPS = ((0.9, 0.12), (2.5, 0.2))  # of its surface: filter width in mm, amplitude in radii
TUMOUR_EDGE_MM = 0.15  # half the width
TUMOUR_LEVEL, TUMOUR_TEXTURE, TUMOUR_TEXTURE_SIGMA_MM = 0.97, 0.12, 0.25
LEPIDIC_MM, LEPIDIC_REACH = 0.075, 0.45  # thickening of walls at its surface; decay, in radii
FILLED_BRONCHUS = 0.6  # occupancy of a bronchus in it


class Anatomy(NamedTuple):
    """A block of lung.

    Attributes:
        occupancy: tissue in each voxel (slices, rows, columns), 0 (air) to about 1, with its texture up to 1.2.
        label: uint8, values of ``LABEL_NAMES``, 0 for air.
    """

    occupancy: FloatArray
    label: NDArray[np.uint8]


class Tumour(NamedTuple):
    """Occupancy of the solid core, and what the growth along its rim adds to half the thickness of walls in mm."""

    solid: FloatArray
    thickening_mm: FloatArray


def make_anatomy(rng: np.random.Generator, subject: LungSubject, stack: Stack) -> Anatomy:
    """Fill a block with foam, trees and tumour; tissue at the same place is united, airways and ducts cut into it."""
    tumour = _make_tumour(rng, subject, stack)
    trees = make_trees(rng, stack)
    foam = make_foam(rng, subject, stack)
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
    """The label map; of structures at the same place the later one wins."""
    label = np.zeros(occupancy.shape, dtype=np.uint8)
    label[occupancy > ALVEOLAR_WALL_SHARE] = LABELS["alveolar_wall"]
    label[septum > 0] = LABELS["septum"]
    label[trees.walls > 0] = LABELS["bronchial_wall"]
    label[trees.lumina > 0] = LABELS["bronchial_lumen"]
    label[trees.vessels > 0] = LABELS["vessel"]
    label[solid > 0.5] = LABELS["tumour"]
    return label


def _make_tumour(rng: np.random.Generator, subject: LungSubject, stack: Stack) -> Tumour:
    """A solid tumour with a lepidic rim: around it, tumour cells line alveolar walls, which are thicker for it."""
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
