"""A MONAI reader of DICOM volumes: geometry checked, every slice rescaled by itself, the source remembered."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from .dicom_files import require_pydicom
from .dicom_geometry import Stack, stack
from .dicom_headers import naming
from .dicom_items import one_volume, part_file
from .dicom_kinds import texts
from .dicom_pixels import padding_value, read_volume
from .dicom_series import DicomVolume

SOURCE_FILES = "dicom_files"  # in a volume's meta data
KERNEL = "00181210"  # ConvolutionKernel, under the key of MONAI's own reader
NO_AGENT = ("", "NO", "NONE", "N", "WITHOUT")


@dataclass(frozen=True)
class DicomItem:
    """What MONAI asks to be loaded: a folder, a zip, a file; or a name followed by the files of one volume."""

    parts: tuple[str, ...]


class DicomSeriesReader(ImageReader):
    """
    Reads one volume from DICOM, for `LoadImaged`.

    It takes a folder or a zip with one volume, single-frame or enhanced multi-frame files, or a list
    `[name, file, ...]` as `find_images` gives it. Slices are ordered along their normal, whatever their file names and
    InstanceNumbers say. MONAI's `PydicomReader` orders by InstanceNumber, takes evenness for granted, warns of a
    changing matrix, and gives enhanced objects an identity affine.

    The volume (columns, rows, slices) is in HU for CT, see `read_volume`; its affine leads to RAS in mm. The meta data
    hold `dicom_files` (see `source_files`), `modality`, `series_uid`, `patient_id`, and, where told, `body_part`,
    `contrast_agent`, `padding_value` and the kernel `00181210`.

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
        """Whether there is something that may be DICOM; names tell nothing."""
        return any(Path(part).is_dir() or Path(part_file(part)).is_file() for part in _parts(filename))

    def read(self, data: Any, **kwargs: Any) -> DicomItem:
        """
        Only notes what to load: MONAI replaces what a reader raises here by a message of its own.

        Raises:
            ValueError: when there is nothing of that name.
        """
        if not self.verify_suffix(data):
            raise ValueError(f"{data!r} is no file or folder.")
        return DicomItem(_parts(data))

    def get_data(self, img: DicomItem) -> tuple[NDArray[Any], dict[str, Any]]:
        """The volume (columns, rows, slices) and its meta data."""
        require_pydicom()
        volume = one_volume(img.parts)
        name = f"{str(img.parts[0])!r} ({volume})"
        ordered = stack(volume.slices, name, tolerance_mm=self.tolerance_mm)
        values = read_volume(ordered.slices, name)
        with naming(ordered.slices[0].file):
            return values, _meta(ordered, volume, values.shape)


def source_files(meta: Mapping[str, Any]) -> list[str]:
    """
    The DICOM files that a volume was read from, in the order of its slices; none for NIfTI.

    They are kept as one text: lists of unequal lengths cannot be collated into a batch.

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
    told = {KERNEL: _kernel(first.values), "body_part": str(first.values.get("BodyPartExamined") or "")}
    told["contrast_agent"] = _agent(first.values)
    meta |= {key: text for key, text in told.items() if text}
    if (padding := padding_value(first)) is not None:
        meta["padding_value"] = padding
    return meta


def _kernel(values: Mapping[str, Any]) -> str:
    """The first of its values: Siemens adds an iterative strength as a second one."""
    return (*texts(values.get("ConvolutionKernel")), "")[0].strip()


def _agent(values: Mapping[str, Any]) -> str:
    """The contrast agent's name, `unnamed` if an enhanced object tells of one without; empty if none was given."""
    agent = str(values.get("ContrastBolusAgent") or "").strip()
    if not agent and (sequence := values.get("ContrastBolusAgentSequence")):
        agent = str(sequence[0].get("CodeMeaning") or "unnamed")
    return "" if agent.upper() in NO_AGENT else agent


def _parts(data: Any) -> tuple[str, ...]:
    return (str(data),) if isinstance(data, (str, Path)) else tuple(str(part) for part in data)
