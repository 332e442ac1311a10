"""Volumes among DICOM files: series by series, and within a series by what makes one volume."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .content import quantity
from .files import safe_patient, why_no_volume
from .geometry import difference, stack
from .headers import SPLITTING, Slice, naming, read_header, slices_of

if TYPE_CHECKING:
    from pydicom import Dataset

logger = logging.getLogger(__name__)
SAME_PLACE_MM = 1e-3
MOST_NAMED = 3
TOGETHER = ("SeriesInstanceUID", "StudyInstanceUID")  # either says that a localizer belongs to a volume
MOST_OF_LOCALIZER = 3  # slices
ACROSS = 0.7  # cosine of the angle between normals, 45 degrees


@dataclass(frozen=True)
class DicomVolume:
    """The slices that make one volume, in no order yet.

    Args:
        slices: slices of one series.
        apart: what distinguishes it from the series' other volumes, such as `EchoTime 12`; empty if it is the only one.
        damaged: files that may belong to it and cannot be read: it must not be translated without them.
    """

    slices: tuple[Slice, ...]
    apart: str = ""
    damaged: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that hold its slices, sorted by name."""
        return tuple(sorted({image.file for image in self.slices}))

    @property
    def header(self) -> Dataset:
        """Header of one of its files."""
        return self.slices[0].header

    @property
    def modality(self) -> str:
        """`CT` or `MR`."""
        return self.slices[0].modality

    @property
    def counted(self) -> str:
        """Number of slices; of a few that are not all of their series, also their files."""
        named = f" ({_listed(self.files)})" if self.apart and len(self.files) <= MOST_NAMED else ""
        return f"{len(self.slices)} slices{named}"

    def __str__(self) -> str:
        header = self.header
        described = f" {str(header.get('SeriesDescription'))!r}" if header.get("SeriesDescription") else ""
        apart = f" ({self.apart})" if self.apart else ""
        return (
            f"series {header.get('SeriesNumber', '?')}{described}{apart}, {self.modality}, patient"
            f" {safe_patient(header)}, {self.counted}"
        )


@dataclass(frozen=True)
class Found:
    """Contents of DICOM files.

    Args:
        volumes: volumes in the order of their first files.
        skipped: files that are no images to translate, by the reason.
        damaged: files that cannot be read, with the reason.
    """

    volumes: tuple[DicomVolume, ...]
    skipped: dict[str, list[Path]]
    damaged: dict[Path, str]

    @property
    def reasons(self) -> str:
        """Why files are no part of a volume, in a sentence each; of damaged ones the first three."""
        told = [f"{len(files)} of its files: {reason}." for reason, files in self.skipped.items()]
        told += [f"There is {volume}." for volume in self.volumes]
        return " ".join([*told, *list(self.damaged.values())[:MOST_NAMED]])

    def log_skipped(self) -> None:
        """Log what is left out, and why."""
        for reason, files in self.skipped.items():
            logger.info(f"Skipped {_listed(files)}: {reason}.")

    def log(self) -> None:
        """Log what is translated, what is left out, and why."""
        self.log_skipped()
        for reason in self.damaged.values():
            logger.warning(reason)
        for volume in self.volumes:
            logger.info(f"Found {volume}.")


def find_volumes(files: Iterable[Path], *, keep: bool = False) -> Found:
    """Group DICOM files into volumes.

    They are told apart by series, matrix, orientation, pixel size and what their values measure (magnitude, phase, a
    map); and, where slices lie at the same place, by echo, time, diffusion weighting, acquisition or image type. Up to
    three slices across a larger volume of their study are a localizer, whatever their header says.

    Args:
        files: files in any order, of any number of series.
        keep: keep the headers until the volumes are read, so that they are not parsed again then.

    Example:
        >>> find_volumes([]).volumes
        ()
    """
    headers: dict[Path, Dataset] = {}
    damaged: dict[Path, str] = {}
    for file in files:
        try:
            headers[file] = read_header(file, keep=keep)
        except ValueError as error:
            damaged[file] = str(error)
    return volumes_of(headers, damaged)


def volumes_of(headers: Mapping[Path, Dataset], damaged: Mapping[Path, str] | None = None) -> Found:
    """Group the images of DICOM files into volumes, and tell what is no part of one, as `find_volumes` does.

    Args:
        headers: header of each file.
        damaged: files that cannot be read, with the reason.
    """
    series: dict[str, list[Slice]] = {}
    skipped: dict[str, list[Path]] = {}
    damaged = dict(damaged or {})
    for file, header in headers.items():
        try:
            with naming(file):
                reason = why_no_volume(header)
            if reason:
                skipped.setdefault(reason, []).append(file)
                continue
            images = slices_of(header, file)
        except ValueError as error:
            damaged[file] = str(error)
        else:
            series.setdefault(str(header.SeriesInstanceUID), []).extend(images)
    placed = _without_localizers(
        {uid: _by_geometry(_without_copies(slices)) for uid, slices in series.items()}, skipped
    )
    volumes = [volume for groups in placed.values() for volume in _volumes(groups, list(damaged))]
    return Found(tuple(sorted(volumes, key=lambda volume: volume.files)), skipped, damaged)


Groups = list[tuple[str, list[Slice]]]  # slices of one geometry, and what it is


