"""Check for contrast enhancement in a CT where one without contrast medium is expected."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import optional_import
from nibabel.affines import voxel_sizes

from ...images.grids import block_mean
from ...images.names import file_name
from ...images.nifti import forget_pages
from ...metrics.score import BODY_HU

ndimage, _ = optional_import("scipy.ndimage")

ENHANCED_HU = (120.0, 250.0)  # of blood and organs with contrast medium; without it they have 30 to 70 HU
BONE_HU = 300.0
SMOOTHING_MM = 3.0  # FWHM: otherwise noise of 30 HU per voxel would join tissue and bone
BONE_SMOOTHING_MM = 2.0  # less, since it takes the cortex of thin bones below 300 HU
WORKING_MM = 2.0  # voxels are averaged up to this size: a vessel is several voxels wide, and a whole CT takes seconds
BRIDGE_MM = 6.0  # thinner structures are no region and join none: noise and partial volume bridge aorta and spine
SURROUNDINGS_MM = 4.0
BONE_SHARE = 0.02  # of a region's surroundings: bones of a real CT have 0.03 to 0.4, kidneys of the phantom 0 to 0.01
MOST_VOXELS = 10_000_000  # averaged, of a part: 0.6 m of a body
MIN_VOLUME_ML = 4.0  # 5 cm of a vessel of 10 mm
MIN_SHARE = 0.0005  # of the body: 10 ml of 20 l; a kidney has more than 100 ml, pieces of vertebrae up to 6 ml
SAME_REGION = np.ones((3, 3, 3))


class Enhancement(NamedTuple):
    """Soft tissue that is as bright as with contrast medium.

    Attributes:
        volume_ml: Volume of all regions together in ml.
        median_hu: Median of the largest region in HU.
        largest_ml: Volume of the largest region in ml.
        regions: Number of regions.
        voxel: Voxel indices of a place inside the largest region.
    """

    volume_ml: float
    median_hu: float
    largest_ml: float
    regions: int
    voxel: tuple[int, int, int]


class CheckNonContrastd(MapTransform):
    """Warn of a CT that looks contrast-enhanced although it is given as one without contrast medium.

    Args:
        keys: Keys of volumes (1, X, Y, Z) in HU.
        allow_missing_keys: Whether items may lack some of the keys.

    Warns:
        UserWarning: If enhancement is found; the message names the file, the volume, the HU and the place.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            spacing = voxel_sizes(np.asarray(data[key].affine, dtype=float))
            found = enhancement_in_parts(data[key], [float(s) for s in spacing])
            if found is not None:
                warnings.warn(
                    f"{file_name(data[key])} looks contrast-enhanced, but a CT without contrast medium is expected:"
                    f" {found.volume_ml:.0f} ml of soft tissue apart from bone, in {found.regions} region(s), have"
                    f" {ENHANCED_HU[0]:g} to {ENHANCED_HU[1]:g} HU; the largest, {found.largest_ml:.0f} ml around voxel"
                    f" {found.voxel}, has a median of {found.median_hu:.0f} HU. If it is enhanced, the translation is"
                    " wrong; check the series. Oral contrast medium in the bowel looks alike.",
                    stacklevel=2,
                )
        return dict(data)


def enhancement_in_parts(image: Any, spacing_mm: Sequence[float], *, most: int = MOST_VOXELS) -> Enhancement | None:
    """Return the enhancement of a volume, see `enhancement`; a very long one is judged in parts along its last axis.

    Args:
        image: Volume (1, X, Y, Z) in HU, which may be memory-mapped.
        spacing_mm: Voxel size in mm along X, Y and Z.
        most: Largest number of voxels of a part after averaging.
    """
    volume = torch.as_tensor(image)[0].cpu().numpy()
    voxels = math.prod(n / _factor(size, n) for size, n in zip(spacing_mm, volume.shape))
    thick = _factor(spacing_mm[2], volume.shape[2])
    length = thick * math.ceil(volume.shape[2] / thick / math.ceil(voxels / most))
    found: list[Enhancement] = []
    for start in range(0, volume.shape[2], length):
        part = enhancement(volume[..., start : start + length], spacing_mm)
        forget_pages(torch.as_tensor(image))
        if part is not None:
            x, y, z = part.voxel
            found.append(part._replace(voxel=(x, y, z + start)))
    if not found:
        return None
    largest = max(found, key=lambda part: part.largest_ml)
    return largest._replace(volume_ml=sum(p.volume_ml for p in found), regions=sum(p.regions for p in found))


