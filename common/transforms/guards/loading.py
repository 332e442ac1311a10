"""From a path to a checked volume: the first step of every training and inference."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, MapTransform

from ...dicom.reader import image_readers
from ...images.nifti import is_nifti_volume, map_nifti
from ..intensity import CheckHUd
from .image import CheckHeaderd, CheckImaged


class LoadImageAndCheckd(Compose):
    """Load volumes from NIfTI or DICOM, and refuse what is not one intensity volume.

    The steps are `CheckHeaderd`, `LoadImaged`, `EnsureChannelFirstd`, `CheckImaged` and, for CT, `CheckHUd`. MONAI
    Deploy passes volumes in memory and leaves out every transform whose name contains `LoadImage`, hence this name.

    Args:
        keys: Keys of paths, or of what `common.data.find_images` returns; volumes (1, X, Y, Z) take their place.
        hu: Whether the volumes must be in HU.
        read: Transform that loads the paths under `keys`; default: `LoadImaged` with the readers of
            `common.dicom.image_readers`, which returns float32.

    Raises:
        ValueError: When called, for a volume that one of the checks refuses. The message names the file.

    Example:
        >>> [type(step).__name__ for step in LoadImageAndCheckd("image", hu=False).transforms]
        ['CheckHeaderd', 'LoadImaged', 'EnsureChannelFirstd', 'CheckImaged']
    """

    def __init__(self, keys: KeysCollection, *, hu: bool, read: Callable | None = None) -> None:
        readers: Any = image_readers()
        steps: list[Callable] = [
            CheckHeaderd(keys),
            LoadImaged(keys, reader=readers) if read is None else read,
            EnsureChannelFirstd(keys),
            CheckImaged(keys),
        ]
        super().__init__([*steps, CheckHUd(keys)] if hu else steps)


class LoadMappedd(MapTransform):
    """Load volumes in the type of their values, the voxels of NIfTI files as a view of the disk.

    Volumes from DICOM are held in memory, in 16 bits where their values fit.

    Args:
        keys: Keys of paths, or of what `common.data.find_images` returns.
        allow_missing_keys: Whether items may lack some of the keys.
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
