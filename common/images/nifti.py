"""Read NIfTI files: memory-mapped voxels, and checks for damaged files and meaningless grids, which nibabel lacks."""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import math
import mmap
import os
import tempfile
import weakref
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor, NibabelReader
from monai.transforms import LoadImage
from monai.utils import ensure_tuple

from ..errors import disk_full_names

VOLUME_SUFFIXES = (".nii", ".nii.gz")
MGH_SUFFIXES = (".mgh", ".mgz")  # of FreeSurfer
PAIR_SUFFIXES = (".img", ".hdr", ".img.gz", ".hdr.gz")  # Analyze or NIfTI in two files, which is not read
DOUBTS = "doubts"  # in a volume's meta data: a JSON list of what its header leaves in doubt
SCANNER = (1, 1)  # codes of sform and qform: coordinates of the scanner
SIZES_DIFFER = 1e-3  # relative: rounding in headers
AS_STORED = ("uint8", "int8", "int16", "int32", "float32")  # other types are read as float32, as MONAI reads all
WIDEST_MM = 5000.0  # no patient is longer
FINEST_MM = 1e-4
UNITS = {1: "metres", 3: "micrometres"}  # codes of xyzt_units
BLOCK = 1 << 20  # bytes
_mapped: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()  # by address, see `forget_pages`


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
    voxels = torch.from_numpy(array := _voxels(Path(path)))
    _mapped[voxels.untyped_storage().data_ptr()] = array
    return MetaTensor(voxels, meta=_loader()(str(path)).meta)


def forget_pages(volume: torch.Tensor) -> None:
    """Give back the memory of what was read of a volume of `map_nifti`, which is read again when it is used again.

    The system would free it only under pressure; until then it counts as the process's memory. Nothing happens to
    volumes in memory. What was written into a mapped volume is lost, so it must not be written to.

    Args:
        volume: Volume of `map_nifti`, or any view of it.
    """
    array: Any = _mapped.get(volume.untyped_storage().data_ptr())
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)


def absent(path: Any) -> str:
    """Return in words that a file does not exist, and where it points to if it is a link."""
    if os.path.islink(path):
        return f"{str(path)!r} is a link to {os.readlink(path)!r}, which does not exist (`git annex get`, or copy it)"
    return f"{str(path)!r} does not exist"


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
    check_affine(path, np.asarray(image.affine, dtype=float), image.shape)


