"""The headers and the geometry of the DICOM series from which a volume was made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom import Dataset

CLASSES = {"1.2.840.10008.5.1.4.1.1.2": "CT", "1.2.840.10008.5.1.4.1.1.4": "MR"}  # single-frame images, PS3.4 B.5
REQUIRED = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"),
)
SAME = ("SOPClassUID", "SeriesInstanceUID", "Rows", "Columns")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class SourceSeries:
    """
    A series of single-frame images, without their pixels.

    Args:
        headers: one for each slice, in the order of InstanceNumber, which is the order that MONAI reads them in.
        affine: (4, 4), from (column, row, slice) to RAS in mm.
    """

    headers: tuple[Dataset, ...]
    affine: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices."""
        return int(self.headers[0].Columns), int(self.headers[0].Rows), len(self.headers)

    @property
    def modality(self) -> str:
        """`CT` or `MR`."""
        return CLASSES[self.headers[0].SOPClassUID]


def read_source_series(source: str | Path | Iterable[str | Path], *, tolerance_mm: float = 0.02) -> SourceSeries:
    """
    The headers of one series and its geometry.

    Args:
        source: a folder whose DICOM files are one series, or its files.
        tolerance_mm: how far a slice may lie from its place in an even stack; 1 % of the slice distance, if larger.

    Raises:
        FileNotFoundError: when there is no DICOM file.
        ValueError: when the files are of several series, not CT or MR single-frame images, lack what places them, or
            when the slices, in the order of their numbers, are no even stack: with one missing, doubled or
            misnumbered every later slice would be written at a wrong place.

    Example:
        >>> read_source_series("absent")
        Traceback (most recent call last):
        ...
        FileNotFoundError: `source` 'absent' holds no DICOM file.
    """
    headers = [header for path in _files(source) if (header := _header(path)) is not None]
    if not headers:
        raise FileNotFoundError(f"`source` {_named(source)} holds no DICOM file.")
    for header in headers:
        _check(header, headers[0])
    headers.sort(key=lambda header: int(header.InstanceNumber))
    positions = np.array([header.ImagePositionPatient for header in headers], dtype=float)
    step = _step(headers[0], positions)
    _check_stack(headers, positions, step, tolerance_mm)
    affine = np.eye(4)
    along_row, along_column = np.reshape(np.array(headers[0].ImageOrientationPatient, dtype=float), (2, 3))
    between_rows, between_columns = (float(mm) for mm in headers[0].PixelSpacing)
    affine[:3] = np.stack([along_row * between_columns, along_column * between_rows, step, positions[0]], axis=1)
    return SourceSeries(tuple(headers), LPS_TO_RAS @ affine)


def _files(source: str | Path | Iterable[str | Path]) -> list[Path]:
    if not isinstance(source, (str, Path)):
        return [Path(path) for path in source]
    folder = Path(source)
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _header(path: Path) -> Dataset | None:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        return None
    header.filename = str(path)
    return None if "DirectoryRecordSequence" in header else header  # a DICOMDIR


def _check(header: Any, first: Any) -> None:
    name = Path(header.filename).name
    sop_class = header.get("SOPClassUID")
    if sop_class not in CLASSES:
        given = getattr(sop_class, "name", sop_class)
        raise ValueError(
            f"{name} must be a single-frame CT or MR image, got the SOP class {given!r}. Convert enhanced multi-frame"
            " objects to single frames, and leave localizers and reports out."
        )
    if missing := [keyword for keyword in REQUIRED if header.get(keyword) in (None, "")]:
        raise ValueError(f"{name} lacks {', '.join(missing)}: it cannot be placed in space, or be referred to.")
    differs = [keyword for keyword in SAME if header.get(keyword) != first.get(keyword)]
    for keyword, tolerance in (("ImageOrientationPatient", 1e-4), ("PixelSpacing", 1e-5)):
        if not np.allclose(header.get(keyword), first.get(keyword), rtol=0, atol=tolerance):
            differs.append(keyword)
    if differs:
        raise ValueError(
            f"{name} and {Path(first.filename).name} differ in {', '.join(differs)}: give the files of one series."
        )


def _step(first: Any, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """From one slice to the next, in mm (LPS); of a single slice along its normal."""
    if len(positions) > 1:
        step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(positions) - 1)
        return step
    normal = np.cross(*np.reshape(np.array(first.ImageOrientationPatient, dtype=float), (2, 3)))
    return np.asarray(normal * float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1))


def _check_stack(
    headers: Sequence[Any], positions: NDArray[np.float64], step: NDArray[np.float64], tolerance_mm: float
) -> None:
    distance = float(np.linalg.norm(step))
    even = positions[0] + np.arange(len(headers))[:, None] * step
    error = np.linalg.norm(positions - even, axis=1)
    worst = int(error.argmax())
    if distance == 0 or error[worst] > max(tolerance_mm, 0.01 * distance):
        raise ValueError(
            f"The {len(headers)} slices, in the order of InstanceNumber, must be an even stack, but"
            f" {Path(headers[worst].filename).name} (InstanceNumber {headers[worst].InstanceNumber}) lies"
            f" {error[worst]:.3g} mm from its place: a slice is missing, doubled or misnumbered, or their distance"
            " varies. Complete the series, or resample it."
        )


def _named(source: Any) -> str:
    return repr(str(source)) if isinstance(source, (str, Path)) else "(a list)"
