"""A DICOM volume as a MONAI data item: a name, and the files or frames that hold its slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .dicom_files import dicom_files
from .dicom_series import DicomVolume, find_volumes
from .zip_files import unpacked

FRAMES = "?frames="  # `file.dcm?frames=0,2`: those frames of an enhanced object


def item_of(volume: DicomVolume, name: str | Path) -> list[str]:
    """
    The data item of a volume: a name for outputs and messages, and what holds its slices.

    Args:
        volume: of `find_volumes`.
        name: a path, which need not exist.
    """
    chosen: dict[Path, list[int]] = {}
    for image in volume.slices:
        chosen.setdefault(image.file, []).extend([] if image.frame is None else [image.frame])
    counts = {image.file: int(image.header.get("NumberOfFrames") or 1) for image in volume.slices}
    parts = [_named(file, sorted(frames), counts[file]) for file, frames in sorted(chosen.items())]
    return [str(name), *parts, *map(str, volume.damaged)]


def one_volume(parts: Sequence[str]) -> DicomVolume:
    """
    The only volume that a folder, a zip or files hold.

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
    """The path in a part of an item.

    Example:
        >>> part_file("enhanced.dcm?frames=0,2")
        'enhanced.dcm'
    """
    return part.partition(FRAMES)[0]


def _kept(volume: DicomVolume, frames: Mapping[Path, Sequence[int]]) -> DicomVolume | None:
    """The volume without the frames that were not asked for."""
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
