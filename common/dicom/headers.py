"""What the header of a DICOM image tells of its slices: one in a single-frame image, many in an enhanced one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import CLASSES, SYNTHETIC_DATA, quiet_pydicom, texts

if TYPE_CHECKING:
    from pydicom import Dataset

SPLITTING = (  # what tells images at one place apart, in the order of trial
    *("EchoNumbers", "EffectiveEchoTime", "EchoTime", "TemporalPositionIdentifier", "TemporalPositionIndex"),
    *("DiffusionBValue", "InversionTime", "TriggerTime", "NominalPercentageOfCardiacPhase", "StackID"),
    *("AcquisitionNumber", "FrameAcquisitionNumber"),
)
NUMBERS = ("RescaleSlope", "RescaleIntercept", "PixelPaddingValue", "SliceThickness", "SpacingBetweenSlices")
TAGS = (
    *("SpecificCharacterSet", "ImageType", "FrameType", "SOPClassUID", "SOPInstanceUID", "Modality"),
    *("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "InstanceNumber", "PatientID", "PatientName"),
    *("BodyPartExamined", "ContrastBolusAgent", "ContrastBolusAgentSequence", "ConvolutionKernel"),
    *("GantryDetectorTilt", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", *NUMBERS),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation"),
    *("RescaleType", "ModalityLUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *SPLITTING),
)


@dataclass(frozen=True)
class Slice:
    """
    One slice: an image, or a frame of one.

    Args:
        file: that it is in.
        frame: its number from 0 in an enhanced object, else None.
        header: of the file, without pixels.
        position: of its first pixel, (x, y, z) in mm (LPS), if told.
        orientation: direction cosines of a row and of a column (LPS), if told.
        pixel_mm: distance of rows and of columns, if told.
        values: by attribute: what else is told of this slice, be it in its own functional groups or in shared ones.
    """

    file: Path
    frame: int | None
    header: Dataset = field(repr=False, compare=False)
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_mm: tuple[float, ...] | None
    values: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """File, and frame from 1."""
        return self.file.name if self.frame is None else f"{self.file.name} (frame {self.frame + 1})"

    @property
    def matrix(self) -> tuple[int, int]:
        """Columns and rows."""
        return int(self.header.Columns), int(self.header.Rows)

    @property
    def image_type(self) -> tuple[str, ...]:
        """Of the frame where it has its own."""
        return texts(self.values.get("FrameType") or self.header.get("ImageType"))

    @property
    def modality(self) -> str:
        """`CT` or `MR`."""
        return CLASSES[str(self.header.SOPClassUID)]


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """
    Within it, whatever is raised becomes a message that names a file.

    Values may have any type in a damaged file, and pydicom's parser raises whatever it meets there.
    """
    try:
        with quiet_pydicom():
            yield
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as DICOM ({error}): copy or export it anew, or remove it."
        ) from error


def read_header(path: Path) -> Dataset:
    """
    The attributes of a DICOM file that a reader needs, without pixels.

    Raises:
        ValueError: when it cannot be read.
    """
    import pydicom

    tags: list[Any] = [*TAGS, SYNTHETIC_DATA]
    with naming(path):
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
        for _ in header.iterall():
            pass  # values are parsed when they are first looked at
        for name in ("SOPClassUID", "SeriesInstanceUID"):
            if not isinstance(value := header.get(name), str) or not value:
                raise ValueError(f"it lacks {name}")
        return header


def slices_of(header: Any, path: Path) -> list[Slice]:
    """
    The slices in a file.

    Args:
        header: of `read_header`.
        path: of the file.

    Raises:
        ValueError: when an attribute cannot be read.
    """
    with naming(path):
        if not (int(header.get("Rows") or 0) > 0 and int(header.get("Columns") or 0) > 0):
            raise ValueError("it lacks Rows or Columns")
        if "PerFrameFunctionalGroupsSequence" not in header:
            _refuse_many_frames(header)
            return [_slice(path, None, header, {})]
        shared = _flat(header.get("SharedFunctionalGroupsSequence") or [])
        frames = header.PerFrameFunctionalGroupsSequence
        if len(frames) != int(header.NumberOfFrames):
            raise ValueError(f"it has {header.NumberOfFrames} frames, and functional groups of {len(frames)}")
        return [_slice(path, n, header, shared | _flat([frame])) for n, frame in enumerate(frames)]


def _slice(path: Path, frame: int | None, header: Any, groups: dict[str, Any]) -> Slice:
    values = {name: groups.get(name, header.get(name)) for name in (*TAGS, *groups)}
    values |= {name: _number(values[name], name) for name in NUMBERS}
    return Slice(
        path,
        frame,
        header,
        _floats(values["ImagePositionPatient"], "ImagePositionPatient", 3),
        _floats(values["ImageOrientationPatient"], "ImageOrientationPatient", 6),
        _floats(values["PixelSpacing"], "PixelSpacing", 2),
        values,
    )


def _flat(items: Sequence[Any]) -> dict[str, Any]:
    """The attributes of functional groups: each group is a sequence of one item."""
    found: dict[str, Any] = {}
    for item in items[:1]:
        for group in item:
            if group.VR == "SQ" and group.value:
                found |= {element.keyword: element.value for element in group.value[0]}
    return found


def _refuse_many_frames(header: Any) -> None:
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise ValueError(f"it has {header.NumberOfFrames} frames, but no functional groups that place them")


def _floats(value: Any, name: str, count: int) -> tuple[float, ...] | None:
    if value is None or value == "":
        return None
    numbers = tuple(float(number) for number in value)
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be {count} finite numbers, got {list(numbers)}")
    return numbers


def _number(value: Any, name: str) -> float | None:
    if value is None or value == "":
        return None
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    return number
