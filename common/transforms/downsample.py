"""Axial slices of a volume on wider pixels, for a test of super-resolution that knows the truth."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..images.downsampling import DOWNSAMPLINGS
from ..images.grids import finer_affine
from ..images.names import file_name


class DownSampleSlicesd(MapTransform):
    """Put the axial slices of volumes on pixels that are `factor` times as wide; their thickness stays.

    The grids have the same outer corners. With "spline" the released code of SR-CycleGAN (zhuofeng/SR-cycleGAN) takes
    the values between other places than its network's output has, see `common.images.downsampling.spline`.

    Args:
        keys: Keys of volumes (1, X, Y, Z) with an affine, axial slices along Z.
        factor: Ratio of the pixel widths, >= 1.
        downsampling: "mean" over each wide pixel, or "spline".
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: If an argument is out of its range; when called, if a side of a slice is no multiple of `factor`.

    Example:
        >>> volume = MetaTensor(torch.arange(8.0).reshape(1, 4, 2, 1), affine=torch.eye(4))
        >>> coarse = DownSampleSlicesd("image", 2)({"image": volume})["image"]
        >>> coarse.flatten().tolist(), coarse.affine[:2, 3].tolist()
        ([1.5, 5.5], [0.5, 0.5])
    """

    def __init__(
        self, keys: KeysCollection, factor: int, downsampling: str = "mean", *, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if factor < 1:
            raise ValueError(f"`factor` must be >= 1, got {factor}.")
        if downsampling not in DOWNSAMPLINGS:
            raise ValueError(f"`downsampling` must be one of {tuple(DOWNSAMPLINGS)}, got {downsampling!r}.")
        self.factor, self.downsample = factor, DOWNSAMPLINGS[downsampling]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self._reduced(item[key])
        return item

    def _reduced(self, volume: MetaTensor) -> MetaTensor:
        width, height = volume.shape[1:3]
        if width % self.factor or height % self.factor:
            raise ValueError(
                f"{file_name(volume)} must have slices whose sides are multiples of {self.factor} pixels to be"
                f" down-sampled, got {width} x {height}. Crop it, for example to"
                f" {width - width % self.factor} x {height - height % self.factor}."
            )
        slices = torch.movedim(volume.as_subclass(torch.Tensor)[0], 2, 0).float()
        reduced = torch.movedim(self.downsample(slices, self.factor), 0, 2)[None]
        affine = finer_affine(np.asarray(volume.affine), 1 / self.factor)
        meta = {name: value for name, value in volume.meta.items() if name != "affine"}
        return MetaTensor(reduced, affine=torch.as_tensor(affine), meta=meta)
