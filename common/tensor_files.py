"""Files of plain tensors: written whole or not at all, read without executing anything, damage noticed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from .files import atomic_write


class DamagedFileError(ValueError):
    """A file that does not hold what was written to it."""


def read_tensors(path: str | Path, *, map_location: Any = "cpu", mmap: bool = False) -> Any:
    """
    `torch.load` of tensors, numbers and containers, after a look at the checksums that `torch.save` put into the file.

    torch itself reads over them: it loads most files with a flipped bit, with another tensor in them.

    Args:
        path: written by `torch.save`.
        map_location: as in `torch.load`.
        mmap: map the tensors into memory, piece by piece as they are used, instead of reading them.

    Raises:
        DamagedFileError: when the file is cut short, changed, or not of plain tensors; says why in one line.
        OSError: when it cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            if zipfile.is_zipfile(file):  # files of torch < 1.6 are no zips, and have no checksums
                with zipfile.ZipFile(file) as parts:
                    if (damaged := parts.testzip()) is not None:
                        raise DamagedFileError(f"the checksum of its part {damaged!r} does not fit")
            file.seek(0)
            return torch.load(path if mmap else file, map_location=map_location, weights_only=True, mmap=mmap)
        except Exception as error:  # damaged bytes raise whatever they happen to spell
            if isinstance(error, (DamagedFileError, MemoryError)):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DamagedFileError(reason) from error


def save_atomically(state: Any, path: str | Path) -> Path:
    """Save by `torch.save` to a file that is whole or absent.

    Raises:
        DiskFullError: when the disk is full; an older file of that name is as it was.
    """
    with atomic_write(path) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch hides the system's error behind "unexpected pos"
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
    return Path(path)
