"""MONAI reader of DICOM volumes: geometry checked, every slice rescaled by itself, the source remembered.

As a MONAI data item, a DICOM volume is a name, and the files or frames that hold its slices.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from ..images.nifti import NiftiReader
from ..images.slicer import SlicerReader
from .content import HEADER, agent_of, kernel_of, to_text
from .files import dicom_files, require_pydicom
from .geometry import Stack, stack
from .headers import cache, naming
from .pixels import Headers, padding_limit, padding_value, read_volume
from .series import DicomVolume, find_volumes
from .zip_files import unpacked

FRAMES = "?frames="  # `file.dcm?frames=0,2`: those frames of an enhanced object
SOURCE_FILES = "dicom_files"  # in a volume's meta data
KERNEL = "00181210"  # ConvolutionKernel, under the key of MONAI's own reader


def item_of(volume: DicomVolume, name: str | Path) -> list[str]:
    """Return the data item of a volume: a name for outputs and messages, and what holds its slices.

    Args:
        volume: volume, see `find_volumes`.
        name: path, which need not exist.
    """
    chosen: dict[Path, list[int]] = {}
    for image in volume.slices:
        chosen.setdefault(image.file, []).extend([] if image.frame is None else [image.frame])
    counts = {image.file: int(image.header.get("NumberOfFrames") or 1) for image in volume.slices}
    parts = [_named(file, sorted(frames), counts[file]) for file, frames in sorted(chosen.items())]
    return [str(name), *parts, *map(str, volume.damaged)]


def one_volume(parts: Sequence[str]) -> DicomVolume:
    """Find the only volume that a folder, a zip or files hold.

    Args:
        parts: a place; or a name followed by files.

    Raises:
        ValueError: when there is none, or more than one, or a file that cannot be read.
    """
    named = len(parts) > 1 and not Path(part_file(parts[0])).is_file()
    frames = {Path(part_file(part)): _frames(part) for part in parts if FRAMES in part}
    files = [file for part in parts[int(named) :] for file in _files(part)]
    if not files:
        raise ValueError(f"{parts[0]!r} holds no DICOM file.")
    found = find_volumes(files)
    if found.damaged:
        raise ValueError(next(iter(found.damaged.values())))
    volumes = [kept for volume in found.volumes if (kept := _kept(volume, frames)) is not None]
    if not volumes:
        reasons = "; ".join(f"{files[0].name} is {reason}" for reason, files in found.skipped.items())
        raise ValueError(f"{parts[0]!r} holds no volume to translate: {reasons}.")
    if len(volumes) > 1:
        listed = "; ".join(map(str, volumes[:5]))
        raise ValueError(f"{parts[0]!r} must hold one volume, it has {len(volumes)}: {listed}. Give one of them.")
    return volumes[0]


def part_file(part: str) -> str:
    """Return the path in a part of an item.

    Example:
        >>> part_file("enhanced.dcm?frames=0,2")
        'enhanced.dcm'
    """
    return part.partition(FRAMES)[0]


def _kept(volume: DicomVolume, frames: Mapping[Path, Sequence[int]]) -> DicomVolume | None:
    """Return the volume without the frames that were not asked for; None if nothing is left."""
    slices = tuple(image for image in volume.slices if image.file not in frames or image.frame in frames[image.file])
    return DicomVolume(slices, volume.apart, volume.damaged) if slices else None


def _files(part: str) -> list[Path]:
    path = Path(part_file(part))
    if path.suffix.lower() == ".zip" and path.is_file():
        return dicom_files(unpacked(path))
    if path.is_dir():
        return dicom_files(path)
    if not path.is_file():
        raise ValueError(f"{str(path)!r} does not exist, but is part of the volume to read: was it moved?")
    return [path]


def _named(file: Path, frames: Sequence[int], count: int) -> str:
    return str(file) if len(frames) in (0, count) else f"{file}{FRAMES}{','.join(map(str, frames))}"


def _frames(part: str) -> list[int]:
    return [int(frame) for frame in part.partition(FRAMES)[2].split(",")]


@dataclass(frozen=True)
class DicomItem:
    """What MONAI asks to be loaded: a folder, a zip, a file; or a name followed by the files of one volume."""

    parts: tuple[str, ...]


class DicomSeriesReader(ImageReader):
    """Read one volume from DICOM, for `LoadImaged`.

    It takes a folder or a zip with one volume, single-frame or enhanced multi-frame files, or a list
    `[name, file, ...]` as `find_images` gives it. Slices are ordered along their normal, whatever their file names and
    InstanceNumbers say. MONAI's `PydicomReader` orders by InstanceNumber, takes evenness for granted, warns of a
    changing matrix, and gives enhanced objects an identity affine.

    The volume (columns, rows, slices) is in HU for CT, see `read_volume`; its affine leads to RAS in mm. The meta data
    hold `dicom_files` (see `source_files`), `modality`, `series_uid`, `patient_id`, and, where told, `body_part`,
    `contrast_agent`, `padding_value`, `padding_limit`, the kernel `00181210`, and `dicom_header` (see
    `common.dicom.content`).

    Args:
        tolerance_mm: how far a slice may lie from its place in an even stack; 1 % of the slice distance, if larger.

    Raises:
        ValueError: from `get_data`, naming the file, the rule, what was found and the cure.

    Example:
        >>> LoadImaged(keys="image", reader=DicomSeriesReader())({"image": "scans/P1"})  # doctest: +SKIP
    """

    def __init__(self, *, tolerance_mm: float = 0.02) -> None:
        super().__init__()
        self.tolerance_mm = tolerance_mm

    def verify_suffix(self, filename: Any) -> bool:
        """Return whether there is something that may be DICOM; names tell nothing."""
        return any(Path(part).is_dir() or Path(part_file(part)).is_file() for part in _parts(filename))

    def read(self, data: Any, **kwargs: Any) -> DicomItem:
        """Note what to load, no more: MONAI replaces what a reader raises here by a message of its own.

        Raises:
            ValueError: when there is nothing of that name.
        """
        if not self.verify_suffix(data):
            raise ValueError(f"{data!r} is no file or folder.")
        return DicomItem(_parts(data))

    def get_data(self, img: DicomItem) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the volume (columns, rows, slices) and its meta data; its headers are kept for a derived series."""
        require_pydicom()
        volume = one_volume(img.parts)
        name = f"{str(img.parts[0])!r} ({volume})"
        ordered = stack(volume.slices, name, tolerance_mm=self.tolerance_mm)
        headers: Headers = {}
        values = read_volume(ordered.slices, name, headers=headers)
        cache.keep_series(headers)
        with naming(ordered.slices[0].file):
            return values, _meta(ordered, volume, values.shape)


