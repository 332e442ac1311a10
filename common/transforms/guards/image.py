"""Checks that refuse files which are no image to translate, before anything is written."""

from __future__ import annotations

import logging
import math
import os
import zlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ...dicom.content import not_of_sequence, said
from ...images.grids import extremes, planes, reduced, sampled
from ...images.names import file_name
from ...images.nifti import MGH_SUFFIXES, PAIR_SUFFIXES, VOLUME_SUFFIXES, absent, check_grid, check_whole
from .contrast import mr_contrast

logger = logging.getLogger(__name__)

UNREADABLE = (
    *(nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, nib.wrapstruct.WrapStructError),
    *(OSError, EOFError, ValueError, zlib.error),
)
SAMPLES = 100_000
MOST_VOXELS = 2**32  # a body in voxels of 0.4 mm; a damaged or hostile header may promise terabytes
LABEL_MAP_VALUES = 32  # an image with so few distinct values, all whole numbers, is a label map


class CheckHeaderd(MapTransform):
    """Refuse, by its header, a NIfTI file that MONAI would not load as one 3-D intensity volume.

    MONAI drops the imaginary part of a complex image, fails on RGB with an unrelated message, and takes the fourth
    axis of a 4-D image for channels. Items that are not paths of NIfTI files pass.

    Args:
        keys: Keys of the paths.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        FileNotFoundError: When called, if a file does not exist.
        ValueError: When called, if a file is unreadable, complex, RGB, 4-D, empty, cut short or damaged, or has no
            valid affine.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            value = data[key]
            if isinstance(value, (str, os.PathLike)):
                if str(value).lower().endswith((*VOLUME_SUFFIXES, *MGH_SUFFIXES)):
                    _check_nifti(Path(value))
                elif str(value).lower().endswith(PAIR_SUFFIXES):
                    raise ValueError(
                        f"{str(value)!r} is one file of an Analyze or NIfTI pair, and old ones do not tell left from"
                        " right: convert it to one .nii file with a program that knows its origin."
                    )
                elif not Path(value).exists():
                    raise FileNotFoundError(f"{absent(value)}.")
        return dict(data)


def _check_nifti(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{absent(path)}.")
    try:
        image: Any = nib.load(path)
    except UNREADABLE as err:
        raise ValueError(f"{str(path)!r} is not a readable NIfTI file ({err}): copy or convert it again.") from err
    dtype, shape = image.header.get_data_dtype(), image.header.get_data_shape()
    if dtype.kind == "c":
        raise ValueError(f"{str(path)!r} is complex ({dtype}): give its magnitude image.")
    if dtype.fields is not None:
        raise ValueError(f"{str(path)!r} is a colour (RGB) image: give the intensity image, not a picture of it.")
    if len(shape) > 3 and any(n > 1 for n in shape[3:]):
        raise ValueError(
            f"{str(path)!r} is {len(shape)}-D, shape {shape}: give one 3-D volume, e.g. split it with nibabel's"
            " `four_to_three`."
        )
    if any(n < 1 for n in shape):
        raise ValueError(f"{str(path)!r} is empty, shape {shape}.")
    if math.prod(shape) > MOST_VOXELS:
        raise ValueError(
            f"{str(path)!r} has {math.prod(shape) / 1e9:.4g} billion voxels by its header, shape {shape}: at most"
            f" {MOST_VOXELS / 1e9:.3g} billion are read. Its header is damaged, or give a part of it."
        )
    check_grid(path, image)
    check_whole(path, image)


class CheckImaged(MapTransform):
    """Refuse volumes that cannot be translated.

    Args:
        keys: Keys of volumes (C, X, Y, Z).
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: When called, if a volume is not 3-D, has more than one channel, NaN or infinite voxels or only one
            value, or looks like a label map. The message names the file.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            _check_volume(torch.as_tensor(data[key]), file_name(data[key]))
        return dict(data)


class WarnOfContrastd(MapTransform):
    """Refuse a brain MR volume of another sequence by its DICOM header, and warn of one with another weighting.

    The header is asked first (`common.dicom.content`): another sequence, a contrast agent, diffusion and the like are
    refused. Then the voxels are judged, with the evidence.

    Args:
        keys: Keys of volumes (C, X, Y, Z), in any unit.
        contrast: Expected weighting, `T1` or `T2`.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: If `contrast` is neither; when called, for an image that is not of this sequence by its header.
    """

    def __init__(self, keys: KeysCollection, contrast: str, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if contrast not in ("T1", "T2"):
            raise ValueError(f"`contrast` must be 'T1' or 'T2', got {contrast!r}.")
        self.contrast = contrast

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            if (other := not_of_sequence(said(getattr(data[key], "meta", {})), self.contrast)) is not None:
                raise ValueError(
                    f"{file_name(data[key])} is not a plain {self.contrast}-weighted image by its DICOM header:"
                    f" {other}. The network knows {self.contrast} before contrast agent alone: give that series."
                )
            found, evidence = mr_contrast(reduced(data[key])[0])
            if found not in (None, self.contrast):
                logger.warning(
                    f"{file_name(data[key])} looks {found}-weighted, but {self.contrast}-weighted images are expected:"
                    f" {evidence}. If it is {found}, the translation is wrong; check the series."
                )
        return dict(data)


def _check_volume(volume: torch.Tensor, name: str) -> None:
    if volume.dim() != 4:
        raise ValueError(
            f"{name} has {volume.dim() - 1} dimensions, shape {tuple(volume.shape[1:])}: give a volume (X, Y, Z); a"
            " single slice is one of shape (X, Y, 1)."
        )
    if volume.shape[0] != 1:
        raise ValueError(f"{name} has {volume.shape[0]} channels: give an intensity image of one channel.")
    if count := sum(int((~torch.isfinite(plane)).sum()) for plane in planes(volume)):
        raise ValueError(
            f"{name} has {count} NaN or infinite voxels: replace them by what belongs there, outside the body by air,"
            " which is -1000 in a CT in HU (0 HU would be water) and 0 in MR; or export the volume again."
        )
    low, high = extremes(volume)
    if low == high:
        what = "all zero" if low == 0 else f"constant ({low:g})"
        raise ValueError(f"{name} is {what}: there is nothing to translate. Was the export complete?")
    values = torch.unique(sampled(volume, SAMPLES))  # sorting all values would take seconds
    if values.numel() <= LABEL_MAP_VALUES and bool((values == values.round()).all()):
        raise ValueError(
            f"{name} has {values.numel()} distinct values, all whole numbers: it looks like a label map. Give the"
            " intensity image."
        )
