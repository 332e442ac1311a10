"""Checks of the two scales that a network takes for granted: the size of a pixel, and -1000 HU for air."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ...images.grids import reduced, sampled
from ...images.names import file_name
from ...metrics.score import foreground_mask
from ..intensity import PADDING_BELOW_HU

logger = logging.getLogger(__name__)

ROUNDING = 1e-3  # of pixel sizes in headers
AIR_HU = -800.0  # lung, gas and the air around the body are darker somewhere
DARKEST_SHARE = 0.0005  # of the voxels
SAMPLES = 1_000_000


class CheckPixelSized(MapTransform):
    """Refuse volumes whose axial pixels are of another scale, and warn of unusual ones; nothing is resampled.

    A super-resolution network knows no other scale than that of its training. With the defaults an image of another
    factor, 2, 4 or 8, is refused, and the volumes of Zheng et al., SPIE Medical Imaging 2020, section 3.1, pass with a
    warning: micro CT of 0.042 to 0.052 mm where an eighth of the clinical pixel is 0.078 mm. In inference `finest` =
    factor ** -0.5 refuses pixels that are nearer to the output's size than to the input's: those of a micro CT, or of a
    volume that was super-resolved before.

    Args:
        keys: Keys of volumes (C, X, Y, Z) with an affine, in any orientation.
        pixel_mm: Expected pixel size in plane in mm, one for each axis.
        finest: Share of `pixel_mm` at and below which a volume is refused.
        widest: Multiple of `pixel_mm` at and above which a volume is refused; with None wide pixels are only warned of.
        tolerance: Factor in either direction above which a warning is given; clinical lung CT has pixels of 0.5 to
            0.85 mm.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: If an argument is out of its range; when called, for a volume of another scale. The message names
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
    """Return the axial pixel size in mm of a volume (C, X, Y, Z) with an affine, in the order of its own axes."""
    affine = np.asarray(volume.affine, dtype=float)
    axes = nib.orientations.io_orientation(affine)[:, 0]
    first, second = nib.affines.voxel_sizes(affine)[axes != 2]
    return float(first), float(second)


class CheckResampledd(MapTransform):
    """Warn of axial pixels that resampling cannot bring to the size that a network was trained with.

    Args:
        keys: Keys of volumes (C, X, Y, Z) with an affine.
        pixel_mm: Pixel size in plane in training in mm, one for each axis.
        coarsest: Multiple of `pixel_mm` above which detail is missing.
        finest: Share of `pixel_mm` below which the header is probably wrong.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: If an argument is out of its range.
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


class CheckClippedd(MapTransform):
    """Refuse an MR volume of which the encoding would clip much more than the brightest few voxels.

    Percentiles are taken over all voxels, as in training. In a large field of view with a small head the upper one lies
    within the brain, whose bright part then becomes one value. In real volumes 2 to 3 % of the head lie above the 99th
    percentile.

    Args:
        keys: Keys of volumes (C, X, Y, Z).
        percentiles: Lower and upper percentile in percent; None, for a codec without, lets every volume pass.
        most: Largest share of the head above the upper percentile.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: When called, for a volume that would be clipped more. The message names the file.
    """

    def __init__(
        self,
        keys: KeysCollection,
        percentiles: Sequence[float] | None,
        *,
        most: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.upper = None if percentiles is None else percentiles[1]
        self.most = most

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if self.upper is None:
            return dict(data)
        for key in self.key_iterator(dict(data)):
            volume, _ = reduced(data[key])
            head, high = foreground_mask(volume), float(np.percentile(volume, self.upper))
            share = float((volume[head] > high).mean()) if head.any() else 0.0
            if share > self.most:
                raise ValueError(
                    f"{file_name(data[key])} shows a head that fills {head.mean():.0%} of the volume: {share:.0%} of"
                    f" it lies above the {self.upper:g}th percentile of all voxels ({high:.4g}), where the"
                    " network sees a single value. Crop the volume to the head, so that it fills a fifth or more."
                )
        return dict(data)


class CheckPlaned(MapTransform):
    """Refuse volumes whose axial slices are too small for a conversion of kernels, or have pixels that are not square.

    A kernel acts within axial slices, in lp/mm, over 15 pixels on either side. A coronal or sagittal stack has few,
    wide pixels along the axis of its slices.

    Args:
        keys: Keys of volumes (C, X, Y, Z) with an affine.
        least_pixels: Smallest number of pixels along each side of an axial slice.
        most_ratio: Largest ratio of both pixel sizes.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: When called, for a volume with other slices. The message names the file.
    """

    def __init__(
        self, keys: KeysCollection, *, least_pixels: int = 16, most_ratio: float = 1.5, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.least_pixels, self.most_ratio = least_pixels, most_ratio

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            axes = nib.orientations.io_orientation(np.asarray(data[key].affine, dtype=float))[:, 0]
            size = [int(n) for n, axis in zip(data[key].shape[1:], axes) if axis != 2]
            pixel = axial_pixel_mm(data[key])
            if min(size) < self.least_pixels or max(pixel) > self.most_ratio * min(pixel):
                raise ValueError(
                    f"{file_name(data[key])} has axial slices of {size[0]} x {size[1]} pixels of {pixel[0]:.3g} x"
                    f" {pixel[1]:.3g} mm; at least {self.least_pixels} pixels along each side, at most"
                    f" {self.most_ratio:g} times as long as wide, are needed, as a kernel acts within them over 15"
                    " pixels on either side. Give the axial reconstruction instead of a coronal or sagittal one."
                )
        return dict(data)


class CheckAird(MapTransform):
    """Warn of a CT in which nothing is as dark as air: its offset is wrong, or it was cropped to soft tissue.

    Args:
        keys: Keys of volumes (C, X, Y, Z) in HU.
        allow_missing_keys: Whether items may lack some of the keys.
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
    """Return the HU below which 0.05 % of the voxels lie, padding excluded; -inf if there is only padding.

    Args:
        values: Voxels in HU, in any shape.

    Example:
        >>> darkest_hu(np.array([-3024.0] * 10 + [-1000.0] * 10 + [40.0] * 80))
        -1000.0
    """
    image = values[values > PADDING_BELOW_HU]
    return float(np.quantile(image, DARKEST_SHARE)) if image.size else float("-inf")
