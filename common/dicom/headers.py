"""Headers of DICOM files, and the slices they describe: one in a single-frame image, many in an enhanced one."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .content import KEYWORDS as CONTENT
from .files import CLASSES, SYNTHETIC_DATA, quiet_pydicom, texts

if TYPE_CHECKING:
    from pydicom import Dataset

SPLITTING = (  # what distinguishes images at one place, in the order of trial
    *("EchoNumbers", "EffectiveEchoTime", "EchoTime", "TemporalPositionIdentifier", "TemporalPositionIndex"),
    *("DiffusionBValue", "InversionTime", "TriggerTime", "NominalPercentageOfCardiacPhase", "StackID"),
    *("AcquisitionNumber", "FrameAcquisitionNumber"),
)
NUMBERS = (
    *("RescaleSlope", "RescaleIntercept", "PixelPaddingValue", "PixelPaddingRangeLimit", "SliceThickness"),
    "SpacingBetweenSlices",
)
TAGS = (
    *("SpecificCharacterSet", "ImageType", "FrameType", "SOPClassUID", "SOPInstanceUID", "Modality"),
    *("SeriesInstanceUID", "StudyInstanceUID", "SeriesNumber", "InstanceNumber", "PatientID", "PatientName"),
    *CONTENT,
    *("GantryDetectorTilt", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", *NUMBERS),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation"),
    *("RescaleType", "ModalityLUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *SPLITTING),
)
BULK_GROUP = 0x5000  # from here on: curves, overlays, waveforms, pixels
REFERENCES = (  # long lists, one item per image of another series, that nothing here reads
    *("ReferencedImageSequence", "SourceImageSequence", "ReferencedSeriesSequence", "ReferencedInstanceSequence"),
)
MOST_KEPT = 10_000  # headers of found files: about 20 kB each
SERIES_KEPT = 2


@dataclass(frozen=True)
class Slice:
    """One slice: an image, or a frame of one.

    Args:
        file: file that holds it.
        frame: number of the frame, from 0, in an enhanced object, else None.
        header: header of the file, without pixels.
        position: centre of the first pixel, (x, y, z) in mm (LPS), if given.
        orientation: direction cosines of a row and of a column (LPS), if given.
        pixel_mm: distances between rows and between columns, if given.
        values: further attributes by keyword, from the slice's own functional groups, the shared ones or the header.
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
        """Name of the file, with the frame's number from 1."""
        return self.file.name if self.frame is None else f"{self.file.name} (frame {self.frame + 1})"

    @property
    def matrix(self) -> tuple[int, int]:
        """Numbers of columns and rows."""
        return int(self.header.Columns), int(self.header.Rows)

    @property
    def image_type(self) -> tuple[str, ...]:
        """Values of the frame's own FrameType, else of ImageType."""
        return texts(self.values.get("FrameType") or self.header.get("ImageType"))

    @property
    def modality(self) -> str:
        """`CT` or `MR`."""
        return CLASSES[str(self.header.SOPClassUID)]


Stamp = tuple[int, int]  # time of the last change in ns, and size in bytes


class HeaderCache:
    """Headers that will be needed again: those of found files until they are read, and those of the last series read.

    A file that was changed since it was parsed is parsed again. What does not fit is parsed again, too.

    Args:
        most: files whose headers are kept from finding to reading.
        series: series whose whole headers are kept from reading to writing.
    """

    def __init__(self, most: int = MOST_KEPT, series: int = SERIES_KEPT) -> None:
        self._most, self._series = most, series
        self._found: dict[Path, tuple[Stamp, Dataset]] = {}
        self._whole: dict[Path, tuple[Stamp, Dataset]] = {}
        self._read: deque[set[Path]] = deque()
        self._lock = threading.Lock()

    def get(self, path: Path, *, whole: bool = False) -> Dataset | None:
        """Look a header up.

        Args:
            path: path of the file.
            whole: accept only a header with all of its attributes.

        Returns:
            The header, or None if it is not kept or the file has changed.
        """
        key = path.resolve()
        for kept in (self._whole.get(key), None if whole else self._found.get(key)):
            if kept is not None and kept[0] == stamp(path):
                return kept[1]
        return None

    def keep_found(self, path: Path, when: Stamp, header: Dataset) -> None:
        """Keep the header of a found file, if there is room."""
        if len(self._found) < self._most:
            self._found[path.resolve()] = (when, header)

    def keep_series(self, headers: Mapping[Path, tuple[Stamp, Dataset]]) -> None:
        """Keep the whole headers of a series in place of those of an earlier one, and of those found."""
        with self._lock:
            new = {path.resolve(): entry for path, entry in headers.items()}
            for key in new:
                self._found.pop(key, None)
            self._whole |= new
            if set(new) in self._read:
                self._read.remove(set(new))
            self._read.append(set(new))
            if len(self._read) > self._series:
                for key in self._read.popleft().difference(*self._read):
                    self._whole.pop(key, None)


cache = HeaderCache()


def stamp(path: Path) -> Stamp:
    """Return what changes when a file does: the time of its last change, in ns, and its size, in bytes."""
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever is raised within into a `ValueError` that names a file.

    Values may have any type in a damaged file, and pydicom's parser raises whatever it meets there.

    Args:
        path: path of the file.
    """
    try:
        with quiet_pydicom():
            yield
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as DICOM ({error}): copy or export it anew, or remove it."
        ) from error


def read_header(path: Path, *, whole: bool = False, keep: bool = False) -> Dataset:
    """Read the header of a DICOM file, without pixels.

    Args:
        path: path of the file.
        whole: all attributes but bulk data, private ones and long references; default: those that a reader needs.
        keep: keep it until its volume is read.

    Raises:
        ValueError: when it cannot be read.
    """
    import pydicom

    tags: list[Any] = [*TAGS, SYNTHETIC_DATA]
    with naming(path):
        when = stamp(path)
        if (kept := cache.get(path, whole=whole)) is not None:
            return kept
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=None if whole else tags)
        if whole:
            drop_bulk(header)
        else:
            for _ in header.iterall():
                pass  # values are parsed when they are first looked at
        for name in ("SOPClassUID", "SeriesInstanceUID"):
            if not isinstance(value := header.get(name), str) or not value:
                raise ValueError(f"it lacks {name}")
        if keep:
            cache.keep_found(path, when, header)
        return header


def drop_bulk(header: Dataset) -> None:
    """Remove what makes a header large and is never read from it: pixels, overlays, private attributes, references."""
    for tag in list(header.keys()):
        if tag.is_private or tag.group >= BULK_GROUP:
            del header[tag]
    for name in REFERENCES:
        if name in header:
            delattr(header, name)


def slices_of(header: Any, path: Path) -> list[Slice]:
    """List the slices in a file.

    Args:
        header: header, see `read_header`.
        path: path of the file.

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
    """Collect the attributes of functional groups, each of which is a sequence of one item."""
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
