"""DICOM series that a datalist can name, and facts from the headers of images; no voxels are read."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from tqdm import tqdm

from ..dicom.content import KEYWORDS, quantity
from ..dicom.files import SYNTHETIC_DATA, dicom_among, is_synthetic, require_pydicom
from ..dicom.geometry import stack
from ..dicom.series import DicomVolume, find_volumes
from ..images.nifti import VOLUME_SUFFIXES
from .found import Facts, visible

TOLERANCE_MM = 1e-2  # as the evaluators
IDENTIFYING = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")  # attributes of which a split is made
NOT_ACQUIRED = {"MPR", "REFORMATTED"}  # in ImageType


@dataclass(frozen=True, eq=False)
class Series:
    """A DICOM series that is one volume.

    Args:
        place: The folder that holds its files and no other volume's, or its only file.
        header: Attributes by keyword, of one file and of the functional groups of its first frame.
        facts: Grid and files.
    """

    place: Path
    header: Mapping[str, Any]
    facts: Facts


def series_below(folder: Path, *, deep: bool = True) -> tuple[list[Series], dict[str, str]]:
    """Find the CT and MR volumes below a folder; hidden files and files other than DICOM are ignored.

    Args:
        folder: Folder to search.
        deep: Search all folders below as well.

    Returns:
        The series, and the reasons why others are left out, by their paths.

    Raises:
        ValueError: If pydicom is not installed, or one series belongs to two patients.
    """
    require_pydicom()
    volumes: list[tuple[Path, DicomVolume]] = []
    left_out: dict[str, str] = {}
    for place, files in _folders(folder, deep=deep):
        found = find_volumes(tqdm(files, desc=f"reading headers of {place.name}", leave=False))
        for why, skipped in found.skipped.items():
            left_out[f"{_name(place, folder)} ({len(skipped)} files: {skipped[0].name})"] = why
        for file in found.damaged:
            left_out[_name(file, folder)] = "it cannot be read as DICOM: copy it again, or remove it"
        volumes += [(place, volume) for volume in found.volumes]
    _refuse_shared([volume for _, volume in volumes])
    holds = Counter(parent for place, _ in volumes for parent in (place, *place.parents))
    parts = Counter(_uid(volume) for _, volume in volumes)
    series = []
    for place, volume in volumes:
        try:
            series.append(_series(place, volume, others=holds[place] - 1, parts=parts[_uid(volume)]))
        except ValueError as error:
            left_out[f"{_name(place, folder)} ({volume})"] = str(error)
    return series, left_out


def facts_of(path: Path) -> Facts:
    """Read the facts of a NIfTI file, or of a folder or file that is one DICOM series.

    Raises:
        ValueError: If it is neither, truncated within its header, or several series.
    """
    if path.is_dir() or not path.name.lower().endswith(VOLUME_SUFFIXES):
        series, left_out = series_below(path if path.is_dir() else path.parent, deep=False)
        own = [one for one in series if path in (one.place, one.place.parent)]
        if len(own) != 1:
            reasons = "".join(f"; {reason}" for reason in left_out.values())
            raise ValueError(f"it must be one DICOM series, got {len(own)}{reasons}")
        return own[0].facts
    try:
        image: Any = nib.load(path)
        shape, affine = tuple(int(size) for size in image.shape), np.asarray(image.affine, dtype=np.float64)
    except Exception as error:  # a damaged header may raise any exception in nibabel
        raise ValueError(f"cannot be read as NIfTI ({error})") from error
    if len(shape) < 3 or set(shape[3:]) - {1} or 0 in shape:
        raise ValueError(f"must be a volume of three axes, got the shape {shape}")
    return Facts(shape, affine)


def same_grid(first: Facts, second: Facts) -> bool:
    """Return whether two images have the same grid in the same frame of reference.

    Example:
        >>> import numpy as np
        >>> same_grid(Facts((4, 4, 2), np.eye(4)), Facts((4, 4, 3), np.eye(4)))
        False
    """
    return (
        first.shape == second.shape
        and first.frame == second.frame
        and np.allclose(first.affine, second.affine, atol=TOLERANCE_MM)
    )


def _folders(folder: Path, *, deep: bool) -> Iterator[tuple[Path, list[Path]]]:
    for root, folders, names in os.walk(folder):
        folders[:] = visible(folders) if deep else ()
        files = [Path(root, name) for name in visible(names) if name.upper() != "DICOMDIR"]
        if found := dicom_among(files):
            yield Path(root), found


def _refuse_shared(volumes: list[DicomVolume]) -> None:
    """Raise ValueError if the files of a series are of different patients."""
    first: dict[str, Any] = {}
    for image in (image for volume in volumes for image in volume.slices):
        uid, patient = str(image.header.SeriesInstanceUID), str(image.header.get("PatientID") or "").strip()
        other = first.setdefault(uid, image)
        if (name := str(other.header.get("PatientID") or "").strip()) != patient:
            raise ValueError(
                f"Patients {name!r} and {patient!r} share an image: {str(other.file)!r} and {str(image.file)!r} have"
                " the same SeriesInstanceUID. One of them in training and the other in test would make the scores those"
                " of training data. Give both one PatientID, or remove the copy."
            )


def _series(place: Path, volume: DicomVolume, *, others: int, parts: int) -> Series:
    """Describe a volume, or raise ValueError with the reason why a datalist cannot or must not name it.

    Args:
        place: Folder of the volume.
        volume: Volume of one series.
        others: Number of other volumes in the folder.
        parts: Number of volumes in the series.
    """
    header = _header(volume)
    if is_synthetic(header):
        raise ValueError("it is synthetic: the output of a network must not become training data")
    if types := NOT_ACQUIRED & {value.upper() for value in volume.slices[0].image_type}:
        raise ValueError(f"it was computed, not acquired ({', '.join(sorted(types))} in ImageType)")
    if what := quantity(header):
        raise ValueError(f"it is {what}, not an image as acquired")
    if parts > 1:
        raise ValueError("its series holds several volumes, or lies in several folders: give one volume a folder")
    if len(volume.files) > 1:
        if others:
            raise ValueError("its folder holds other volumes as well: give each a folder of its own")
        if volume.damaged:
            raise ValueError(f"{volume.damaged[0].name} beside it cannot be read: copy it again, or remove it")
    ordered = stack(volume.slices, place.name)
    shape = (*volume.slices[0].matrix, len(volume.slices))
    files = tuple(dict.fromkeys(image.file for image in ordered.slices))
    facts = Facts(shape, ordered.affine, str(header.get("FrameOfReferenceUID") or ""), _uid(volume), files)
    return Series(files[0] if len(files) == 1 else place, header, facts)


def _uid(volume: DicomVolume) -> str:
    return str(volume.slices[0].header.SeriesInstanceUID)


def _header(volume: DicomVolume) -> dict[str, Any]:
    from pydicom import dcmread

    image = volume.slices[0]
    tags: list[Any] = [*IDENTIFYING, *KEYWORDS, SYNTHETIC_DATA]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values longer than DICOM allows, which are taken as they are
        header = dcmread(image.file, stop_before_pixels=True, force=True, specific_tags=tags)
        own = {tag: header.get(tag) for tag in tags}
    return own | {name: value for name, value in image.values.items() if value not in (None, "")}


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
