"""Regions of a CT that a translation must leave as they are, and the change that fades to zero inside their border.

Padding, what lies outside of the reconstruction circle, values beyond a network's range and, for a contrast medium,
what lies outside of the body keep the source's values exactly, whatever the network makes there.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils.module import optional_import
from numpy.typing import NDArray
from torch.nn.functional import interpolate

ndimage, _ = optional_import("scipy.ndimage")

FADE = 3  # voxels inside the border of a region over which the change grows from zero
EDGE_PIXELS = 8  # of a constant region at the edge of a slice: fewer are noise that was cut off at -1024 HU
RAGGED = 2  # pixels by which a constant region's border deviates from patches of 3 x 3 pixels
BODY_ABOVE_HU = -300.0
TABLE_MM = 6.0  # a table's shell and its contact with the body are thinner
BODY_SHARE = 0.1  # of the largest region of a slice: the second leg, an arm
PADDING, PADDING_LIMIT = "padding_value", "padding_limit"  # in the meta data of a volume from DICOM

Mask = NDArray[np.bool_]


class UnchangedRegion:
    """The region of axial CT slices that a translation must not change, and how its change fades towards it.

    A voxel is kept exactly if

    - it is padding: the header's PixelPaddingValue, in a patch of 3 x 3 voxels or connected to the edge of the slice;
      or part of a constant region that is connected to the edge, as is what lies outside of the reconstruction circle;
    - its value lies outside of `hu_range`;
    - with `body`, it lies outside of the body: the table, clothes, tubes.

    Within the border of such a region the change grows from zero to its full size over `fade` voxels in plane. A single
    voxel below the range is noise of air or fat, around which nothing fades. Each slice is judged by itself, so that
    volumes can be translated in parts.

    Args:
        hu_range: Lowest and highest HU that may change; default: all.
        body: Whether only the body may change.
        fade: Number of voxels.
        ramp_hu: Width in HU, at both ends of `hu_range`, over which the change grows with the value: for a narrow
            window, whose ends lie within tissue.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> image = torch.arange(64.0).reshape(1, 8, 8)
        >>> image[:, :, :3] = -3024
        >>> UnchangedRegion((-1024, 3071), fade=1).weight(image)[0, 0].tolist()
        [0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0]
    """

    def __init__(
        self, hu_range: Sequence[float] | None = None, *, body: bool = False, fade: int = FADE, ramp_hu: float = 0.0
    ) -> None:
        if fade < 0:
            raise ValueError(f"`fade` must be 0 or more voxels, got {fade}.")
        if hu_range is not None and not hu_range[0] < hu_range[1]:
            raise ValueError(f"`hu_range` must be a lower and a higher value in HU, got {list(hu_range)}.")
        if ramp_hu < 0:
            raise ValueError(f"`ramp_hu` must be 0 or more, got {ramp_hu}.")
        self.hu_range = None if hu_range is None else (float(hu_range[0]), float(hu_range[1]))
        self.body, self.fade, self.ramp_hu = body, fade, float(ramp_hu)

    def mask(
        self, slices: torch.Tensor, meta: Mapping[str, Any] | None = None, pixel_mm: Sequence[float] = (1.0, 1.0)
    ) -> torch.Tensor:
        """Return where slices must not change.

        Args:
            slices: Slices (n, X, Y) in HU.
            meta: Meta data of their volume, which may name the padding.
            pixel_mm: Pixel size in mm along X and Y.

        Returns:
            Boolean mask (n, X, Y).
        """
        return self._masks(slices, meta or {}, pixel_mm)[0]

    def weight(
        self, slices: torch.Tensor, meta: Mapping[str, Any] | None = None, pixel_mm: Sequence[float] = (1.0, 1.0)
    ) -> torch.Tensor:
        """Return the factor of the change: 0 where `mask` is, 1 away from it.

        Args:
            slices: Slices (n, X, Y) in HU.
            meta: Meta data of their volume, which may name the padding.
            pixel_mm: Pixel size in mm along X and Y.

        Returns:
            Factors (n, X, Y), float32.
        """
        kept, solid = self._masks(slices, meta or {}, pixel_mm)
        weight = faded(solid, self.fade)
        if self.hu_range is not None and self.ramp_hu > 0:
            low, high = self.hu_range
            inside = torch.minimum(slices - low, high - slices) / self.ramp_hu
            weight = weight * inside.clamp(0, 1)
        return weight.masked_fill(kept, 0.0)

    def _masks(
        self, slices: torch.Tensor, meta: Mapping[str, Any], pixel_mm: Sequence[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is kept, and the part of it towards which the change fades."""
        values = slices.as_subclass(torch.Tensor).float()
        kept = padding_mask(values, meta)
        solid = kept
        if self.hu_range is not None:
            below, above = values < self.hu_range[0], values > self.hu_range[1]
            kept = kept | below | above
            # Metal is never noise, but a value above a narrow window may be.
            solid = solid | opened(below) | (above if self.ramp_hu == 0 else opened(above))
        if self.body:
            outside = torch.from_numpy(np.stack([~body_mask(plane, pixel_mm) for plane in values.numpy()]))
            kept, solid = kept | outside, solid | outside
        return kept, solid