def check_affine(path: Path, affine: np.ndarray, shape: Sequence[int]) -> None:
    """Check that an affine is a plausible map of a volume to millimetres, see `check_grid`.

    Args:
        path: Path of the file, for messages.
        affine: Affine to RAS in mm, (4, 4).
        shape: Shape of the volume.
    """
    cure = "Correct its header, or convert the original again."
    if not np.isfinite(affine).all():
        raise ValueError(f"{str(path)!r} has an affine that is not finite, {affine[:3].tolist()}. {cure}")
    sizes = nib.affines.voxel_sizes(affine)
    sides = sizes * (list(shape) + [1, 1, 1])[:3]
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
        path: Path that ends in `.nii`, `.nii.gz`, `.mgh` or `.mgz`.
        image: Image that nibabel loaded from it; its voxels need not be read.

    Raises:
        ValueError: If the file is truncated or its checksum is wrong. The message names the file.
    """
    needed = int(image.dataobj.offset) + math.prod(image.shape) * image.get_data_dtype().itemsize
    try:
        size = _decompressed_size(path) if path.name.lower().endswith((".gz", ".mgz")) else path.stat().st_size
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}): copy or convert it again.") from error
    if size < needed:
        raise ValueError(
            f"{str(path)!r} is truncated: its header promises {needed} bytes, it has {size}. Copy or convert it again."
        )


class NiftiReader(NibabelReader):
    """MONAI's reader of NIfTI, for which the sform is the truth, and which reads FreeSurfer's MGH and MGZ as well.

    Where the voxel sizes of the header (pixdim) are not those of its sform, MONAI takes the qform or rescales the
    affine, without a word: another grid. Here the affine stays that of nibabel: the sform if there is one, else the
    qform. A contradiction is noted in the meta data under `doubts`, see `grid_doubts`.
    """

    def verify_suffix(self, filename: Any) -> bool:
        """Return whether all names end in one of the suffixes that nibabel reads here."""
        return all(str(n).lower().endswith((*VOLUME_SUFFIXES, *MGH_SUFFIXES)) for n in ensure_tuple(filename))

    def read(self, data: Any, **kwargs: Any) -> Any:
        """Load files without their voxels.

        Raises:
            ValueError: For another file, as MONAI asks no reader for its suffixes that it was given as an object.
        """
        if not self.verify_suffix(data):
            raise ValueError(f"{data!r} is no NIfTI or MGH file.")
        self.filenames = ensure_tuple(data)
        images = [nib.load(name, **{**self.kwargs, **kwargs}) for name in self.filenames]  # type: ignore[attr-defined]
        return images if len(images) > 1 else images[0]

    def _get_meta_dict(self, img: Any) -> dict[str, Any]:
        meta: dict[str, Any] = super()._get_meta_dict(img)
        if doubts := grid_doubts(img):
            meta[DOUBTS] = json.dumps(doubts)
        return meta

    def _get_array_data(self, img: Any, filename: Any) -> np.ndarray:
        values: np.ndarray = super()._get_array_data(img, filename)
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def grid_doubts(image: Any) -> list[str]:
    """Return the contradictions in the header of a NIfTI file about its grid.

    Args:
        image: Image that nibabel loaded.

    Example:
        >>> image = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.diag([0.7, 0.7, 1.5, 1]))
        >>> grid_doubts(image)
        []
        >>> image.header["pixdim"][1:4] = 1
        >>> grid_doubts(image)
        ['its voxel sizes are 1 x 1 x 1 mm by pixdim, but 0.7 x 0.7 x 1.5 mm by its sform, which is taken']
    """
    if "sform_code" not in image.header or len(image.shape) < 3:
        return []
    affine, zooms = np.asarray(image.affine, dtype=float), np.asarray(image.header.get_zooms()[:3], dtype=float)
    if not np.isfinite(affine).all():
        return []  # refused by `check_grid`
    codes = int(image.header["sform_code"]), int(image.header["qform_code"])
    if codes == (0, 0):
        return ["it states no orientation (sform and qform codes 0): left and right are taken by convention"]
    found, sizes = [], nib.affines.voxel_sizes(affine)
    if not np.allclose(sizes, zooms, rtol=SIZES_DIFFER):
        found.append(
            f"its voxel sizes are {_sizes(zooms)} mm by pixdim, but {_sizes(sizes)} mm by its sform, which is taken"
        )
    elif codes[0] and codes[0] == codes[1] and (apart := _apart(image)) > 1:
        found.append(
            f"its sform and qform place it up to {apart:.3g} voxels apart, in the same space: the sform is taken"
        )
    return found


def _apart(image: Any) -> float:
    """Return how far apart sform and qform place a corner of the volume, in voxels."""
    corners = np.array(list(itertools.product(*((0, size - 1) for size in image.shape[:3]))), dtype=float)
    try:
        first, second = (nib.affines.apply_affine(form, corners) for form in (image.get_sform(), image.get_qform()))
    except (ValueError, np.linalg.LinAlgError):  # no valid quaternion
        return 0.0
    voxel = float(nib.affines.voxel_sizes(image.affine).min())
    return float(np.linalg.norm(first - second, axis=1).max()) / max(voxel, FINEST_MM)


def _sizes(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)


def space_codes(meta: Mapping[str, Any]) -> tuple[int, int]:
    """Return the codes of sform and qform of a volume's source; those of a scanner's space if it was no NIfTI file.

    Args:
        meta: Meta data of the volume.

    Example:
        >>> space_codes({"sform_code": np.array(4), "qform_code": np.array(1)}), space_codes({})
        ((4, 1), (1, 1))
    """
    try:
        sform, qform = (
            int(np.asarray(torch.as_tensor(meta[f"{form}_code"])).ravel()[0]) for form in ("sform", "qform")
        )
    except (KeyError, TypeError, ValueError, IndexError):
        return SCANNER
    return sform, qform


def set_space(image: Any, affine: np.ndarray, codes: tuple[int, int]) -> None:
    """Give an image its affine as sform and qform, with the codes of its source.

    Without a code readers derive another affine from the voxel sizes alone. Where it differs, the sform gets the code
    of a scanner's space.

    Args:
        image: Image of nibabel, which is changed.
        affine: Affine to RAS in mm, (4, 4).
        codes: Codes of sform and qform.
    """
    image.set_sform(affine, code=codes[0])
    image.set_qform(affine, code=codes[1])
    if not np.allclose(image.header.get_best_affine(), affine, rtol=1e-4, atol=1e-3):
        image.set_sform(affine, code=codes[0] or SCANNER[0])
    image.header.set_xyzt_units("mm")


class _HeaderReader(NiftiReader):
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
