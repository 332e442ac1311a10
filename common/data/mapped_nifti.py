"""The voxels of a NIfTI file as a view of the disk: of any size, and in memory only as far as they are looked at."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor, NibabelReader
from monai.transforms import LoadImage

from ..errors import disk_full_names

SUFFIXES = (".nii", ".nii.gz")
AS_STORED = ("uint8", "int8", "int16", "int32", "float32")  # other types are read as float32, as MONAI reads all


class _HeaderReader(NibabelReader):
    """What MONAI notes of a file, without its voxels."""

    def _get_array_data(self, img: Any, filename: Any) -> np.ndarray:
        return np.zeros([1] * len(img.shape), dtype=np.float32)


def is_nifti_volume(path: Any) -> bool:
    """Whether a path names a 3-D NIfTI file, by its header."""
    if not isinstance(path, (str, Path)) or not str(path).lower().endswith(SUFFIXES) or not Path(path).is_file():
        return False
    return len(nib.load(path).shape) == 3  # type: ignore[attr-defined]


def map_nifti(path: str | Path) -> MetaTensor:
    """
    A 3-D NIfTI file as MONAI's `LoadImage` gives it, (X, Y, Z), but as a view of the disk.

    An uncompressed file of values that need no scaling is mapped itself. Another one is unpacked slice by slice into
    an unnamed file in the system's folder for temporary files (`TMPDIR`), which goes with the tensor, or with the
    process. Whole numbers stay what they are; what is computed from them must be converted to float before.

    Args:
        path: ends in `.nii` or `.nii.gz`.

    Raises:
        DiskFullError: when there is no room to unpack it.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
        ...     nib.save(nib.Nifti1Image(values, np.eye(4)), f"{folder}/a.nii.gz")
        ...     image = map_nifti(f"{folder}/a.nii.gz")
        >>> image.dtype, bool((image.numpy() == values).all())
        (torch.int16, True)
    """
    return MetaTensor(torch.from_numpy(_voxels(Path(path))), meta=_loader()(str(path)).meta)


@functools.cache
def _loader() -> LoadImage:
    return LoadImage(reader=_HeaderReader())


def _voxels(path: Path) -> np.ndarray:
    image: Any = nib.load(path, keep_file_open=True)  # type: ignore[attr-defined]
    proxy = image.dataobj
    scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
    stored = image.get_data_dtype()
    dtype = stored.newbyteorder("=") if stored.name in AS_STORED and not scaled else np.dtype(np.float32)
    if path.suffix == ".nii" and dtype == stored and not scaled:
        return np.asarray(proxy.get_unscaled())
    return _unpacked(proxy, dtype)


def _unpacked(proxy: Any, dtype: np.dtype) -> np.ndarray:
    size = int(np.prod(proxy.shape, dtype=np.int64)) * dtype.itemsize
    with tempfile.TemporaryFile() as file:
        with disk_full_names(Path(tempfile.gettempdir()) / "unpacked", needed=size):
            for level in range(proxy.shape[2]):
                file.write(np.asarray(proxy[..., level]).astype(dtype).tobytes(order="F"))
            file.flush()
        return np.asarray(np.memmap(file, dtype=dtype, mode="c", shape=proxy.shape, order="F"))