class LimitChanged(MapTransform):
    """Fade changes in HU to exactly zero where their sources must stay as they are, before `AddSourced`.

    Args:
        keys: Keys of changes (1, X, Y, Z) on their sources' grids.
        source_key: Key of the source volume in HU, a MetaTensor, with axes in any order.
        unchanged: Region that must stay as it is.
        allow_missing_keys: Whether items may lack some of the keys.
    """

    def __init__(
        self, keys: KeysCollection, source_key: str, unchanged: UnchangedRegion, *, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source_key, self.unchanged = source_key, unchanged

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            source = item[self.source_key]
            slices, axis, pixel_mm = axial_slices(source)
            weight = self.unchanged.weight(slices, getattr(source, "meta", {}), pixel_mm)
            item[key] = item[key] * weight.movedim(0, axis - 1)[None].to(item[key].device)
        return item


class KeepPaddingd(MapTransform):
    """Put the padding of its source into a super-resolved volume, and blend towards it.

    Args:
        keys: Keys of volumes (1, factor X, factor Y, Z) in HU, of the whole source or of a region.
        source_key: Key of the source (1, X, Y, Z) in HU, with axial slices along the last axis; an item without it
            passes.
        unchanged: Region that must stay as it is; default: padding.
        region_key: Key of the box (3, 2) of the source that the volume shows, if it is not the whole.
        allow_missing_keys: Whether items may lack some of the keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        source_key: str,
        *,
        unchanged: UnchangedRegion | None = None,
        region_key: str = "region",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source_key, self.region_key = source_key, region_key
        self.unchanged = unchanged or UnchangedRegion(fade=1)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            if self.source_key not in item:
                continue
            source = item[self.source_key]
            slices, _, pixel_mm = axial_slices(source)
            weight = self.unchanged.weight(slices, getattr(source, "meta", {}), pixel_mm)
            size, device = item[key].shape[1:], item[key].device
            if self.region_key in item:
                (x0, x1), (y0, y1), (z0, z1) = ((int(a), int(b)) for a, b in item[self.region_key])
                levels = slice(z0, z1) if size[2] != len(slices) else slice(None)
                slices, weight = (values[levels, x0:x1, y0:y1] for values in (slices, weight))
            if bool((weight == 1).all()):
                continue
            fine = [interpolate(values[:, None].float(), size=size[:2], mode="nearest") for values in (weight, slices)]
            share, original = (values[:, 0].movedim(0, -1)[None].to(device) for values in fine)
            blended = share * item[key] + (1 - share) * original
            item[key] = torch.where(share == 1, item[key], blended)
        return item


def axial_slices(volume: Any) -> tuple[torch.Tensor, int, tuple[float, float]]:
    """Return a volume's axial slices, the dimension along which they are stacked, and their pixel size.

    Args:
        volume: Volume (1, X, Y, Z); without an affine its slices lie along the last axis, in pixels of 1 mm.

    Returns:
        Slices (n, X, Y), dimension of (1, X, Y, Z), and pixel size in mm.
    """
    axis, sizes = 3, np.ones(3)
    if isinstance(volume, MetaTensor):
        affine = np.asarray(volume.affine, dtype=float).reshape(-1, 4, 4)[0]
        axis = 1 + int(np.flatnonzero(nib.orientations.io_orientation(affine)[:, 0] == 2)[0])
        sizes = nib.affines.voxel_sizes(affine)
    first, second = (float(size) for index, size in enumerate(sizes) if index != axis - 1)
    values = torch.as_tensor(volume).as_subclass(torch.Tensor)[0].cpu()
    return values.movedim(axis - 1, 0), axis, (first, second)


def faded(mask: torch.Tensor, fade: int) -> torch.Tensor:
    """Return 0 in a mask, and outside of it factors that grow to 1 over `fade` pixels.

    Args:
        mask: Boolean mask (n, X, Y).
        fade: Number of pixels.

    Example:
        >>> faded(torch.tensor([[[True, False, False, False]]]), 1).tolist()
        [[[0.0, 0.5, 1.0, 1.0]]]
    """
    grown = mask.float()
    total = grown
    for _ in range(fade):
        if not bool(grown.any()):
            break
        grown = _dilated(grown)
        total = total + grown
    return 1 - total / (fade + 1)


def opened(mask: torch.Tensor) -> torch.Tensor:
    """Return the part of a mask (n, X, Y) that patches of 3 x 3 pixels cover; beyond the edge the mask continues."""
    if not bool(mask.any()):
        return mask
    cores = 1 - _dilated((~mask).float())
    return (_dilated(cores) > 0) & mask


def padding_mask(slices: torch.Tensor, meta: Mapping[str, Any] | None = None) -> torch.Tensor:
    """Return where axial slices are padding.

    Padding is what the header says, as far as it covers patches of 3 x 3 pixels or is connected to the edge (single
    pixels of that value are noise that was cut off), and each constant region that is connected to the edge.

    Args:
        slices: Slices (n, X, Y), float32.
        meta: Meta data of their volume, which may hold `padding_value` and `padding_limit`.

    Returns:
        Boolean mask (n, X, Y).

    Example:
        >>> image = torch.rand(1, 16, 16)
        >>> image[0, :3] = -2000.0
        >>> int(padding_mask(image).sum())
        48
    """
    constant = _constant(slices)
    found = torch.zeros(slices.shape, dtype=torch.bool)
    for number in range(len(slices)):
        found[number] = torch.from_numpy(_edge_regions(slices[number].numpy(), constant[number].numpy()))
    named = _named(slices, meta or {})
    if bool(named.any()):
        cores = opened(named)
        for number in named.flatten(1).any(1).nonzero().flatten().tolist():
            regions, _ = ndimage.label(named[number].numpy())
            kept = np.union1d(_on_edge(regions), regions[cores[number].numpy()])
            found[number] |= torch.from_numpy(np.isin(regions, kept[kept > 0]))
    return found


def body_mask(image: np.ndarray, pixel_mm: Sequence[float]) -> Mask:
    """Return the body in a slice: the large regions of tissue with what they enclose, without table and clothes.

    Args:
        image: Slice (X, Y) in HU.
        pixel_mm: Pixel size in mm.
    """
    tissue = image > BODY_ABOVE_HU
    size = [2 * max(1, round(TABLE_MM / 2 / mm)) + 1 for mm in pixel_mm[:2]]
    thick = ndimage.maximum_filter(ndimage.minimum_filter(tissue, size, mode="nearest"), size, mode="nearest")
    regions, count = ndimage.label(thick & tissue)
    if count == 0:
        return np.zeros(image.shape, dtype=bool)
    areas = np.bincount(regions.ravel())
    areas[0] = 0
    body = (areas >= BODY_SHARE * areas.max())[regions]
    rim = ndimage.maximum_filter(body, size, mode="nearest") & tissue  # corners that the opening has rounded off
    return np.asarray(ndimage.binary_fill_holes(rim))


def _dilated(mask: torch.Tensor) -> torch.Tensor:
    """Return the largest value around each pixel of slices (n, X, Y), by rows and columns: max_pool2d is far slower."""
    for axis in (1, 2):
        others = mask.shape[axis] - 1
        before, after = mask.narrow(axis, 0, others), mask.narrow(axis, 1, others)
        grown = mask.clone()
        grown.narrow(axis, 0, others).copy_(torch.maximum(before, after))
        last = grown.narrow(axis, 1, others)
        mask = grown
        last.copy_(torch.maximum(last, before))
    return mask


def _constant(slices: torch.Tensor) -> torch.Tensor:
    """Return where the patch of 3 x 3 pixels around a pixel, as far as it lies in the slice, has one value."""
    return -_dilated(-slices) == _dilated(slices)


def _edge_regions(image: np.ndarray, constant: np.ndarray) -> Mask:
    """Return the constant regions that are connected to the edge of a slice (X, Y)."""
    constant = constant.copy()
    for side in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        if np.ptp(image[side]) == 0:
            constant[side] = True
    seeds = constant & _edge(image.shape)
    if not seeds.any():
        return np.zeros(image.shape, dtype=bool)
    near = ndimage.maximum_filter(constant, 2 * RAGGED + 1)
    found = np.zeros(image.shape, dtype=bool)
    for value in np.unique(image[seeds]):
        regions, count = ndimage.label(near & (image == value))
        pixels = np.bincount(regions[seeds], minlength=count + 1)
        pixels[0] = 0
        found |= (pixels >= min(EDGE_PIXELS, *image.shape))[regions]
    return found


def _named(slices: torch.Tensor, meta: Mapping[str, Any]) -> torch.Tensor:
    """Return where slices have the values that their header calls padding."""
    values = [_number(meta.get(name)) for name in (PADDING, PADDING_LIMIT)]
    if values[0] is None:
        return torch.zeros(slices.shape, dtype=torch.bool)
    low, high = sorted((values[0], values[0] if values[1] is None else values[1]))
    return (slices >= low) & (slices <= high)


def _number(value: Any) -> float | None:
    """Return a number of a volume's meta data, which MONAI's collation may have put into a list or a tensor."""
    if value is None:
        return None
    return float(torch.as_tensor(value).flatten()[0])


def _on_edge(regions: np.ndarray) -> np.ndarray:
    return np.unique(regions[_edge(regions.shape)])


def _edge(shape: Sequence[int]) -> Mask:
    edge = np.ones(tuple(shape), dtype=bool)
    edge[1:-1, 1:-1] = False
    return edge
