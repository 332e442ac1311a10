"""What is worth enlarging in a chest CT: a bronchus, whose wall and lumen show sharpness, else the middle of a lung."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from monai.utils.module import optional_import

ndimage, _ = optional_import("scipy.ndimage")

AIRWAY = "airway_lumen"
# Trachea and main bronchi are wider: every kernel shows these.
WIDEST_AIRWAY_MM = 8.0
LUNG_BELOW_HU = -500.0
SMOOTHING_MM = 2.0
LEAST_LUNG_MM2 = 2000.0


@dataclass(frozen=True)
class Focus:
    """A place: its name, its slice, its first two voxel indices ``(x, y)``."""

    name: str
    index: int
    position: tuple[int, int]


def find_focus(
    volume_hu: np.ndarray,
    body: np.ndarray,
    label: np.ndarray | None,
    label_names: Mapping[int, str],
    zooms: tuple[float, float, float],
) -> Focus | None:
    """The place to enlarge; None where there is neither airway nor lung.

    Args:
        volume_hu: CT ``(X, Y, Z)`` in HU, Z the axial slice axis.
        body: mask of the same shape, lungs included.
        label: label map of the same shape, or None.
        label_names: names of the label values; ``airway_lumen`` is looked for.
        zooms: voxel size in mm.
    """
    values = [value for value, name in label_names.items() if name == AIRWAY]
    if label is not None and values:
        airway = _airway(np.isin(np.round(label), values), zooms)
        if airway:
            return airway
    return _lung(volume_hu, body, zooms)


def _airway(lumen: np.ndarray, zooms: tuple[float, float, float]) -> Focus | None:
    """The widest cross-section that is no trachea or main bronchus, else the narrowest of these."""
    found = []
    for index in np.flatnonzero(lumen.any(axis=(0, 1))):
        parts, number = ndimage.label(lumen[:, :, index])
        areas = np.bincount(parts.ravel())[1:] * zooms[0] * zooms[1]
        centres = ndimage.center_of_mass(lumen[:, :, index], parts, range(1, number + 1))
        found += [(2 * np.sqrt(area / np.pi), int(index), centre) for area, centre in zip(areas, centres, strict=True)]
    if not found:
        return None
    narrow = [entry for entry in found if entry[0] <= WIDEST_AIRWAY_MM]
    _, place, centre = max(narrow) if narrow else min(found)
    return Focus("airway", place, (round(centre[0]), round(centre[1])))


def _lung(volume_hu: np.ndarray, body: np.ndarray, zooms: tuple[float, float, float]) -> Focus | None:
    """The point farthest from the surface of the lungs, in the slice with most lung."""
    dark = body & (volume_hu < LUNG_BELOW_HU)
    index = int(dark.sum(axis=(0, 1)).argmax())
    sigma = [SMOOTHING_MM / step for step in zooms[:2]]
    smooth = ndimage.gaussian_filter(np.clip(volume_hu[:, :, index], -1024, 3071), sigma)
    lung = body[:, :, index] & (smooth < LUNG_BELOW_HU)
    if lung.sum() * zooms[0] * zooms[1] < LEAST_LUNG_MM2:
        return None
    depth = ndimage.distance_transform_edt(lung, sampling=zooms[:2])
    x, y = divmod(int(depth.argmax()), depth.shape[1])
    return Focus("lung", index, (x, y))
