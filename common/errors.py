"""Errors that we raise for what a user gave; the command line shows their message alone."""

from __future__ import annotations

import errno
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFullError(OSError):
    """An output does not fit on the disk; nothing of it is left there."""


class WorkerDiedError(RuntimeError):
    """A process that loads training data ended by itself, or was killed."""


EXPECTED = (
    ValueError,
    FileNotFoundError,
    NotADirectoryError,
    FileExistsError,
    FloatingPointError,
    DiskFullError,
    WorkerDiedError,
)


@contextmanager
def disk_full_names(path: str | Path, *, needed: int | None = None) -> Iterator[None]:
    """
    Turns the system's word that a disk is full, which names no file, into one that says what to do.

    Args:
        path: what is being written; whoever writes it removes what it has of it.
        needed: its size in bytes, where known.

    Raises:
        DiskFullError: instead of an `OSError` of a full disk, an exceeded quota or a file size limit.

    Example:
        >>> with disk_full_names("/scans/out.nii.gz", needed=2_000_000):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
        common.errors.DiskFullError: '/scans/out.nii.gz' (2 MB) could not be written: No space left on device...
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL or isinstance(error, DiskFullError):
            raise
        size = "" if needed is None else f" ({needed / 1e6:.3g} MB)"
        raise DiskFullError(
            f"{str(path)!r}{size} could not be written: {error.strerror}{_free(Path(path))}. Nothing of it was left;"
            " an older file of that name is as it was. Make room, or choose another folder, and run the same command"
            " again."
        ) from error


def _free(path: Path) -> str:
    existing = next((folder for folder in path.absolute().parents if folder.exists()), None)
    return "" if existing is None else f" ({shutil.disk_usage(existing).free / 1e6:.3g} MB are free)"


def _raised_here(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(__file__).parent in Path(frames[-1].filename).parents


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
