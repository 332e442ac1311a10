"""Checking that images have the pixels that a super-resolution is made for: it knows no other scale."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from .check import file_name

logger = logging.getLogger(__name__)
ROUNDING = 1e-3  # of pixel sizes in headers


class CheckPixelSized(MapTransform):
    """
    Refuses volumes whose axial pixels are those of another scale, and warns of unusual ones; nothing is resampled.

    With the defaults an image of another factor, 2, 4 or 8, is refused, and the volumes of Zheng et al., SPIE Medical
    Imaging 2020, section 3.1, pass with a warning: micro CT of 0.042 to 0.052 mm where an eighth of the clinical pixel
    is 0.078 mm. In inference `finest` = factor ** -0.5 refuses pixels that are nearer to the output's than to the
    input's size: those of a micro CT, or of a volume that was super-resolved before.

    Args:
        keys: keys of volumes (C, X, Y, Z) with an affine, in any orientation.
        pixel_mm: expected size in plane, one for each axis.
        finest: share of `pixel_mm` at and below which a volume is refused.
        widest: multiple of `pixel_mm` at and above which a volume is refused; None: wide pixels are warned of alone.
        tolerance: factor, either way, above which a volume is warned of; clinical lung CT has pixels of 0.5 to 0.85 mm.

    Raises:
        ValueError: when an argument is out of its range; when called, for a volume of another scale. The message names
            the file.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> image = MetaTensor(torch.zeros(1, 2, 2, 1), affine=torch.diag(torch.tensor([0.6, 0.6, 5.0, 1.0])))
        >>> sorted(CheckPixelSized("image", [0.625, 0.625])({"image": image}))
        ['image']
    """

    def __init__(
        self,
        keys: KeysCollection,
        pixel_mm: Sequence[float],
        *,
        finest: float = 0.5,
        widest: float | None = 2.0,
        tolerance: float = 1.4,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(pixel_mm) != 2 or not all(side > 0 for side in pixel_mm):
            raise ValueError(f"`pixel_mm` must be 2 positive numbers in mm, got {list(pixel_mm)}.")
        if not 0 < finest < 1:
            raise ValueError(f"`finest` must lie between 0 and 1, got {finest}.")
        for name, value in (("widest", widest), ("tolerance", tolerance)):
            if value is not None and value <= 1:
                raise ValueError(f"`{name}` must be > 1, got {value}.")
        self.pixel_mm = tuple(float(side) for side in pixel_mm)
        self.finest, self.widest, self.tolerance = finest, widest, tolerance

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            self._check(data[key])
        return dict(data)

    def _check(self, volume: Any) -> None:
        found = axial_pixel_mm(volume)
        low, high = min(found) / min(self.pixel_mm), max(found) / max(self.pixel_mm)
        text = (
            f"{file_name(volume)} has axial pixels of {found[0]:.3g} x {found[1]:.3g} mm, expected are "
            f"{self.pixel_mm[0]:.3g} x {self.pixel_mm[1]:.3g} mm"
        )
        too_wide = self.widest is not None and high >= self.widest * (1 - ROUNDING)
        if low <= self.finest * (1 + ROUNDING) or too_wide:
            raise ValueError(
                f"{text}: it is of another scale, as a micro CT is in place of a clinical one, or a CT for another "
                "factor. Give the right volume, or correct the spacing in its header; for training, set `spacing_mm` "
                "(clinical pixel) and `factor` (by which micro pixels are smaller) to those of the images."
            )
        if max(high, 1 / low) > self.tolerance:
            size = "small" if high > self.tolerance else "large"
            logger.warning(
                f"{text}: structures appear {max(high, 1 / low):.2g} times too {size}, the result may be wrong. Train "
                "with such pixels, or resample the volume."
            )


def axial_pixel_mm(volume: Any) -> tuple[float, float]:
    """Pixel size in the axial plane of a volume (C, X, Y, Z) with an affine, in the order of its own axes."""
    affine = np.asarray(volume.affine, dtype=float)
    axes = nib.orientations.io_orientation(affine)[:, 0]
    first, second = nib.affines.voxel_sizes(affine)[axes != 2]
    return float(first), float(second)
