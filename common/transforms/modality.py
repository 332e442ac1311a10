"""Refusing MR where CT is expected, and the reverse: by the DICOM header, or by values that only one of them has."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from .check import file_name

MODALITY = "modality"  # in the meta data of a volume from DICOM
AIR_HU = -500.0
AIR_SHARE = 0.01  # an MR magnitude has no such values; one that was normalised, z-scores of a few units


class CheckModalityd(MapTransform):
    """
    Refuses an image of another modality.

    The modality of a DICOM header decides, which `DicomSeriesReader` notes. A file without header (NIfTI) is refused as
    CT where MR is expected when 1 % of its voxels lie below -500, as air in HU does; whether it is a CT in HU where
    that is expected is `CheckHUd`'s question.

    Args:
        keys: keys of volumes of shape (C, X, Y, Z).
        modality: `CT` or `MR`.

    Raises:
        ValueError: when `modality` is another; when called, for an image of the other modality. The message names the
            file and the evidence.

    Example:
        >>> from monai.data import MetaTensor
        >>> image = MetaTensor(torch.zeros(1, 2, 2, 1), meta={"modality": "CT"})
        >>> CheckModalityd("image", "MR")({"image": image})
        Traceback (most recent call last):
        ...
        ValueError: the image is CT by its DICOM header, but this bundle translates MR: give an MR series.
    """

    def __init__(self, keys: KeysCollection, modality: str, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if modality not in ("CT", "MR"):
            raise ValueError(f"`modality` must be 'CT' or 'MR', got {modality!r}.")
        self.modality = modality

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            self._check(data[key])
        return dict(data)

    def _check(self, image: Any) -> None:
        article = "an" if self.modality == "MR" else "a"
        cure = f"but this bundle translates {self.modality}: give {article} {self.modality} series."
        found = getattr(image, "meta", {}).get(MODALITY)
        if found not in (None, self.modality):
            raise ValueError(f"{file_name(image)} is {found} by its DICOM header, {cure}")
        if self.modality == "MR" and found is None:
            share = float((torch.as_tensor(image) < AIR_HU).float().mean())
            if share > AIR_SHARE:
                raise ValueError(
                    f"{file_name(image)} is a CT by its values, of which {share:.0%} lie below {AIR_HU:g}, {cure}"
                )
