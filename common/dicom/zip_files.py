"""Unpacking of a zip that somebody sent: nothing outside of the folder, no links, no bombs."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import IO

MAX_BYTES = 16 * 2**30
MAX_FILES = 100_000
BLOCK = 2**20
Folders = list[tempfile.TemporaryDirectory[str]]
_folders: Folders = []  # removed when the program ends
_current: ContextVar[Folders] = ContextVar("folders", default=_folders)


def unpacked(archive: str | Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Unpack a zip, see `unpack`, into a folder that lasts until `unpacked_for_now` or else the program ends."""
    folder = tempfile.TemporaryDirectory(prefix="unpacked_", ignore_cleanup_errors=True)
    _current.get().append(folder)
    unpack(archive, folder.name, max_bytes=max_bytes)
    return Path(folder.name)


@contextmanager
def unpacked_for_now() -> Iterator[None]:
    """Remove what `unpacked` unpacks in this context, and in copies of it, when it ends."""
    folders: Folders = []
    token = _current.set(folders)
    try:
        yield
    finally:
        _current.reset(token)
        for folder in folders:
            folder.cleanup()


def unpack(archive: str | Path, folder: str | Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> None:
    """Unpack a zip below an existing folder.

    Args:
        archive: path of the zip.
        folder: folder to unpack into.
        max_bytes: limit of the size of all files, counted as they are unpacked: a zip may be wrong about its sizes.
        max_files: limit of the number of files.

    Raises:
        ValueError: when the zip is damaged or encrypted, has a link or a path that leads out of the folder, or is too
            large for the limits or the disk. The message names the member.
    """
    name = repr(str(archive))
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            _check(members, name, Path(folder), max_bytes, max_files)
            left = max_bytes
            for member in members:
                target = Path(folder, *_parts(member))
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, target.open("xb") as out:
                    left -= _copy(source, out, left, name)
    except (zipfile.BadZipFile, RuntimeError, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{name} cannot be unpacked ({error}): pack it again, without encryption.") from error


def check_members(members: Iterable[zipfile.ZipInfo], name: str) -> None:
    """Refuse links, and paths that lead out of the folder that a zip is unpacked to.

    Args:
        members: members of the zip.
        name: name of the zip, for the message.

    Raises:
        ValueError: naming the member.
    """
    for member in members:
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ValueError(f"{name} has a link, {member.filename!r}: pack the files themselves.")
        if not (parts := _parts(member)) or ".." in parts or any(":" in part or "\0" in part for part in parts):
            raise ValueError(f"{name} has a member that leads out of its folder, {member.filename!r}: it is refused.")
        if member.filename.startswith(("/", "\\")):
            raise ValueError(f"{name} has a member with an absolute path, {member.filename!r}: it is refused.")


def _check(members: list[zipfile.ZipInfo], name: str, folder: Path, max_bytes: int, max_files: int) -> None:
    if len(members) > max_files:
        raise ValueError(f"{name} has {len(members)} files, at most {max_files} are unpacked: give fewer series.")
    check_members(members, name)
    room = min(max_bytes, shutil.disk_usage(folder).free)
    size = sum(member.file_size for member in members)
    if size > room:
        raise ValueError(
            f"{name} unpacks to {size / 1e9:.3g} GB, {room / 1e9:.3g} GB are allowed in {str(folder)!r}: give fewer"
            f" series, or unpack it yourself."
        )


def _parts(member: zipfile.ZipInfo) -> tuple[str, ...]:
    return PurePosixPath(member.filename.replace("\\", "/").lstrip("/")).parts


def _copy(source: IO[bytes], out: IO[bytes], left: int, name: str) -> int:
    """Copy at most `left` bytes, and return how many."""
    copied = 0
    while block := source.read(BLOCK):
        copied += len(block)
        if copied > left:
            raise ValueError(f"{name} unpacks to more than it says, and than is allowed: it is damaged or malicious.")
        out.write(block)
    return copied
