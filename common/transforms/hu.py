"""Hounsfield units in and out: checking that an image has them, and translating a change instead of an image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from .check import file_name
from .sampled import extremes

AIR_BELOW_HU = -200.0  # every CT of a body shows something below: air around it, lung, or gas
SMALLEST_HU, LARGEST_HU = -32768.0, 32767.0  # of int16, in which CT is written


class CheckHUd(MapTransform):
    """
    Refuses volumes that are not in HU: MR, and CT without its offset (water near 1000 instead of 0).

    Args:
        keys: keys of volumes of shape (C, X, Y, Z).

    Raises:
        ValueError: when no voxel lies below -200 HU, where every CT has its air, or values do not fit int16. The
            message names the file.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            low, high = extremes(torch.as_tensor(data[key]))
            if low > AIR_BELOW_HU or low < SMALLEST_HU or high > LARGEST_HU:
                raise ValueError(
                    f"{file_name(data[key])} is not a CT in HU: its values run from {low:g} to {high:g}, but air is"
                    f" near -1000.{_likely_cause(low, high)} Apply the rescale slope and intercept of its DICOM header;"
                    " MR cannot be converted."
                )
        return dict(data)


def _likely_cause(low: float, high: float) -> str:
    """What an image without negative values most likely is: the raw values of a scanner, whose air is 0 or 24."""
    if low < 0 or high > LARGEST_HU:
        return ""
    return " Without negative values the offset is most likely missing: water is then near 1024 or 1000 instead of 0."


class ToChangeInHUd(MapTransform):
    """
    What a network changed, in HU: decode(G(x)) - decode(x), with x the encoded, clipped image that it saw.

    Together with `AddSourced` an identity network returns its source exactly, whatever lies outside of the encoded
    range; within it the result is the paper's output.

    Args:
        keys: keys of outputs in [-1, 1].
        orig_keys: keys of the encoded images.
        hu_range: the HU that are -1 and 1.
    """

    def __init__(
        self, keys: KeysCollection, orig_keys: str, hu_range: Sequence[float], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.orig_keys = orig_keys
        self.half_range = (hu_range[1] - hu_range[0]) / 2

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = (item[key].clamp(-1, 1) - item[self.orig_keys]) * self.half_range
        return item


class AddSourced(MapTransform):
    """
    Adds a change in HU, on the source's grid, to the source, and rounds to whole HU.

    Args:
        keys: keys of changes.
        source_key: key of the source volume in HU.
    """

    def __init__(self, keys: KeysCollection, source_key: str, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source_key = source_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = (item[key] + item[self.source_key]).round()
        return item
