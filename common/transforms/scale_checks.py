"""Two scales that a network takes for granted: the size of a pixel, and -1000 HU for air."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from .check import file_name
from .pixel_size import axial_pixel_mm
from .sampled import sampled

logger = logging.getLogger(__name__)

PADDING_BELOW_HU = -1500.0  # GE pads with -3024, others with -2000 or -2048
AIR_HU = -800.0  # lung, gas and the air around the body are darker somewhere
DARKEST_SHARE = 0.0005  # of the voxels
SAMPLES = 1_000_000


class CheckResampledd(MapTransform):
    """
    Warns of axial pixels that resampling cannot bring to the size that a network was trained with.

    Args:
        keys: keys of volumes (C, X, Y, Z) with an affine.
        pixel_mm: size in plane in training, one for each axis.
        coarsest: multiple of it above which detail is missing.
        finest: share of it below which the header is more likely wrong than the pixels that fine.

    Raises:
        ValueError: when an argument is out of its range.
    """

    def __init__(
        self,
        keys: KeysCollection,
        pixel_mm: Sequence[float],
        *,
        coarsest: float = 2.5,
        finest: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(pixel_mm) != 2 or not all(side > 0 for side in pixel_mm):
            raise ValueError(f"`pixel_mm` must be 2 positive numbers in mm, got {list(pixel_mm)}.")
        if not 0 < finest < 1 < coarsest:
            raise ValueError(f"`finest` must be < 1 and `coarsest` > 1, got {finest} and {coarsest}.")
        self.pixel_mm = [float(side) for side in pixel_mm]
        self.coarsest, self.finest = coarsest, finest

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            found = axial_pixel_mm(data[key])
            ratios = max(found) / max(self.pixel_mm), min(found) / min(self.pixel_mm)
            if ratios[0] > self.coarsest or ratios[1] < self.finest:
                logger.warning(
                    f"{file_name(data[key])} has axial pixels of {found[0]:.3g} x {found[1]:.3g} mm, the network was"
                    f" trained with {self.pixel_mm[0]:.3g} x {self.pixel_mm[1]:.3g} mm: the result may be wrong. Give a"
                    " finer reconstruction, or correct the spacing in the header."
                )
        return dict(data)


class CheckAird(MapTransform):
    """
    Warns of a CT in which nothing is as dark as air: its offset is wrong, or it was cropped to soft tissue.

    Args:
        keys: keys of volumes (C, X, Y, Z) in HU.
    """

    def __init__(self, keys: KeysCollection, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            level = darkest_hu(sampled(torch.as_tensor(data[key]), SAMPLES).cpu().numpy())
            if level > AIR_HU:
                logger.warning(
                    f"{file_name(data[key])}: nothing in it is darker than {level:.0f} HU, but air has -1000 HU. If"
                    " the volume shows air or lung, its offset (RescaleIntercept) is wrong, and so is the result."
                )
        return dict(data)


def darkest_hu(values: np.ndarray) -> float:
    """
    The HU below which 0.05 % of the voxels lie, those of the padding left out.

    Args:
        values: of any shape.

    Example:
        >>> darkest_hu(np.array([-3024.0] * 10 + [-1000.0] * 10 + [40.0] * 80))
        -1000.0
    """
    image = values[values > PADDING_BELOW_HU]
    return float(np.quantile(image, DARKEST_SHARE)) if image.size else float("-inf")
