"""Does a volume have pixels of the size that a network was trained on?"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from .check import file_name

TOLERANCE = 0.3  # relative: clinical lung CT has pixels of 0.5 to 0.85 mm


class CheckPixelSized(MapTransform):
    """
    Refuses volumes whose axial pixels are nearer to a super-resolved size than to that of training; warns of others.

    Args:
        keys: keys of volumes (C, X, Y, Z) with an affine.
        spacing_mm: sizes of the clinical pixels in training, one or more; images of other sizes are not resampled.
        factor: of the super-resolution.

    Raises:
        ValueError: when a volume's pixels are smaller than those of training by the root of `factor` or more: it is a
            micro CT, or was super-resolved before. The message names the file.
    """

    def __init__(
        self, keys: KeysCollection, spacing_mm: Sequence[float], factor: int, *, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.low, self.high = min(spacing_mm), max(spacing_mm)
        self.factor = factor

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            self._check(data[key])
        return dict(data)

    def _check(self, volume: Any) -> None:
        affine = np.asarray(volume.affine, dtype=float)
        axes = nib.orientations.io_orientation(affine)[:, 0]
        pixel = nib.affines.voxel_sizes(affine)[axes != 2]
        trained = f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"
        found = f"{file_name(volume)} has axial pixels of {pixel[0]:.3g} x {pixel[1]:.3g} mm"
        if pixel.min() <= self.low / self.factor**0.5:
            raise ValueError(
                f"{found}, nearer to the micro CT that this network makes than to the clinical CT of {trained} mm that"
                f" it needs: pixels would become another {self.factor} times smaller. Give the clinical volume, or"
                " correct the spacing in the header."
            )
        if pixel.min() < self.low * (1 - TOLERANCE) or pixel.max() > self.high * (1 + TOLERANCE):
            warnings.warn(
                f"{found}, but the network was trained with {trained} mm: structures appear larger or smaller to it,"
                " the result may be wrong. Train with such pixels, or resample the volume.",
                stacklevel=2,
            )
