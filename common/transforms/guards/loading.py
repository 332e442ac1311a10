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
    Deploy brings volumes in memory: it leaves out every transform whose name holds `LoadImage`, hence this name.

    Args:
        keys: keys of paths, or of what `common.data.find_images` gives; they get volumes of shape (1, X, Y, Z).
        hu: whether the volumes must be in HU.
        read: transform that loads the paths under `keys`; default: `LoadImaged` with the readers of
            `common.dicom.image_readers`, which gives float32.

    Raises:
        ValueError: when called, for a volume that one of the checks refuses. The message names the file.

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
    """`LoadImaged` that keeps the values' type, and gives the voxels of NIfTI volumes as a view of the disk.

    Volumes from DICOM are held in memory, as 16 bit where they fit.

    Args:
        keys: keys of paths, or of what `common.data.find_images` gives.
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
