"""The series that a volume was made from, as a derived series refers to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..files import SINGLE_FRAME, dicom_among, quiet_pydicom
from ..geometry import Stack, stack
from ..headers import cache, read_header, slices_of
from ..series import volumes_of

REQUIRED = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"),
)
SAME = ("SOPClassUID", "SeriesInstanceUID")


def read_source_series(source: str | Path | Iterable[str | Path], *, tolerance_mm: float = 0.02) -> Stack:
    """Read the headers of one series of single-frame images, and its geometry.

    Slices are sorted by position, as in any volume that is read. They stand in the order of their InstanceNumbers where
    that is an order in space, be it along or against their normal. Localizers, reports and whatever else is no part of
    a volume is left out and logged, see `find_volumes`. The headers of a series whose pixels were read a moment ago are
    not parsed again.

    Args:
        source: a folder whose DICOM files are one series, or its files.
        tolerance_mm: how far a slice may lie from its place in an even stack; 1 % of the slice distance, if larger.

    Raises:
        FileNotFoundError: when there is no DICOM file.
        ValueError: when no file is part of a volume, when the files are of several series, are multi-frame images, lack
            what places them, or when the slices are no even stack.

    Example:
        >>> read_source_series("absent")
        Traceback (most recent call last):
        ...
        FileNotFoundError: `source` 'absent' holds no DICOM file.
    """
    with quiet_pydicom():  # headers are decoded when they are first looked at
        return _read(source, tolerance_mm)


def _read(source: str | Path | Iterable[str | Path], tolerance_mm: float) -> Stack:
    headers = {path: read_header(path, whole=True) for path in _files(source)}
    place = repr(str(source)) if isinstance(source, (str, Path)) else "(a list)"
    if not headers:
        raise FileNotFoundError(f"`source` {place} holds no DICOM file.")
    found = volumes_of(headers)
    found.log_skipped()
    left_out = {path for files in found.skipped.values() for path in files}
    headers = {path: header for path, header in headers.items() if path not in left_out}
    if not headers:
        raise ValueError(f"`source` {place} holds no volume to translate: {found.reasons}")
    first_path, first = next(iter(headers.items()))
    for path, header in headers.items():
        _check(header, path.name, first, first_path.name)
    slices = [image for path, header in headers.items() for image in slices_of(header, path)]
    name = f"The source series {first.get('SeriesNumber', '?')}"
    return stack(slices, name, tolerance_mm=tolerance_mm, upright=False).as_numbered()


def _files(source: str | Path | Iterable[str | Path]) -> list[Path]:
    if isinstance(source, (str, Path)):
        folder = Path(source)
        source = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    paths = [Path(path) for path in source]
    found = set(dicom_among(paths))  # those that are damaged, too: a lost slice at an end would not be missed
    return [path for path in paths if path in found or _was_read(path)]


def _was_read(path: Path) -> bool:
    return path.is_file() and cache.get(path, whole=True) is not None


def _check(header: Any, name: str, first: Any, first_name: str) -> None:
    if header.SOPClassUID not in SINGLE_FRAME:
        given = getattr(header.SOPClassUID, "name", header.SOPClassUID)
        raise ValueError(
            f"{name} must be a single-frame CT or MR image, got the SOP class {given!r}. Convert enhanced multi-frame"
            " objects to single frames."
        )
    if missing := [keyword for keyword in REQUIRED if header.get(keyword) in (None, "")]:
        raise ValueError(f"{name} lacks {', '.join(missing)}: it cannot be placed in space, or be referred to.")
    if differs := [keyword for keyword in SAME if header.get(keyword) != first.get(keyword)]:
        raise ValueError(f"{name} and {first_name} differ in {', '.join(differs)}: give the files of one series.")
