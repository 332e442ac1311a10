"""Read NIfTI files: memory-mapped voxels, and checks for damaged files and meaningless grids, which nibabel lacks."""

from __future__ import annotations

import functools
import gzip
import math
import tempfile
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor, NibabelReader
from monai.transforms import LoadImage

from ..errors import disk_full_names

VOLUME_SUFFIXES = (".nii", ".nii.gz")
AS_STORED = ("uint8", "int8", "int16", "int32", "float32")  # other types are read as float32, as MONAI reads all
WIDEST_MM = 5000.0  # no patient is longer
FINEST_MM = 1e-4
UNITS = {1: "metres", 3: "micrometres"}  # codes of xyzt_units
BLOCK = 1 << 20  # bytes


def is_nifti_volume(path: Any) -> bool:
    """Return whether a path names a 3-D NIfTI file, by its header."""
    if not isinstance(path, (str, Path)) or not str(path).lower().endswith(VOLUME_SUFFIXES) or not Path(path).is_file():
        return False
    return len(nib.load(path).shape) == 3  # type: ignore[attr-defined]


def map_nifti(path: str | Path) -> MetaTensor:
    """Memory-map a 3-D NIfTI file of any size; only the voxels that are used are read.

    An uncompressed file of unscaled values is mapped itself. Any other file is unpacked slice by slice into an unnamed
    file in the system's temporary folder (`TMPDIR`), which is freed with the tensor or the process. Integers are not
    converted: convert to float before computing with them.

    Args:
        path: Path that ends in `.nii` or `.nii.gz`.

    Returns:
        A tensor (X, Y, Z) with the meta data of MONAI's `LoadImage`.

    Raises:
        DiskFullError: If there is no space to unpack the file.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
        ...     nib.save(nib.Nifti1Image(values, np.eye(4)), f"{folder}/a.nii.gz")
        ...     image = map_nifti(f"{folder}/a.nii.gz")
        >>> image.dtype, bool((image.numpy() == values).all())
        (torch.int16, True)
    """
    return MetaTensor(torch.from_numpy(_voxels(Path(path))), meta=_loader()(str(path)).meta)


def check_grid(path: Path, image: Any) -> None:
    """Check that the affine of a volume is a plausible map to millimetres.

    The memory needed to resample a volume grows with its size in millimetres: a damaged header can ask for terabytes.

    Args:
        path: Path of the file, for messages.
        image: Image that nibabel loaded from it.

    Raises:
        ValueError: If the unit of voxel sizes is not mm, the affine is not finite or singular, a voxel is finer than
            0.1 micrometres, or a side is longer than 5 m. The message names the file.

    Example:
        >>> check_grid(Path("a.nii"), nib.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.diag([1, 1, 1e4, 1])))
        Traceback (most recent call last):
        ...
        ValueError: 'a.nii' is 9 x 9 x 90000 mm large by its header: its affine is damaged, or its unit is not mm. ...
    """
    cure = "Correct its header, or convert the original again."
    code = int(image.header["xyzt_units"]) & 7 if "xyzt_units" in image.header else 0
    if code in UNITS:
        raise ValueError(f"{str(path)!r} gives its voxel sizes in {UNITS[code]}, they must be in mm. {cure}")
    affine = np.asarray(image.affine, dtype=float)
    if not np.isfinite(affine).all():
        raise ValueError(f"{str(path)!r} has an affine that is not finite, {affine[:3].tolist()}. {cure}")
    sizes = nib.affines.voxel_sizes(affine)
    sides = sizes * (list(image.shape) + [1, 1, 1])[:3]
    if sizes.min() < FINEST_MM or sides.max() > WIDEST_MM:
        large = " x ".join(f"{side:.4g}" if side < 1e4 else f"{side:.0f}" for side in sides)
        raise ValueError(
            f"{str(path)!r} is {large} mm large by its header: its affine is damaged, or its unit is not mm. {cure}"
        )
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-3:
        raise ValueError(f"{str(path)!r} has axes that lie in one plane, {affine[:3, :3].tolist()}. {cure}")


def check_whole(path: Path, image: Any) -> None:
    """Check that a NIfTI file is neither truncated nor damaged.

    nibabel stops reading at the last voxel, before the checksum at the end of a `.nii.gz`: it loads most files with a
    flipped bit, with wrong voxels. An uncompressed `.nii` has no checksum; only its size is checked.

    Args:
        path: Path that ends in `.nii` or `.nii.gz`.
        image: Image that nibabel loaded from it; its voxels need not be read.

    Raises:
        ValueError: If the file is truncated or its checksum is wrong. The message names the file.
    """
    needed = int(image.dataobj.offset) + math.prod(image.shape) * image.get_data_dtype().itemsize
    try:
        size = _decompressed_size(path) if path.name.lower().endswith(".gz") else path.stat().st_size
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}): copy or convert it again.") from error
    if size < needed:
        raise ValueError(
            f"{str(path)!r} is truncated: its header promises {needed} bytes, it has {size}. Copy or convert it again."
        )


class _HeaderReader(NibabelReader):
    """Reader of MONAI's meta data, without the voxels."""

    def _get_array_data(self, img: Any, filename: Any) -> np.ndarray:
        return np.zeros([1] * len(img.shape), dtype=np.float32)


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


def _decompressed_size(path: Path) -> int:
    """Read a file to its end, where gzip's checksum is verified, and return its size in bytes."""
    size = 0
    with gzip.open(path, "rb") as file:
        while block := file.read(BLOCK):
            size += len(block)
    return size
