"""The lung in a CT volume, by threshold and morphology, and the part of a volume that is super-resolved.

That part is the lungs' bounding box, some slices, or a box.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils.module import optional_import
from monai.utils.type_conversion import convert_to_dst_type
from numpy.typing import NDArray

from ..images.grids import REGION
from ..images.names import file_name
from ..images.nifti import forget_pages

ndimage, _ = optional_import("scipy.ndimage")

THRESHOLD_HU = -320.0  # half-way between lung and soft tissue
LUNG_MEAN_HU = (-940.0, -500.0)  # air in the trachea, in the bowel and around the body is darker
AIRWAY_MEAN_HU = -900.0
AIRWAY_AREA_MM2 = 700.0  # largest area of trachea or a main bronchus in an axial slice: larger is lung
CLOSING_MM = 4.0  # includes vessels and walls at the surface of the lung
LARGEST_HOLE_MM2 = 2000.0  # a tumour of 5 cm; the dome of the diaphragm is larger
TABLE_MM = 3.0  # a table's shell is thinner, as is its contact with the body
ENCLOSURE = 0.5  # fraction of a region's surface that must touch the body; foam touches the table
SMALLEST_AREA_MM2 = 1000.0  # smallest area of the lungs in their largest axial slice
SMALLEST_SHARE = 0.05  # relative to the largest region; a second lung is larger
SURFACE = 2  # in voxels, beyond those at the edge, which are half lung
NO_LUNG = (
    "has no lung: no region enclosed by the body is darker than {threshold:g} HU, has a mean of {low:g} to {high:g} HU "
    "and covers {area:g} cm2 of a slice{found}. Give a chest CT in HU, or, where all of the volume is lung, no mask."
)

Mask = NDArray[np.bool_]

LUNG, ALL = "lung", "all"
Region = str | Sequence[Sequence[int]]
Box = NDArray[np.int64]  # (3, 2): first voxel and one beyond the last, along each axis


def lung_mask(
    volume_hu: np.ndarray, spacing_mm: Sequence[float], *, name: str = "the volume", fill: bool = True
) -> Mask:
    """Segment both lungs with the vessels, bronchi and nodules inside them, without trachea and main bronchi.

    Zheng et al., SPIE Medical Imaging 2020, section 2.5: "simple thresholding followed by morphological operation to
    fill holes and remove excess regions". It works on stacks of few slices and on fields of view that cut the lung.

    1. Voxels darker than -320 HU are candidates; the body is the largest region of the rest, with the table cut off.
    2. Trachea and main bronchi, small dark regions of a slice, are excluded.
    3. Of the connected candidates those remain that lie in the body and are as dark as lung, but not as dark as air.
    4. Slice by slice they are closed by 4 mm, and holes of up to 20 cm2 are filled.

    Args:
        volume_hu: Volume of shape (X, Y, Z) in HU, axial slices along Z.
        spacing_mm: Voxel size along X, Y, Z.
        name: Name of the volume, for the message.
        fill: Whether to do the last step, which takes half of the time and leaves the bounding box as it is.

    Returns:
        Boolean mask of shape (X, Y, Z).

    Raises:
        ValueError: If the volume does not have three dimensions, or has no lung.

    Example:
        >>> body = np.full((64, 64, 2), -1000.0)
        >>> body[4:60, 4:60], body[10:50, 20:50], body[25:30, 25:30] = 40.0, -850.0, 40.0  # a lung with a vessel
        >>> int(lung_mask(body, (1.5, 1.5, 5.0)).sum()) == 40 * 30 * 2
        True
    """
    volume = np.asarray(volume_hu)
    if volume.ndim != 3:
        raise ValueError(f"`volume_hu` must have 3 dimensions (X, Y, Z), got shape {volume.shape}.")
    pixel_mm = (float(spacing_mm[0]), float(spacing_mm[1]))
    dark = volume < THRESHOLD_HU
    body = _body(~dark, pixel_mm)
    airway = _airway(volume, dark, pixel_mm)
    lung = _lung_regions(volume, dark & ~airway, body, pixel_mm)
    area_mm2 = float(lung.sum(axis=(0, 1)).max(initial=0)) * pixel_mm[0] * pixel_mm[1]
    if area_mm2 < SMALLEST_AREA_MM2:
        low, high = LUNG_MEAN_HU
        found = f", the largest found covers {area_mm2 / 100:.1f} cm2" if area_mm2 > 0 else ""
        rule = NO_LUNG.format(threshold=THRESHOLD_HU, low=low, high=high, area=SMALLEST_AREA_MM2 / 100, found=found)
        raise ValueError(f"{name} {rule}")
    for z in np.flatnonzero(lung.any(axis=(0, 1))) if fill else ():
        lung[:, :, z] = _filled(lung[:, :, z], airway[:, :, z], pixel_mm)
    return lung


class LungMaskd(MapTransform):
    """Add the lung mask of a CT volume, see `lung_mask`.

    Args:
        keys: Keys of volumes of shape (1, X, Y, Z) in HU, MetaTensors: their affine gives the spacing.
        mask_key: Key of the mask, shape (1, X, Y, Z), uint8, on the same grid.

    Raises:
        ValueError: If a volume has no lung. The message names the file.
    """

    def __init__(self, keys: KeysCollection, mask_key: str = "lung", *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            image = item[key]
            mask = lung_mask(torch.as_tensor(image)[0].numpy(), image.pixdim.tolist(), name=file_name(image))
            item[self.mask_key], *_ = convert_to_dst_type(mask[None], image, dtype=torch.uint8)
        return item


def _body(bright: Mask, pixel_mm: tuple[float, float]) -> Mask:
    """Find the largest region of tissue, without what is attached to it by less than the thickness of a table."""
    radius_mm = (TABLE_MM + min(pixel_mm)) / 2  # distances are between the centres of pixels
    opened = np.empty_like(bright)
    for z in range(bright.shape[2]):
        core = _eroded(bright[:, :, z], radius_mm, pixel_mm)
        opened[:, :, z] = ~_eroded(~core, radius_mm, pixel_mm)
    regions, _ = ndimage.label(opened)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    return np.asarray(regions == sizes.argmax()) if sizes.any() else opened


def _airway(volume: np.ndarray, dark: Mask, pixel_mm: tuple[float, float]) -> Mask:
    """Find the regions of a slice that are small and as dark as air."""
    airway = np.zeros_like(dark)
    for z in range(dark.shape[2]):
        regions, count = ndimage.label(dark[:, :, z])
        areas_mm2 = np.bincount(regions.ravel(), minlength=count + 1) * pixel_mm[0] * pixel_mm[1]
        chosen = (areas_mm2 <= AIRWAY_AREA_MM2) & (_means(volume[:, :, z], regions, count) < AIRWAY_MEAN_HU)
        chosen[0] = False
        airway[:, :, z] = chosen[regions]
    return airway


def _lung_regions(volume: np.ndarray, candidates: Mask, body: Mask, pixel_mm: tuple[float, float]) -> Mask:
    """Select the connected candidates that look like lung and lie in the body, down to a fraction of the largest."""
    regions, count = ndimage.label(candidates)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)
    means = _means(volume, regions, count)
    boxes = ndimage.find_objects(regions)
    smallest = SMALLEST_SHARE * SMALLEST_AREA_MM2 / (pixel_mm[0] * pixel_mm[1])
    chosen = np.zeros(count + 1, dtype=bool)
    for label in 1 + np.argsort(-sizes[1:]):
        if sizes[label] < smallest:
            break
        if not LUNG_MEAN_HU[0] <= means[label] <= LUNG_MEAN_HU[1]:
            continue
        if _enclosure(regions, label, boxes[label - 1], body) >= ENCLOSURE:
            chosen[label] = True
            smallest = max(smallest, SMALLEST_SHARE * sizes[chosen].max())
    return np.asarray(chosen[regions])


def _enclosure(regions: np.ndarray, label: int, box: tuple[slice, ...], body: Mask) -> float:
    """Compute the fraction of a region's in-plane surface, a few voxels thick, that is body."""
    wide = (*(slice(max(0, side.start - SURFACE), side.stop + SURFACE) for side in box[:2]), box[2])
    region = regions[wide] == label
    cross = ndimage.generate_binary_structure(2, 1)[:, :, None]
    surface = ndimage.binary_dilation(region, cross, iterations=SURFACE) & ~region
    return float(body[wide][surface].mean()) if surface.any() else 0.0


