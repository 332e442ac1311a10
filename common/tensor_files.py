"""Reading files of plain tensors: nothing in them is executed, and damage is noticed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch


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
