"""The part of a volume that is super-resolved: the lungs' bounding box, some slices, or a box."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from numpy.typing import NDArray

from .check import file_name
from .lung_mask import lung_mask

LUNG, ALL = "lung", "all"
Region = str | Sequence[Sequence[int]]
Box = NDArray[np.int64]  # (3, 2): first voxel and one beyond the last, along each axis


class FindRegiond(MapTransform):
    """
    Adds the box of a CT volume that is to be processed.

    Boxes and slices are counted in voxels of the file, from 0, as viewers show them, the last not included; so they
    are independent of the orientation in which the volume is processed.

    Args:
        keys: keys of volumes (1, X, Y, Z) in HU, along RAS, MetaTensors.
        region: "lung", the bounding box of the lung mask, see `lung_mask`; "all"; or a box
            `[[x0, x1], [y0, y1], [z0, z1]]`.
        slab: `[z0, z1]`, only these axial slices of the region; None: all of them.
        region_key: key of the result, (3, 2) integers: first voxel and one beyond the last along X, Y and Z of the
            volume as it is, along RAS.

    Raises:
        ValueError: when `region` or `slab` is malformed; when called, for a volume that does not contain them, or, for
            "lung", has no lung there. The message names the file.

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
            item[self.region_key] = torch.as_tensor(self._box(item[key]))
        return item

    def _box(self, image: Any) -> Box:
        """The box along the axes of the image."""
        whole = [(0, int(n)) for n in image.shape[1:]]
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
    """A box in voxels of the file along the patient's axes."""
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
    """The bounding box of the lung in some slices; the mask is that of the whole volume."""
    name = file_name(image)
    try:
        mask = lung_mask(torch.as_tensor(image)[0].numpy(), image.pixdim.tolist(), name=name)
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