def source_files(meta: Mapping[str, Any]) -> list[str]:
    """List the DICOM files that a volume was read from, in the order of its slices; none for NIfTI.

    They are kept as one text: lists of unequal lengths cannot be collated into a batch.

    Args:
        meta: meta data of the volume.

    Example:
        >>> source_files({"dicom_files": '["IM1", "IM2"]'}), source_files({})
        (['IM1', 'IM2'], [])
    """
    return list(json.loads(str(meta.get(SOURCE_FILES, "[]"))))


def _meta(ordered: Stack, volume: DicomVolume, shape: tuple[int, ...]) -> dict[str, Any]:
    first = ordered.slices[0]
    files = list(dict.fromkeys(str(image.file.resolve()) for image in ordered.slices))
    meta: dict[str, Any] = {
        MetaKeys.AFFINE: ordered.affine.copy(),
        MetaKeys.ORIGINAL_AFFINE: ordered.affine,
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.SPATIAL_SHAPE: np.asarray(shape),
        MetaKeys.ORIGINAL_CHANNEL_DIM: math.nan,
        SOURCE_FILES: json.dumps(files),
        "modality": volume.modality,
        "series_uid": str(first.header.SeriesInstanceUID),
        "patient_id": str(first.header.get("PatientID") or ""),
    }
    told = {KERNEL: kernel_of(first.values)[0], "body_part": str(first.values.get("BodyPartExamined") or "")}
    told |= {"contrast_agent": agent_of(first.values), HEADER: to_text(first.values)}
    meta |= {key: text for key, text in told.items() if text}
    if (padding := padding_value(first)) is not None:
        meta["padding_value"] = padding
    if (limit := padding_limit(first)) is not None:
        meta["padding_limit"] = limit
    return meta


def _parts(data: Any) -> tuple[str, ...]:
    return (str(data),) if isinstance(data, (str, Path)) else tuple(str(part) for part in data)


def image_readers() -> list[Any]:
    """Return readers for `LoadImaged`: NIfTI, MGH, NRRD, MetaImage and DICOM."""
    return [DicomSeriesReader(), SlicerReader(), NiftiReader()]  # MONAI tries the last one first