def _filled(lung: Mask, airway: Mask, pixel_mm: tuple[float, float]) -> Mask:
    """Close a slice of the lung and fill its holes."""
    width = [(int(CLOSING_MM // size) + 2,) * 2 for size in pixel_mm]
    framed = np.pad(lung, width)  # what lies beyond the field of view is not lung
    closed = _eroded(~_eroded(~framed, CLOSING_MM, pixel_mm), CLOSING_MM, pixel_mm)
    inner = closed[width[0][0] : -width[0][0], width[1][0] : -width[1][0]]
    filled = inner | lung
    holes, _ = ndimage.label(ndimage.binary_fill_holes(filled) & ~filled)
    small = np.bincount(holes.ravel()) * pixel_mm[0] * pixel_mm[1] <= LARGEST_HOLE_MM2
    return np.asarray((filled | (small[holes] & (holes > 0))) & ~airway)


def _eroded(plane: Mask, radius_mm: float, pixel_mm: tuple[float, float]) -> Mask:
    """Keep what is farther than `radius_mm` from the outside; beyond the field of view the plane continues."""
    if plane.all():  # without any outside the distance transform is undefined
        return plane
    return np.asarray(ndimage.distance_transform_edt(plane, sampling=pixel_mm) > radius_mm)


def _means(image: np.ndarray, regions: np.ndarray, count: int) -> np.ndarray:
    """Compute the mean of each region, that of the background, label 0, first."""
    sizes, totals = np.zeros(count + 1), np.zeros(count + 1)
    for labels, values in zip(*(np.moveaxis(np.atleast_3d(part), 2, 0) for part in (regions, image))):
        sizes += np.bincount(labels.ravel(), minlength=count + 1)
        totals += np.bincount(labels.ravel(), weights=values.ravel(), minlength=count + 1)
    return totals / np.maximum(sizes, 1)


class FindRegiond(MapTransform):
    """Add the box of a CT volume that is to be processed.

    Boxes and slices are counted in voxels of the file, from 0, as viewers show them, the last not included; so they are
    independent of the orientation in which the volume is processed.

    Args:
        keys: Keys of volumes (1, X, Y, Z) in HU, MetaTensors, in any orientation.
        region: "lung", the bounding box of the lung mask, see `lung_mask`; "all"; or a box
            `[[x0, x1], [y0, y1], [z0, z1]]`.
        slab: `[z0, z1]`, only these axial slices of the region; by default all of them.
        region_key: Key of the result, (3, 2) integers: first voxel and one beyond the last along X, Y and Z of the
            volume along RAS. The volume's meta data have it as well, as a JSON text under `region`, for inferers.

    Raises:
        ValueError: If `region` or `slab` is malformed or, when called, a volume does not contain them or, for "lung",
            has no lung there. The message names the file.

    Example:
        >>> from monai.data import MetaTensor
        >>> volume = MetaTensor(torch.zeros(1, 8, 6, 4), affine=torch.eye(4))
        >>> FindRegiond("image", [[0, 8], [2, 6], [0, 4]], slab=[1, 3])({"image": volume})["region"].tolist()
        [[0, 8], [2, 6], [1, 3]]
    """

    def __init__(
        self,
        keys: KeysCollection,
        region: Region = LUNG,
        *,
        slab: Sequence[int] | None = None,
        region_key: str = "region",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.region = region if region in (LUNG, ALL) else _checked_region(region)
        self.slab = (
            None if slab is None else _checked_span(slab, "`slab` must be axial slices [z0, z1], such as [0, 9]")
        )
        self.region_key = region_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            box = self._box(item[key])
            item[self.region_key] = torch.as_tensor(box)
            if isinstance(item[key], MetaTensor):
                item[key].meta[REGION] = json.dumps(box.tolist())
        return item

    def _box(self, image: Any) -> Box:
        """Return the box along RAS."""
        axes = nib.orientations.io_orientation(np.asarray(image.affine, dtype=float))[:, 0]
        whole = [(0, int(image.shape[1 + int(place)])) for place in np.argsort(axes)]
        stored = nib.orientations.io_orientation(np.asarray(image.meta.get("original_affine", image.affine)))
        spans = list(whole)
        if not isinstance(self.region, str):
            spans = _along_ras(self.region, stored, spans, "region", file_name(image))
        if self.slab is not None:
            axial = int(np.flatnonzero(stored[:, 0] == 2)[0])
            slab = [self.slab if n == axial else (0, whole[int(axis)][1]) for n, (axis, _) in enumerate(stored)]
            levels = _along_ras(slab, stored, whole, "slab", file_name(image))[2]
            spans[2] = (max(spans[2][0], levels[0]), min(spans[2][1], levels[1]))
        if spans[2][0] >= spans[2][1]:
            raise ValueError(f"`slab` must have slices in common with `region`, but it has none in {file_name(image)}.")
        return _around_lung(image, spans) if self.region == LUNG else np.asarray(spans, dtype=np.int64)


def _checked_region(region: Any) -> list[tuple[int, int]]:
    rule = f"`region` must be {LUNG!r}, {ALL!r} or a box of voxels [[x0, x1], [y0, y1], [z0, z1]]"
    if isinstance(region, str) or not isinstance(region, Sequence) or len(region) != 3:
        raise ValueError(f"{rule}, got {region!r}.")
    return [_checked_span(span, rule, region) for span in region]


def _checked_span(span: Any, rule: str, whole: Any = None) -> tuple[int, int]:
    got = span if whole is None else whole
    if isinstance(span, str) or not isinstance(span, Sequence) or len(span) != 2:
        raise ValueError(f"{rule}, got {got!r}.")
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in span) or not 0 <= span[0] < span[1]:
        raise ValueError(f"{rule}, whole numbers >= 0, each second one above the first, got {got!r}.")
    return int(span[0]), int(span[1])


def _along_ras(
    box: Sequence[tuple[int, int]], stored: np.ndarray, whole: Sequence[tuple[int, int]], argument: str, name: str
) -> list[tuple[int, int]]:
    """Convert a box in voxels of the file to the patient's axes."""
    spans = [(0, 0)] * 3
    for number, ((start, stop), (axis, direction)) in enumerate(zip(box, stored)):
        size = whole[int(axis)][1]
        if stop > size:
            shape = " x ".join(str(whole[int(a)][1]) for a, _ in stored)
            raise ValueError(
                f"`{argument}` must lie in {name} of {shape} voxels, but along its axis {number}, of {size}, it asks "
                f"for [{start}, {stop}]: give numbers up to {size}."
            )
        spans[int(axis)] = (start, stop) if direction > 0 else (size - stop, size - start)
    return spans


def _around_lung(image: Any, spans: Sequence[tuple[int, int]]) -> Box:
    """Find the bounding box of the lung in some slices; the mask is that of the whole volume."""
    name = file_name(image)
    try:
        affine = np.asarray(image.affine, dtype=float)
        axes = nib.orientations.io_orientation(affine)
        upright = nib.orientations.apply_orientation(torch.as_tensor(image)[0].numpy(), axes)
        sizes = nib.affines.voxel_sizes(affine)[np.argsort(axes[:, 0])]
        mask = lung_mask(upright, sizes.tolist(), name=name, fill=False)
        forget_pages(torch.as_tensor(image))
    except ValueError as error:
        raise ValueError(f"{error} (`--region {ALL}`)") from None  # one message
    low, high = spans[2]
    inside = mask[:, :, low:high]
    if not inside.any():
        raise ValueError(f"{name} has no lung in the slices of `slab`: choose others, or `--region {ALL}`.")
    found = [np.flatnonzero(inside.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    box = np.array([(span[0], span[-1] + 1) for span in found], dtype=np.int64)
    box[2] += low
    return box
