"""Volumes among DICOM files: series by series, and within a series by what makes one volume."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .files import safe_patient, why_no_volume
from .geometry import difference
from .headers import SPLITTING, Slice, naming, read_header, slices_of

if TYPE_CHECKING:
    from pydicom import Dataset

logger = logging.getLogger(__name__)
SAME_PLACE_MM = 1e-3
MOST_NAMED = 3


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

    def log(self) -> None:
        """Log what is translated, what is left out, and why."""
        for reason, files in self.skipped.items():
            logger.info(f"Skipped {_listed(files)}: {reason}.")
        for reason in self.damaged.values():
            logger.warning(reason)
        for volume in self.volumes:
            logger.info(f"Found {volume}.")


def find_volumes(files: Iterable[Path], *, keep: bool = False) -> Found:
    """Group DICOM files into volumes.

    They are told apart by series, image type, matrix, orientation and pixel size; and, where slices lie at the same
    place, by echo, time, diffusion weighting or acquisition.

    Args:
        files: files in any order, of any number of series.
        keep: keep the headers until the volumes are read, so that they are not parsed again then.

    Example:
        >>> find_volumes([]).volumes
        ()
    """
    series: dict[str, list[Slice]] = {}
    skipped: dict[str, list[Path]] = {}
    damaged: dict[Path, str] = {}
    for file in files:
        try:
            header = read_header(file, keep=keep)
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
    volumes = [volume for slices in series.values() for volume in _volumes(slices, list(damaged))]
    return Found(tuple(sorted(volumes, key=lambda volume: volume.files)), skipped, damaged)


def _volumes(slices: Sequence[Slice], damaged: Sequence[Path]) -> list[DicomVolume]:
    groups = [(label, part) for group in _by_geometry(_without_copies(slices)) for label, part in _by_attribute(*group)]
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
    """Group slices by image type, matrix, orientation and pixel size; those without a place spoil the largest."""
    groups: list[list[Slice]] = []
    for image in filter(_is_placed, slices):
        for group in groups:
            if image.image_type == group[0].image_type and not difference(image, group[0]):
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


def _by_attribute(label: str, slices: list[Slice]) -> list[tuple[str, list[Slice]]]:
    """Split slices that lie at the same places by the first attribute that tells all of them apart."""
    if not _repeat(slices):
        return [(label, slices)]
    for keyword in SPLITTING:
        parts: dict[str, list[Slice]] = {}
        for image in slices:
            parts.setdefault(str(image.values.get(keyword)), []).append(image)
        if len(parts) > 1 and not any(_repeat(part) for part in parts.values()):
            return [(f"{keyword} {value}", part) for value, part in parts.items()]
    return [(label, slices)]


def _repeat(slices: Sequence[Slice]) -> bool:
    places = {tuple(round(mm / SAME_PLACE_MM) for mm in image.position or ()) for image in slices}
    return len(places) < len(slices)


def _listed(files: Sequence[Path]) -> str:
    named = ", ".join(file.name for file in files[:MOST_NAMED])
    return named + (f" and {len(files) - MOST_NAMED} more files" if len(files) > MOST_NAMED else "")
