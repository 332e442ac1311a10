"""Loading a volume for a translation that goes slice by slice: nothing of it is held in memory that need not be."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import LoadImaged, MapTransform

from ..data.inference_images import image_readers
from ..data.mapped_nifti import is_nifti_volume, map_nifti


class LoadMappedd(MapTransform):
    """
    `LoadImaged` that keeps the values' type, and gives the voxels of NIfTI volumes as a view of the disk.

    Volumes from DICOM are held in memory, as 16 bit where they fit.

    Args:
        keys: keys of paths, or of what `find_images` gives.
    """

    def __init__(self, keys: KeysCollection, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        readers: Any = image_readers()
        self.others = {key: LoadImaged(key, reader=readers, dtype=None) for key in self.keys}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            if is_nifti_volume(item[key]):
                item[key] = map_nifti(item[key])
            else:
                item = dict(self.others[key](item))
        return item
