"""Write NIfTI volumes, complete or not at all: slice by slice in the memory of one slice, or by MONAI's transform."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import nibabel as nib
import numpy as np
from monai.config import KeysCollection
from monai.data import NibabelWriter
from monai.data.utils import to_affine_nd
from monai.transforms import SaveImaged

from ..files import atomic_write, partial_name, remove_partials
from .names import output_layout
from .nifti import SCANNER, set_space, space_codes

HEADER_BYTES = 352
LARGEST_SIDE = 32767  # NIfTI-1 stores sizes as int16
FASTEST = 1  # gzip's level; noise hardly compresses better with 9


def nifti_bytes(shape: Sequence[int], dtype: str = "int16") -> int:
    """Return the size of an uncompressed NIfTI file in bytes.

    Example:
        >>> nifti_bytes((4096, 4096, 300)) / 1e9
        10.066329952
    """
    return HEADER_BYTES + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


class NiftiSliceWriter:
    """A context manager that writes the slices of a NIfTI-1 file in order.

    The file has a hidden, temporary name until it is complete; on an error, or with too few slices, it is removed, and
    an existing file of the same name stays.

    Args:
        path: Path that ends in `.nii`, or in `.nii.gz` for a compressed file.
        shape: (X, Y, Z), slices along Z.
        affine: Affine from voxel indices to RAS in mm, (4, 4).
        dtype: Data type of the voxels.
        codes: Codes of sform and qform, see `space_codes`.

    Raises:
        ValueError: If the name or a size is invalid in NIfTI-1, or slices have a wrong shape, type or number.
        OSError: As raised by the system, such as ENOSPC when the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with NiftiSliceWriter(f"{folder}/volume.nii", (4, 3, 2), np.eye(4)) as writer:
        ...         for level in range(2):
        ...             writer.write(np.full((4, 3, 1), level, np.int16))
        ...     np.asarray(nib.load(f"{folder}/volume.nii").dataobj)[0, 0].tolist()
        [0, 1]
    """

    def __init__(
        self,
        path: str | Path,
        shape: Sequence[int],
        affine: np.ndarray,
        *,
        dtype: str | np.dtype = "int16",
        codes: tuple[int, int] = SCANNER,
    ) -> None:
        self.path, self.shape, self.dtype = Path(path), tuple(int(n) for n in shape), np.dtype(dtype)
        if not self.path.name.endswith((".nii", ".nii.gz")):
            raise ValueError(f"`path` must end in .nii or .nii.gz, got {self.path.name!r}.")
        if len(self.shape) != 3 or not all(1 <= n <= LARGEST_SIDE for n in self.shape):
            raise ValueError(f"`shape` must be three sizes of 1 to {LARGEST_SIDE}, got {self.shape}.")
        self.affine, self.codes = affine, codes
        self.partial = partial_name(self.path)
        self.written = 0
        self._raw: IO[bytes] | None = None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> NiftiSliceWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_partials(self.path)
            self._raw = self.partial.open("wb")
            self._file = self._packed(self._raw)
            self._header().write_to(self._file)
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, slab: np.ndarray) -> None:
        """Append slices of shape (X, Y, n)."""
        if self._file is None:
            raise ValueError("slices must be written inside the writer's `with` block.")
        if slab.ndim != 3 or slab.shape[:2] != self.shape[:2] or self.written + slab.shape[2] > self.shape[2]:
            raise ValueError(
                f"slices must be of {self.shape[0]} x {self.shape[1]} pixels and at most"
                f" {self.shape[2] - self.written} more, got shape {slab.shape}."
            )
        if slab.dtype != self.dtype:
            raise ValueError(f"slices must be of type {self.dtype}, got {slab.dtype}: round and convert them before.")
        for level in range(slab.shape[2]):
            self._file.write(slab[:, :, level].tobytes(order="F"))
        self.written += slab.shape[2]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._discard()

    def _packed(self, raw: IO[bytes]) -> IO[bytes]:
        """Compress if need be, without name and time, so that equal voxels make equal files."""
        if self.path.suffix == ".gz":
            return gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=FASTEST, mtime=0)  # type: ignore
        return raw

    def _header(self) -> nib.Nifti1Header:
        """Return nibabel's header of such an image, without holding its voxels."""
        voxels = np.broadcast_to(np.zeros((), self.dtype), self.shape)
        image = nib.Nifti1Image(voxels, self.affine)
        set_space(image, self.affine, self.codes)
        image.header.set_slope_inter(1, 0)
        return image.header

    def _finish(self) -> None:
        if self.written != self.shape[2]:
            raise ValueError(f"{self.path.name!r} must have {self.shape[2]} slices, but {self.written} were written.")
        self._close(sync=True)  # the disk may lack space for what is still buffered
        self.partial.replace(self.path)

    def _close(self, *, sync: bool = False) -> None:
        file, raw, self._file, self._raw = self._file, self._raw, None, None
        try:
            if file is not None and file is not raw:
                file.close()
            if raw is not None and sync:
                raw.flush()
                os.fsync(raw.fileno())  # otherwise a power cut might leave the name without the content
        finally:
            if raw is not None:
                raw.close()

    def _discard(self) -> None:
        """Remove the temporary file, which is gone already after `_finish`."""
        try:
            self._close()
        except OSError:
            pass  # the disk is full again, which the first error reports
        finally:
            self.partial.unlink(missing_ok=True)


