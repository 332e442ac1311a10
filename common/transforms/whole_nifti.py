"""Noticing that a NIfTI file is damaged, which nibabel does not."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

BLOCK = 1 << 20


def check_whole(path: Path, image: Any) -> None:
    """
    Refuses a NIfTI file that is cut short or whose checksum does not fit.

    nibabel stops reading at the last voxel, before the checksum at the end of a `.nii.gz`: it loads most files with a
    flipped bit, with other voxels. An uncompressed `.nii` has no checksum, of it only the size is seen.

    Args:
        path: ends in `.nii` or `.nii.gz`.
        image: what nibabel loaded from it; its voxels need not be read.

    Raises:
        ValueError: naming the file.
    """
    needed = int(image.dataobj.offset) + math.prod(image.shape) * image.get_data_dtype().itemsize
    try:
        size = _decompressed_size(path) if path.name.lower().endswith(".gz") else path.stat().st_size
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}): copy or convert it anew.") from error
    if size < needed:
        raise ValueError(
            f"{str(path)!r} is cut short: its header promises {needed} bytes, it has {size}. Copy or convert it anew."
        )


def _decompressed_size(path: Path) -> int:
    """Reads to the end, where the checksum is."""
    size = 0
    with gzip.open(path, "rb") as file:
        while block := file.read(BLOCK):
            size += len(block)
    return size
