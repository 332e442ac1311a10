"""A volume with its affine, and NIfTI files that are either complete or absent."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from numpy.typing import NDArray

from ..whole_file import whole_file

GZIP_LEVEL = 4


class Volume(NamedTuple):
    """A volume (X, Y, Z), or one of vectors (X, Y, Z, 3), and its affine (4, 4) from voxels to RAS+ millimetres."""

    data: NDArray[Any]
    affine: NDArray[np.float64]


def write_nifti(path: Path, volume: Volume) -> None:
    """Write a NIfTI with sform and qform in scanner coordinates and millimetres; all or nothing.

    Volumes become int16, rounded; uint16 stays. Vectors become float32 with their components along the fourth axis, as
    nibabel and MONAI read them (the five axes of NIfTI's vector intent would reach MONAI as a fourth spatial one).
    """
    vectors = volume.data.ndim == 4
    data = volume.data.astype(np.float32) if vectors else _as_integers(volume.data, path)
    image = nibabel.Nifti1Image(data, volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(volume.affine, code="scanner")
    # Its float32 quaternion is coarse for flipped axes (1e-3 of a voxel): let both forms say the same.
    image.set_sform(image.get_qform(), code="scanner")
    write_atomically(path, gzip.compress(image.to_bytes(), GZIP_LEVEL, mtime=0))


def _as_integers(data: NDArray[Any], path: Path) -> NDArray[np.int16] | NDArray[np.uint16]:
    """``data`` itself if uint16, else as int16; ValueError naming the file where it does not fit."""
    if data.dtype == np.uint16:
        return data
    rounded = np.rint(data)
    limits = np.iinfo(np.int16)
    if rounded.min() < limits.min or rounded.max() > limits.max:
        raise ValueError(f"Values of {path.name} must fit int16, got {rounded.min():g} to {rounded.max():g}.")
    return rounded.astype(np.int16)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that appears under its name only when it is complete."""
    with whole_file(path, needed=len(content)) as file:
        file.write(content)
