"""Resolve what a client names or uploads to one image: NIfTI, a DICOM file, or a DICOM series."""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import pydicom
from pydicom.filereader import read_file_meta_info
from pydicom.misc import is_dicom
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ...images.nifti import VOLUME_SUFFIXES
from .limits import DEFAULT, Limits

BLOCK = 1 << 20  # bytes
NIFTI_HEADER = 540  # bytes of a NIfTI-2 header, the longer one
NIFTI_EXTENSIONS = 1 << 24  # bytes before the voxels; nibabel reads them into memory
SIZE_TAGS = ["Rows", "Columns", "NumberOfFrames"]


def one_image(path: Path, scratch: Path, limits: Limits = DEFAULT) -> Path:
    """Return the NIfTI file, DICOM file or folder of one DICOM series that a path stands for.

    Args:
        path: A file, a folder with one series at any depth, or a zip of such a folder.
        scratch: An empty folder for unpacked files.
        limits: Limits on what is unpacked, and on the voxels; no voxel is read.

    Raises:
        ValueError: If it is not an image, has several series, or is beyond a limit.
    """
    image = _found(path, scratch, limits)
    check_cost(image, limits)
    return image


def _found(path: Path, scratch: Path, limits: Limits) -> Path:
    if path.is_dir():
        return _one_series(path)
    if path.name.lower().endswith(VOLUME_SUFFIXES):
        return path
    if zipfile.is_zipfile(path):
        unpack(path, scratch, limits)
        return _one_series(scratch)
    if path.is_file() and is_dicom(path):
        return path
    raise ValueError(
        f"{path.name!r} is not an image that a bundle reads: give NIfTI ({', '.join(VOLUME_SUFFIXES)}), a DICOM file,"
        " or a zip of one DICOM series."
    )


def unpack(archive: Path, folder: Path, limits: Limits = DEFAULT) -> None:
    """Unpack a zip into a folder; no member is written outside, none is a link, and none exceeds its stated size.

    Raises:
        ValueError: If its content exceeds a limit, or it is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
            size = sum(member.file_size for member in members)
            if size > limits.unpacked_bytes:
                raise ValueError(
                    f"The zip unpacks to {size / 1e9:.3g} GB: give one series, at most {limits.max_unpacked_gb:g} GB."
                )
            if len(members) > limits.max_files:
                raise ValueError(f"The zip has {len(members)} files: give one series, at most {limits.max_files}.")
            file.extractall(folder)
    except (zipfile.BadZipFile, RuntimeError, OSError, zlib.error, EOFError) as error:
        raise ValueError(f"The zip cannot be unpacked ({error}): pack it again, without encryption.") from error


def check_cost(image: Path, limits: Limits = DEFAULT) -> None:
    """Check by its headers that an image is within the limits, before anything reads its voxels.

    A compressed file is unpacked once, in blocks that are not kept, as its header may promise less than it unpacks to.
    A file that is no image passes: its reader says so.

    Args:
        image: A NIfTI file, a DICOM file, or a folder of DICOM files.
        limits: Limits on voxels and unpacked bytes.

    Raises:
        ValueError: If the image is beyond a limit.
    """
    if image.name.lower().endswith(VOLUME_SUFFIXES) and not image.is_dir():
        _check_nifti(image, limits)
        return
    files = [path for path in image.iterdir() if path.is_file()] if image.is_dir() else [image]
    voxels = 0
    for file in files:
        voxels += _dicom_voxels(file, limits)
        _check_voxels(image, voxels, limits)


def _check_nifti(path: Path, limits: Limits) -> None:
    packed = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            start = file.read(NIFTI_HEADER)
    except (OSError, EOFError, zlib.error):
        return
    kinds: Any = (nib.Nifti1Header, nib.Nifti2Header)
    kind = next((kind for kind in kinds if kind.may_contain_header(start)), None)
    if kind is None:
        return
    header = kind(start[: kind.template_dtype.itemsize], check=False)
    sizes = [int(size) for size in header["dim"][1 : 1 + min(7, max(0, int(header["dim"][0])))]]
    voxels = math.prod(max(size, 0) for size in sizes)
    _check_voxels(path, voxels, limits)
    offset = float(header["vox_offset"])
    if not 0 <= offset <= NIFTI_EXTENSIONS:
        raise ValueError(
            f"{path.name!r} has its voxels at byte {offset:g} by its header, at most {NIFTI_EXTENSIONS} are read:"
            " convert the original again."
        )
    if packed:
        _check_unpacked(path, limits)


def _check_unpacked(path: Path, limits: Limits) -> None:
    size = 0
    try:
        with gzip.open(path, "rb") as file:
            while block := file.read(BLOCK):
                size += len(block)
                if size > limits.unpacked_bytes:
                    raise ValueError(_unpacks_to_more(path, limits))
    except (OSError, EOFError, zlib.error):
        return  # the reader names the damage


def _dicom_voxels(path: Path, limits: Limits) -> int:
    """Return the voxels of a DICOM file by its header, 0 for any other file."""
    if not is_dicom(path):
        return 0
    try:
        meta = read_file_meta_info(path)
    except Exception:  # pydicom raises many kinds for a damaged file, which its reader here names
        return 0
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian and _inflates_to_more(path, meta, limits):
        raise ValueError(_unpacks_to_more(path, limits))  # pydicom would unpack all of it for the header
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(SIZE_TAGS))
        rows, columns, frames = (max(int(header.get(tag) or 1), 1) for tag in SIZE_TAGS)
    except Exception:  # as above
        return 0
    return rows * columns * frames


def _inflates_to_more(path: Path, meta: Any, limits: Limits) -> bool:
    start = 144 + int(meta.get("FileMetaInformationGroupLength") or 0)  # PS3.10, section 7.1
    inflater, size, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, path.read_bytes()[start:]
    try:
        while rest and not inflater.eof and size <= limits.unpacked_bytes:
            size += len(inflater.decompress(rest, BLOCK))
            rest = inflater.unconsumed_tail
    except zlib.error:  # the reader names the damage
        return False
    return size > limits.unpacked_bytes


def _check_voxels(path: Path, voxels: int, limits: Limits) -> None:
    if voxels > limits.max_voxels:
        raise ValueError(
            f"{path.name!r} has {voxels:.3g} voxels by its header, this server reads at most {limits.max_voxels:.3g}:"
            " send a part of it, or start the server with `--conf max_voxels` and more."
        )


def _unpacks_to_more(path: Path, limits: Limits) -> str:
    return (
        f"{path.name!r} unpacks to more than {limits.max_unpacked_gb:g} GB: send a part of it, or start the server with"
        " `--conf max_unpacked_gb` and more."
    )


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
