"""Files and outputs that appear under their name only when they are complete, and JSON read and written.

A file is written under a hidden temporary name, several outputs together in a hidden folder; both are then renamed.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import psutil

from .errors import disk_full_names

SUFFIX = ".partial"  # no reader of ours takes a file of this name for an image


@contextmanager
def atomic_write(path: str | Path, *, needed: int | None = None) -> Iterator[IO[bytes]]:
    """Open a file for writing under a hidden, temporary name; it gets its own when the context ends without an error.

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
        ...     with atomic_write(f"{folder}/notes.txt") as file:
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
    try:
        return not pid.isdecimal() or psutil.pid_exists(int(pid))
    except (OverflowError, OSError):  # no number of a process, or a system that does not tell
        return True


NAME = f"outputs.{socket.gethostname()}"  # nodes share a folder, and cannot see if each other's processes live


class Staging:
    """A context with a hidden folder below an output folder; what was not published when it ends is removed.

    A process that is killed leaves the hidden folder, and nothing under an output's name; the next one on
    the same machine removes it.

    Args:
        output_dir: where the outputs go; it is made if it does not exist.

    Attributes:
        folder: the hidden one, once entered.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as out:
        ...     with Staging(out) as staging:
        ...         _ = (staging.folder / "a.txt").write_text("whole")
        ...         _ = staging.publish([staging.folder / "a.txt"])
        ...     [path.name for path in Path(out).iterdir()]
        ['a.txt']
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self.folder = partial_name(self.output_dir / NAME)

    def __enter__(self) -> Staging:
        for left in partials_of_the_dead(self.output_dir / NAME):
            shutil.rmtree(left, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def publish(self, staged: Sequence[Path]) -> list[Path]:
        """Move files and folders to the same place below the output folder, one after the other; what is there goes.

        Args:
            staged: paths below `folder`.

        Returns:
            their new paths.
        """
        published = []
        for path in staged:
            final = self.output_dir / path.relative_to(self.folder)
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.is_dir():  # a folder cannot be replaced by renaming alone
                final.rename(self.folder / f".old-{uuid.uuid4().hex[:8]}")
            os.replace(path, final)
            published.append(final)
        return published


def read_json(path: str | os.PathLike[str], *, cure: str = "write the file again") -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file, in UTF-8.
        cure: what a user can do about a damaged file; ends the messages.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not JSON, or holds something else than an object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no JSON, no text, or nested without end
        raise ValueError(f"`{path}` must be JSON, got {error}; {cure}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"`{path}` must hold a JSON object, got {type(content).__name__}; {cure}.")
    return content


def write_json(path: str | os.PathLike[str], content: Any) -> Path:
    """Write strict JSON (numpy numbers and paths allowed, NaN refused), atomically.

    Raises:
        ValueError: when the content holds NaN or infinity.
    """
    try:
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False, default=_plain)
    except ValueError as error:
        raise ValueError(
            f"`content` of {path} must hold finite numbers only: {error}; leave undefined ones out."
        ) from None
    return write_text(path, text + "\n")


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write UTF-8 text to a file that readers never see half of."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a file that readers never see half of."""
    with atomic_write(Path(path), needed=len(content)) as file:
        file.write(content)
    return Path(path)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"`content` must hold plain values, numpy arrays or paths, got {type(value).__name__}.")


def checksum(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:
    """`hashlib.file_digest` came with Python 3.11."""
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()
