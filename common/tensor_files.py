"""Files of plain tensors: written atomically, read without executing anything, with damage detected."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from .files import atomic_write


class DamagedFileError(ValueError):
    """A file does not hold what was written to it."""


def read_tensors(path: str | Path, *, map_location: Any = "cpu", mmap: bool = False) -> Any:
    """Load tensors, numbers and containers with `torch.load` after verifying the checksums that `torch.save` stored.

    `torch.load` itself ignores the checksums: it loads most files with a flipped bit, with a different tensor in them.

    Args:
        path: File written by `torch.save`.
        map_location: As in `torch.load`.
        mmap: Map the tensors into memory, piece by piece as they are used, instead of reading them.

    Returns:
        Content of the file.

    Raises:
        DamagedFileError: If the file is truncated, changed, or not of plain tensors; the message gives the reason.
        OSError: If the file cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            if zipfile.is_zipfile(file):  # files of torch < 1.6 are not zip files and have no checksums
                with zipfile.ZipFile(file) as parts:
                    if (damaged := parts.testzip()) is not None:
                        raise DamagedFileError(f"the checksum of its part {damaged!r} does not fit")
            file.seek(0)
            return torch.load(path if mmap else file, map_location=map_location, weights_only=True, mmap=mmap)
        except Exception as error:  # damaged bytes can raise anything
            if isinstance(error, (DamagedFileError, MemoryError)):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DamagedFileError(reason) from error


def save_atomically(state: Any, path: str | Path) -> Path:
    """Save a state with `torch.save` to a file that is complete or absent.

    Raises:
        DiskFullError: If the disk is full; an older file of that name is left unchanged.
    """
    with atomic_write(path) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch hides the system's error behind "unexpected pos"
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
    return Path(path)
