"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from .errors import disk_full_names

SUFFIX = ".partial"  # no reader of ours takes a file of this name for an image


@contextmanager
def whole_file(path: str | Path, *, needed: int | None = None) -> Iterator[IO[bytes]]:
    """
    A context in which a file is written under a hidden, temporary name; at its end the file gets its own.

    When the process is killed or the power fails, the file is absent, or as it was before. What a killed process left
    under its temporary name is removed when the file is written again.

    Args:
        path: the file; its folder is made.
        needed: its size in bytes, where known, for the message.

    Raises:
        DiskFullError: when the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole_file(f"{folder}/notes.txt") as file:
        ...         _ = file.write(b"whole")
        ...         before = Path(folder, "notes.txt").exists()
        ...     before, Path(folder, "notes.txt").read_bytes(), len(os.listdir(folder))
        (False, b'whole', 1)
    """
    path = Path(path)
    partial = partial_name(path)
    try:
        with disk_full_names(path, needed=needed):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_partials(path)
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # or a power cut might keep the new name without the content
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def partial_name(path: Path) -> Path:
    """The temporary name: hidden, and one for each process.

    >>> partial_name(Path("out/case.nii.gz")).name == f".case.nii.gz.{os.getpid()}.partial"
    True
    """
    return path.with_name(f".{path.name}.{os.getpid()}{SUFFIX}")


def remove_partials(path: Path) -> None:
    """Remove what processes that are no more left of a file, which may be gigabytes."""
    for left in partials_of_the_dead(path):
        left.unlink(missing_ok=True)


def partials_of_the_dead(path: Path) -> list[Path]:
    """The temporary names under which processes that are no more left a part of a file or folder."""
    found = path.parent.glob(f".{glob.escape(path.name)}.*{SUFFIX}")
    return [left for left in found if not _is_running(left.name.removesuffix(SUFFIX).rpartition(".")[2])]


def _is_running(pid: str) -> bool:
    if os.name != "posix" or not pid.isdecimal():
        return True  # signal 0 would end it on other systems
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def save_atomically(state: Any, path: str | Path) -> Path:
    """`torch.save` to a file that is whole or absent.

    Raises:
        DiskFullError: when the disk is full; an older file of that name is as it was.
    """
    with whole_file(path) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch hides the system's error behind "unexpected pos"
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
    return Path(path)
