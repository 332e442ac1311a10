"""Resolve what a client names or uploads to one image: NIfTI, a DICOM file, or a DICOM series."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

from pydicom.misc import is_dicom

from ...images.nifti import VOLUME_SUFFIXES

MAX_UNPACKED_BYTES = 8 * 2**30


def one_image(path: Path, scratch: Path) -> Path:
    """Return the NIfTI file, DICOM file or folder of one DICOM series that a path stands for.

    Args:
        path: A file, a folder with one series at any depth, or a zip of such a folder.
        scratch: An empty folder for unpacked files.

    Raises:
        ValueError: If it is not an image, or has several series.
    """
    if path.is_dir():
        return _one_series(path)
    if path.name.lower().endswith(VOLUME_SUFFIXES):
        return path
    if zipfile.is_zipfile(path):
        unpack(path, scratch)
        return _one_series(scratch)
    if path.is_file() and is_dicom(path):
        return path
    raise ValueError(
        f"{path.name!r} is not an image that a bundle reads: give NIfTI ({', '.join(VOLUME_SUFFIXES)}), a DICOM file,"
        " or a zip of one DICOM series."
    )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into a folder; no member is written outside.

    Raises:
        ValueError: If its content exceeds 8 GiB, or it is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            size = sum(member.file_size for member in file.infolist())
            if size > MAX_UNPACKED_BYTES:
                raise ValueError(f"The zip unpacks to {size / 1e9:.3g} GB: give one series, at most 8.6 GB.")
            file.extractall(folder)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"The zip cannot be unpacked ({error}): pack it again, without encryption.") from error


def series_folders(root: Path, *, leave_out: Iterable[Path] = ()) -> list[Path]:
    """Return a root and the folders below it that have DICOM files among their first files, sorted."""
    left_out = set(leave_out)
    folders = [root, *(path for path in sorted(root.rglob("*")) if path.is_dir())]
    return [folder for folder in folders if not left_out & {folder, *folder.parents} and _has_dicom(folder)]


def _has_dicom(folder: Path) -> bool:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return any(is_dicom(path) for path in files[:3])


def _one_series(folder: Path) -> Path:
    found = series_folders(folder)
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:5])
        raise ValueError(f"The folder must hold one DICOM series, it has {len(found)}{f' ({names})' if names else ''}.")
    return found[0]