def save_volume(
    output_dir: str, target: str | Mapping[str, float], *, data_root_dir: str, dtype: str = "float32", key: str = "pred"
) -> SaveImaged:
    """Return the transform that writes a volume (1, X, Y, Z) as `<source's name>_synthetic_<target>.nii.gz`.

    Args:
        output_dir: Folder of the outputs.
        target: A domain, or the weights of a blend.
        data_root_dir: Folder of the sources; outputs keep the path below it.
        dtype: Data type of the file; values must be rounded before writing integers.
        key: Key of the volume.
    """
    return SaveVolumed(
        key,
        folder_layout=output_layout(output_dir, target, data_root_dir=data_root_dir),
        output_dtype=np.dtype(dtype),
        resample=False,
        savepath_in_metadict=True,
        print_log=False,
    )


class SaveVolumed(SaveImaged):
    """`SaveImaged` that reports why a file could not be written, where MONAI suspects missing libraries."""

    def __init__(self, keys: KeysCollection, **options: Any) -> None:
        self.failures: list[Exception] = []
        writer: Any = partial(VolumeWriter, failures=self.failures)
        super().__init__(keys, writer=writer, **options)

    def __call__(self, data: Any) -> Any:
        self.failures.clear()
        try:
            return super().__call__(data)
        except RuntimeError as error:
            if self.failures:
                raise self.failures[0] from error
            raise


class VolumeWriter(NibabelWriter):
    """MONAI's writer with atomic files, which keeps the last axis of a volume of one slice.

    Args:
        failures: List that collects the errors raised by `write`, as `SaveImage` hides them.
        options: Options of `NibabelWriter`.
    """

    def __init__(self, *, failures: list[Exception] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.failures = [] if failures is None else failures
        self.codes = SCANNER

    def set_metadata(self, meta_dict: Any = None, resample: bool = False, **_: Any) -> None:
        """Take over the affine and the codes of a volume, which is never resampled.

        MONAI resamples to the same grid here, even when asked not to, and counts the dimensions of a volume without its
        channel as two: it refuses sagittal and coronal volumes, whose first two rows and columns alone are singular.
        """
        _, self.affine, _ = self.get_meta_info(meta_dict)
        self.codes = space_codes(meta_dict or {})

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **_: Any) -> None:  # type: ignore[override]
        super().set_data_array(data_array, channel_dim=channel_dim, squeeze_end_dims=False)
        self.data_obj = self.data_obj[..., 0]

    def write(self, filename: str | os.PathLike[str], verbose: bool = False, **options: Any) -> None:
        """Write the file under a temporary name, then move it to its own."""
        affine = to_affine_nd(3, np.eye(4) if self.affine is None else np.asarray(self.affine))
        image = self.create_backend_obj(self.data_obj, affine=affine, dtype=self.output_dtype, **options)
        set_space(image, affine, self.codes)
        try:
            _write(image, Path(filename))
        except Exception as error:
            self.failures.append(error)
            raise


def _write(image: Any, path: Path) -> None:
    size = image.dataobj.nbytes
    with atomic_write(path, needed=size) as file:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=FASTEST, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)