def _without_localizers(series: dict[str, Groups], skipped: dict[str, list[Path]]) -> dict[str, Groups]:
    """Leave out the few slices that lie across a larger volume of their study: a localizer that does not say so."""
    every = [group for groups in series.values() for _, group in groups]
    kept: dict[str, Groups] = {}
    for uid, groups in series.items():
        for label, group in groups:
            across = next((other for other in every if _lies_across(group, other)), None)
            if across is None:
                kept.setdefault(uid, []).append((label, group))
                continue
            reason = f"a localizer by its geometry, which lies across the {len(across)} slices of its study"
            skipped.setdefault(reason, []).extend(sorted({image.file for image in group}))
            logger.warning(f"{_listed(skipped[reason])}: {reason}, it is left out.")
    return kept


def _lies_across(few: Sequence[Slice], many: Sequence[Slice]) -> bool:
    if (
        len(few) > MOST_OF_LOCALIZER
        or len(many) <= MOST_OF_LOCALIZER
        or not (_is_placed(few[0]) and _is_placed(many[0]))
    ):
        return False
    same = [
        one and one == other and few[0].modality == many[0].modality
        for one, other in ((few[0].header.get(uid), many[0].header.get(uid)) for uid in TOGETHER)
    ]
    return any(same) and abs(float(np.dot(_normal(few[0]), _normal(many[0])))) < ACROSS


def _normal(image: Slice) -> Any:
    return np.cross(*np.reshape(np.array(image.orientation, dtype=float), (2, 3)))


def _volumes(placed: Groups, damaged: Sequence[Path]) -> list[DicomVolume]:
    groups = [(label, part) for group in placed for label, part in _by_attribute(*group)]
    slices = [image for _, part in groups for image in part]
    volumes = []
    for label, part in groups:
        folders = {image.file.parent for image in part}
        beside = tuple(file for file in damaged if file.parent in folders)
        volumes.append(DicomVolume(tuple(part), label if len(groups) > 1 else "", beside))
    if len(volumes) > 1:
        number = slices[0].header.get("SeriesNumber", "?")
        parts = "; ".join(f"{volume.apart}: {volume.counted}" for volume in volumes)
        logger.warning(f"Series {number} holds {len(volumes)} volumes, each is translated by itself ({parts}).")
    return volumes


def _without_copies(slices: Sequence[Slice]) -> list[Slice]:
    """Leave out the second copy of an image that was exported twice, into two folders."""
    seen: dict[tuple[object, ...], Slice] = {}
    for image in slices:
        key = (str(image.header.get("SOPInstanceUID")), image.frame, image.position, image.matrix)
        if (first := seen.setdefault(key, image)) is not image:
            logger.info(f"Skipped {image.file.name}: a copy of {first.file.name} (the same SOPInstanceUID).")
    return list(seen.values())


def _by_geometry(slices: Sequence[Slice]) -> list[tuple[str, list[Slice]]]:
    """Group slices by matrix, orientation, pixel size and quantity; those without a place spoil the largest."""
    groups: list[list[Slice]] = []
    for image in filter(_is_placed, slices):
        for group in groups:
            if quantity(image.values) == quantity(group[0].values) and not difference(image, group[0]):
                group.append(image)
                break
        else:
            groups.append([image])
    if unplaced := [image for image in slices if not _is_placed(image)]:
        groups = groups or [[]]
        max(groups, key=len).extend(unplaced)
    return [(_geometry(group[0]), group) for group in groups]


def _is_placed(image: Slice) -> bool:
    return None not in (image.position, image.orientation, image.pixel_mm)


def _geometry(image: Slice) -> str:
    orientation = "\\".join(f"{value:.3g}" for value in image.orientation or ())
    pixel = " x ".join(f"{mm:.4g}" for mm in image.pixel_mm or ())
    matrix = f"{image.matrix[0]} x {image.matrix[1]}"
    return (
        f"{matrix} pixels of {pixel or '?'} mm, orientation {orientation or '?'}, {'/'.join(image.image_type) or '?'}"
    )


def _by_attribute(label: str, slices: list[Slice]) -> Groups:
    """Split slices that lie at the same places by the first attribute that tells all of them apart."""
    if not _repeat(slices):
        return _evenly(label, slices)
    for keyword in SPLITTING:
        parts = _parts(slices, lambda image, keyword=keyword: f"{keyword} {image.values.get(keyword)}")  # type: ignore[misc]
        if len(parts) > 1 and not any(map(_repeat, parts.values())):
            return list(parts.items())
    by_type = _parts(slices, _geometry)
    if len(by_type) == 1:
        return [(label, slices)]
    return [part for label, group in by_type.items() for part in _by_attribute(label, group)]


def _evenly(label: str, slices: list[Slice]) -> Groups:
    """Keep slices of several image types together if they are one even stack, as scanners mark single slices so."""
    by_type = _parts(slices, _geometry)
    if len(by_type) == 1 or _is_even(slices) or not all(map(_is_even, by_type.values())):
        return [(label, slices)]
    return list(by_type.items())


def _is_even(slices: list[Slice]) -> bool:
    try:
        return len(slices) < 2 or bool(stack(slices, "", upright=False).slices)
    except ValueError:
        return False


def _parts(slices: Sequence[Slice], label: Callable[[Slice], str]) -> dict[str, list[Slice]]:
    parts: dict[str, list[Slice]] = {}
    for image in slices:
        parts.setdefault(label(image), []).append(image)
    return parts


def _repeat(slices: Sequence[Slice]) -> bool:
    places = {tuple(round(mm / SAME_PLACE_MM) for mm in image.position or ()) for image in slices}
    return len(places) < len(slices)


def _listed(files: Sequence[Path]) -> str:
    named = ", ".join(file.name for file in files[:MOST_NAMED])
    return named + (f" and {len(files) - MOST_NAMED} more files" if len(files) > MOST_NAMED else "")
