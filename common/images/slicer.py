"""Read the formats of 3D Slicer and ITK, NRRD and MetaImage (MHA), by SimpleITK, which is an extra."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple
from numpy.typing import NDArray

from .nifti import DOUBTS, check_affine

SLICER_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
DIMENSIONS = 3
KIND = "ITK_InputFilterName"  # what SimpleITK read the file with
INSTALL = "`python -m pip install SimpleITK` (the extra `slicer`)"


class SlicerReader(ImageReader):
    """Read a volume from NRRD or MetaImage for `LoadImaged`: values as stored, the affine to RAS in mm.

    Raises:
        ValueError: From `get_data`, naming the file, if SimpleITK is not installed, or for a file that is damaged or
            no 3-D volume of one real value per voxel.
    """

    def verify_suffix(self, filename: Any) -> bool:
        """Return whether the name is that of one such file."""
        names = ensure_tuple(filename)
        return len(names) == 1 and str(names[0]).lower().endswith(SLICER_SUFFIXES)

    def read(self, data: Any, **kwargs: Any) -> Path:
        """Note what to load: MONAI replaces what a reader raises here by a message of its own.

        Raises:
            ValueError: For another file, as MONAI asks no reader for its suffixes that it was given as an object.
        """
        if not self.verify_suffix(data):
            raise ValueError(f"{data!r} is no NRRD or MetaImage file.")
        return Path(ensure_tuple(data)[0])

    def get_data(self, img: Path) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the volume (X, Y, Z) and its meta data."""
        values, affine, doubts = _read(img)
        meta: dict[str, Any] = {
            MetaKeys.AFFINE: affine.copy(),
            MetaKeys.ORIGINAL_AFFINE: affine,
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.SPATIAL_SHAPE: np.asarray(values.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: math.nan,
        }
        return values, meta | ({DOUBTS: json.dumps(doubts)} if doubts else {})


def _read(path: Path) -> tuple[NDArray[Any], NDArray[np.float64], list[str]]:
    try:
        import SimpleITK
    except ImportError as error:
        raise ValueError(f"{str(path)!r} needs SimpleITK to be read: {INSTALL}, or convert it to NIfTI.") from error
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} does not exist.")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check(reader, path)
        image = reader.Execute()
    except RuntimeError as error:
        why = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"{str(path)!r} is damaged or no volume ({why}): save it again.") from error
    values = np.ascontiguousarray(SimpleITK.GetArrayFromImage(image).T)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    affine = LPS_TO_RAS @ affine
    check_affine(path, affine, values.shape)
    return values, affine, _doubts(image)


def _check(reader: Any, path: Path) -> None:
    size, count = reader.GetSize(), reader.GetNumberOfComponents()
    if count != 1:
        raise ValueError(f"{str(path)!r} has {count} values in each voxel, such as colours: give an intensity volume.")
    if len(size) != DIMENSIONS:
        raise ValueError(f"{str(path)!r} is {len(size)}-D, shape {tuple(size)}: give one 3-D volume.")
    if any(side < 1 for side in size):
        raise ValueError(f"{str(path)!r} is empty, shape {tuple(size)}.")


def _doubts(image: Any) -> list[str]:
    """Return that an NRRD file has no space, of which SimpleITK makes a grid along the patient's axes."""
    keys = image.GetMetaDataKeys()
    if "NRRD_space" in keys or KIND not in keys or image.GetMetaData(KIND) != "NrrdImageIO":
        return []
    return ["it names no space (NRRD): its axes are taken for left, posterior and superior"]