def _factor(size_mm: float, voxels: int) -> int:
    """Return how many voxels along an axis are averaged."""
    return max(1, min(int(WORKING_MM / size_mm), voxels))


def enhancement(volume_hu: np.ndarray, spacing_mm: Sequence[float]) -> Enhancement | None:
    """Return the connected regions at 120 to 250 HU that do not touch bone above 300 HU, if they are large enough.

    Trabecular bone has these HU too, but lies within a cortex. So that noise or a plaque in the aorta's wall does not
    make a vessel part of the spine, bridges thinner than 6 mm are cut, and a region "touches" bone if more than 2 %
    of its surroundings (4 mm) are bone. Measured: without contrast medium a real CT with slices of 3 mm has no such
    region above 0.7 ml (6 ml if its slices are averaged to 6 mm), the phantom has none; the phantom's CECT has one of
    at least 8 ml.

    Args:
        volume_hu: Volume (X, Y, Z) in HU.
        spacing_mm: Voxel size in mm along X, Y and Z.

    Returns:
        Enhancement that was found, or None if no region has both 4 ml and 0.05 % of the body.

    Example:
        >>> volume = np.full((40, 40, 20), 50.0)
        >>> enhancement(volume, (1, 1, 2)) is None
        True
        >>> volume[10:30, 10:30, 4:16] = 160.0
        >>> found = enhancement(volume, (1, 1, 2))
        >>> found.regions, 155 < found.median_hu <= 160
        (1, True)
    """
    factors = [_factor(size, n) for size, n in zip(spacing_mm, volume_hu.shape)]
    spacing = [size * factor for size, factor in zip(spacing_mm, factors)]
    coarse = block_mean(volume_hu, factors)
    smooth = _smoothed(coarse, SMOOTHING_MM, spacing)
    soft = (smooth >= ENHANCED_HU[0]) & (smooth <= ENHANCED_HU[1])
    bone = _smoothed(coarse, BONE_SMOOTHING_MM, spacing) > BONE_HU
    regions, sizes_ml = _apart_from_bone(soft, bone, spacing)
    body_ml = float(np.count_nonzero(coarse > BODY_HU) * np.prod(spacing)) / 1000
    sizes_ml[sizes_ml < max(MIN_VOLUME_ML, MIN_SHARE * body_ml)] = 0
    if not sizes_ml.any():
        return None
    largest = regions == sizes_ml.argmax()
    voxel = [int(p) * factor + factor // 2 for p, factor in zip(_inside(largest), factors)]
    hu = float(np.median(smooth[largest]))
    count = int(np.count_nonzero(sizes_ml))
    return Enhancement(float(sizes_ml.sum()), hu, float(sizes_ml.max()), count, (voxel[0], voxel[1], voxel[2]))


def _apart_from_bone(soft: np.ndarray, bone: np.ndarray, spacing_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbered regions of a mask with bridges cut, and their sizes in ml, 0 for those within bone."""
    half = BRIDGE_MM / 2
    eroded = [round(half / size) if size <= half else 0 for size in spacing_mm]
    beyond = [n + math.ceil(SURROUNDINGS_MM / size) for n, size in zip(eroded, spacing_mm)]
    cores, count = ndimage.label(ndimage.minimum_filter(soft, [2 * n + 1 for n in eroded]), SAME_REGION)
    regions = ndimage.maximum_filter(cores, [2 * n + 1 for n in eroded]) * soft
    around = ndimage.maximum_filter(cores, [2 * n + 1 for n in beyond]) * ~soft
    surface = np.bincount(around.ravel(), minlength=count + 1)
    touching = np.bincount(around[bone], minlength=count + 1)
    sizes_ml = np.bincount(regions.ravel(), minlength=count + 1) * float(np.prod(spacing_mm)) / 1000
    sizes_ml[touching > BONE_SHARE * surface] = 0
    sizes_ml[0] = 0
    return regions, sizes_ml


def _inside(region: np.ndarray) -> tuple[int, ...]:
    """Return the voxel of a region that is nearest to its centre of mass, which itself may lie outside of it."""
    voxels = np.argwhere(region)
    nearest = voxels[np.argmin(((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1))]
    return tuple(int(place) for place in nearest)


def _smoothed(volume: np.ndarray, fwhm_mm: float, spacing_mm: Sequence[float]) -> np.ndarray:
    return ndimage.gaussian_filter(volume, [fwhm_mm / 2.355 / size for size in spacing_mm])
