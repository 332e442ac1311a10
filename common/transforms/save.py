"""Saving a translated volume under its source's name, with its target in it."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import FolderLayout, NibabelWriter
from monai.data.utils import to_affine_nd
from monai.transforms import SaveImaged

from ..data.slice_writer import FASTEST
from ..whole_file import whole_file


class VolumeWriter(NibabelWriter):
    """
    MONAI's writer, whose files are whole or absent, and which keeps the last axis of a volume of one slice.

    Args:
        failures: gets the errors that `write` raises, for `SaveImage` hides them.
        options: of `NibabelWriter`.
    """

    def __init__(self, *, failures: list[Exception] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.failures = [] if failures is None else failures

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **_: Any) -> None:  # type: ignore[override]
        super().set_data_array(data_array, channel_dim=channel_dim, squeeze_end_dims=False)
        self.data_obj = self.data_obj[..., 0]

    def write(self, filename: str | os.PathLike[str], verbose: bool = False, **options: Any) -> None:
        """Write the file under a temporary name, then move it to its own."""
        affine = to_affine_nd(3, np.eye(4) if self.affine is None else np.asarray(self.affine))
        image = self.create_backend_obj(self.data_obj, affine=affine, dtype=self.output_dtype, **options)
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
        image.header.set_xyzt_units("mm")
        try:
            _write(image, Path(filename))
        except Exception as error:
            self.failures.append(error)
            raise


def _write(image: Any, path: Path) -> None:
    size = image.dataobj.nbytes
    with whole_file(path, needed=size) as file:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=FASTEST, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)


class SaveVolumed(SaveImaged):
    """`SaveImaged` that tells why a file could not be written, where MONAI guesses at absent libraries."""

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


def save_volume(
    output_dir: str, target: str | Mapping[str, float], *, data_root_dir: str, dtype: str = "float32", key: str = "pred"
) -> SaveImaged:
    """
    The transform that writes a volume (1, X, Y, Z) as `<source's name>_synthetic_<target>.nii.gz` on the source's grid.

    Args:
        output_dir: where it goes.
        target: a domain, or the weights of a blend.
        data_root_dir: outputs keep their path below it.
        dtype: of the file; whole numbers must be rounded before.
        key: of the volume.
    """
    return SaveVolumed(
        key,
        output_dir=output_dir,
        output_postfix=f"synthetic_{target_name(target)}",
        output_dtype=np.dtype(dtype),
        data_root_dir=data_root_dir,
        separate_folder=False,
        resample=False,
        savepath_in_metadict=True,
        print_log=False,
    )


def output_layout(
    output_dir: str | Path, target: str | Mapping[str, float], *, data_root_dir: str | Path, extension: str = ".nii.gz"
) -> FolderLayout:
    """
    Where `save_volume` and its like put the translation of a source: `layout.filename(source)`; makes no folder.

    Args:
        output_dir: where it goes.
        target: a domain, or the weights of a blend.
        data_root_dir: outputs keep their path below it.
        extension: of the file.

    Example:
        >>> Path(output_layout("/out", "T2", data_root_dir="/data").filename("/data/a/scan.nii.gz")).as_posix()
        '/out/a/scan_synthetic_T2.nii.gz'
    """
    return FolderLayout(
        str(output_dir),
        postfix=f"synthetic_{target_name(target)}",
        extension=extension,
        makedirs=False,
        data_root_dir=str(data_root_dir),
    )


def target_name(target: str | Mapping[str, float]) -> str:
    """A target as a part of a file's name.

    >>> target_name({"B30f": 0.5, "B70f": 0.5})
    '0.5B30f+0.5B70f'
    """
    if isinstance(target, str) and target:
        return target
    if not isinstance(target, Mapping) or not target or not all(isinstance(w, (int, float)) for w in target.values()):
        raise ValueError(f"`target` must be the name of a domain, or the weights of a blend, got {target!r}.")
    return "+".join(f"{weight:g}{name}" for name, weight in target.items())
