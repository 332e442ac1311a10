"""Checking that images have the pixel size of a network's training: a super-resolution knows no other scale."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from .check import file_name

logger = logging.getLogger(__name__)
REFUSED_FACTOR = 2.0  # pixels that are so much wider or finer belong to another factor
WARNED_FACTOR = 1.25


class CheckTrainingPixeld(MapTransform):
    """
    Refuses images whose pixels are twice as wide as expected, or half, or beyond; warns above a quarter.

    In between lie the volumes of Zheng et al., SPIE Medical Imaging 2020, section 3.1: micro CT of 0.042 to 0.052 mm
    where an eighth of the clinical pixel is 0.078 mm.

    Args:
        keys: keys of volumes of shape (C, X, Y, Z), MetaTensors, axial slices along Z.
        pixel_mm: expected size along X and Y.

    Raises:
        ValueError: when an image has pixels of another size. The message names the file.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> image = MetaTensor(torch.zeros(1, 2, 2, 1), affine=torch.diag(torch.tensor([0.6, 0.6, 5.0, 1.0])))
        >>> sorted(CheckTrainingPixeld("image", [0.625, 0.625])({"image": image}))
        ['image']
    """

    def __init__(self, keys: KeysCollection, pixel_mm: Sequence[float], *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(pixel_mm) != 2 or not all(side > 0 for side in pixel_mm):
            raise ValueError(f"`pixel_mm` must be 2 positive numbers in mm, got {list(pixel_mm)}.")
        self.pixel_mm = tuple(float(side) for side in pixel_mm)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            found = [float(side) for side in data[key].pixdim[:2]]
            ratios = [side / expected for side, expected in zip(found, self.pixel_mm, strict=True)]
            off = max(max(ratio, 1 / ratio) for ratio in ratios)
            what = (
                f"{file_name(data[key])} has pixels of {found[0]:.3g} x {found[1]:.3g} mm, expected are "
                f"{self.pixel_mm[0]:.3g} x {self.pixel_mm[1]:.3g} mm"
            )
            if off >= REFUSED_FACTOR * (1 - 1e-3):
                raise ValueError(
                    f"{what}: clinical pixels must be `factor` times as wide as micro pixels. Resample the images, or "
                    "set `spacing_mm` (clinical pixel) and `factor` to what they are."
                )
            if off > WARNED_FACTOR:
                logger.warning(f"{what}: structures will appear {off:.2g} times too large or too small.")
        return dict(data)
