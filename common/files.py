"""Atomic writing of files and of several outputs together, safe names, JSON and checksums.

A file is written under a hidden temporary name, several outputs in a hidden folder; both are renamed when complete.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import reprlib
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import psutil

from .errors import disk_full_names

SUFFIX = ".partial"  # none of our readers takes a file of this name for an image
MAX_NAME = 128  # characters of a file or folder that someone else names
UNUSUAL = re.compile(r"[^A-Za-z0-9_-]+")
_brief = reprlib.Repr()
_brief.maxlevel, _brief.maxlist, _brief.maxtuple, _brief.maxdict, _brief.maxother = 2, 16, 16, 8, 100
_claimed: set[Path] = set()  # files of `claim`
_listed: dict[str, tuple[int, list[str]]] = {}  # by folder: how often it was asked for its partial files, and these
NAME = f"outputs.{socket.gethostname()}"  # nodes share folders, but cannot see which processes of others are alive


def walk(folder: str | Path, *, onerror: Callable[[OSError], None]) -> Iterator[tuple[Path, list[str]]]:
    """Yield all folders below a folder with the names of their files, in order; links to folders are followed once.

    Args:
        folder: Folder to walk through.
        onerror: Called for a folder that cannot be listed, which `os.walk` leaves out without a word.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "a").mkdir()
        ...     Path(folder, "a", "loop").symlink_to(folder)
        ...     Path(folder, "a", "scan.nii").touch()
        ...     [(root.name, names) for root, names in walk(folder, onerror=print)][1:]
        [('a', ['scan.nii'])]
    """
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, onerror=onerror, followlinks=True):
        seen.add(os.path.realpath(root))
        folders[:] = sorted(name for name in folders if os.path.realpath(os.path.join(root, name)) not in seen)
        yield Path(root), sorted(names)


@contextmanager
def atomic_write(path: str | Path, *, needed: int | None = None) -> Iterator[IO[bytes]]:
    """Open a file for writing under a hidden, temporary name, and rename it when the context ends without an error.

    When the process is killed or the power fails, the file is absent or unchanged. A temporary file that a killed
    process left behind is removed when the file is written again.

    Args:
        path: Path of the file; its folder is created.
        needed: Size in bytes, if known, for the message.

    Raises:
        DiskFullError: If the disk is full.

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
                os.fsync(file.fileno())  # otherwise a power cut might leave the new name without the content
            partial.replace(path)
    finally:
        with suppress(OSError):  # a place that cannot be written, which was told above
            partial.unlink(missing_ok=True)


def partial_name(path: Path) -> Path:
    """Return the temporary name of a file or folder, which is hidden and differs between processes.

    Example:
        >>> partial_name(Path("out/case.nii.gz")).name == f".case.nii.gz.{os.getpid()}.partial"
        True
    """
    return path.with_name(f".{path.name}.{os.getpid()}{SUFFIX}")


def remove_partials(path: Path) -> None:
    """Remove the temporary files, maybe gigabytes, that ended processes left of a file."""
    for left in partials_of_the_dead(path):
        left.unlink(missing_ok=True)


def partials_of_the_dead(path: Path) -> list[Path]:
    """Return the temporary files or folders that ended processes left of a file or folder."""
    found = (name for name in _partials_in(path.parent) if name.startswith(f".{path.name}."))
    dead = (name for name in found if not _is_running(name.removesuffix(SUFFIX).rpartition(".")[2]))
    return [left for name in dead if (left := path.with_name(name)).exists()]


def _partials_in(folder: Path) -> list[str]:
    """Return the partial files of a folder as of the 1st, 2nd, 4th, 8th ... call, as it grows with each output."""
    key = os.path.abspath(folder)
    count, names = _listed.get(key, (0, []))
    if count & (count + 1) == 0:
        names = _list_partials(key)
    _listed[key] = (count + 1, names)
    return names


def _list_partials(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.name.startswith(".") and entry.name.endswith(SUFFIX)]
    except OSError:  # there is no such folder yet
        return []


def _is_running(pid: str) -> bool:
    try:
        return not pid.isdecimal() or psutil.pid_exists(int(pid))
    except (OverflowError, OSError):  # not a process id, or the system does not say
        return True


def claim(folder: str | Path, what: str) -> None:
    """Reserve a folder for this process, by a hidden file beside it, until `release_claims` or the end of the process.

    The file of a process that ended, even by `kill -9`, is replaced. A process may reserve a folder twice.

    Args:
        folder: Folder; it need not exist.
        what: What the folder is for, in messages.

    Raises:
        ValueError: If another process uses the folder. The message names the process and the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     claim(f"{place}/run", "`output_dir`")
        ...     release_claims()
        ...     os.listdir(place)
        []
    """
    path = Path(folder).resolve()
    lock = path.with_name(f".{path.name}.lock")
    if lock in _claimed:
        return
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "started": psutil.Process().create_time()}
    lock.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        try:
            with lock.open("x", encoding="utf-8") as file:
                json.dump(mine, file)
        except FileExistsError:
            _refuse_in_use(lock, path, what)
            lock.unlink(missing_ok=True)  # of a process that ended
        else:
            _claimed.add(lock)
            return
    _refuse_in_use(lock, path, what)


def release_claims() -> None:
    """Give back the folders that this process has reserved."""
    while _claimed:
        _claimed.pop().unlink(missing_ok=True)


atexit.register(release_claims)


def _refuse_in_use(lock: Path, path: Path, what: str) -> None:
    """Raise ValueError if the process that a file of `claim` names is alive, or on another computer."""
    try:
        owner = json.loads(lock.read_text(encoding="utf-8"))
        pid, host, started = int(owner["pid"]), str(owner["host"]), float(owner["started"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        pid, host, started = -1, "?", 0.0
    if host == socket.gethostname():
        try:
            if abs(psutil.Process(pid).create_time() - started) > 1:
                return  # another process has its number now
        except psutil.NoSuchProcess:
            return
        except psutil.AccessDenied:
            pass
    raise ValueError(
        f"{what} {str(path)!r} is in use by process {pid} on {host}: two trainings would overwrite each other's files."
        f" Choose another folder, wait for it, or, if it is over, remove {str(lock)!r}."
    )


def safe_component(name: Any, what: str) -> str:
    """Return a name that comes from someone else, such as a client or a header, if it can only be one file's name.

    Args:
        name: The name.
        what: What it is called, for the message.

    Raises:
        ValueError: If it is not one name of 1 to 128 ASCII letters, digits, dots, dashes and underscores without a
            leading dot.

    Example:
        >>> safe_component("final", "tag")
        'final'
        >>> safe_component("../..", "tag")
        Traceback (most recent call last):
        ValueError: `tag` must be one name of 1 to 128 letters, digits, '.', '-' and '_', not starting with '.', got ...
    """
    if not isinstance(name, str) or not re.fullmatch(rf"(?!\.)[A-Za-z0-9._-]{{1,{MAX_NAME}}}", name):
        raise ValueError(
            f"`{what}` must be one name of 1 to {MAX_NAME} letters, digits, '.', '-' and '_', not starting with '.',"
            f" got {shown(name)}."
        )
    return name


def safe_name(
    text: Any,
    *,
    replaced: re.Pattern[str] = UNUSUAL,
    fill: str = "-",
    longest: int = MAX_NAME,
    strip: bool = True,
    distinct: bool = False,
) -> str:
    """Return a text from a header, a list or a user as a part of a file's name.

    Args:
        text: The text.
        replaced: What is replaced; it must match the separators of paths and control characters.
        fill: What takes its place.
        longest: Largest number of characters; the rest is cut off.
        strip: Whether to leave `fill` out at both ends.
        distinct: Whether a text that is cut off ends in a part of its checksum, so that two texts have two names.

    Example:
        >>> safe_name("../../P 1"), safe_name("A" * 200, longest=12, distinct=True)
        ('P-1', 'AAA-70d3bf8b')
    """
    name = replaced.sub(fill, str(text))
    name = name.strip(fill) if strip else name
    if distinct and len(name) > longest:
        tail = f"-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
        return name[: longest - len(tail)] + tail
    return name[:longest]


def shown(value: Any) -> str:
    """Return the `repr` of a received value for a message, shortened, however long, deep or repetitive it is."""
    try:
        text = repr(value[:100]) if isinstance(value, (str, bytes)) else _brief.repr(value)
    except (ValueError, RecursionError):  # such as a whole number of thousands of digits
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:100]}..."


def refuse_outside(folder: str | Path, path: str | Path) -> None:
    """Refuse a path for a new file that is not below a folder, links followed: the last check before it is written.

    Unlike `below` it lets a link be replaced that has the file's own name.

    Args:
        folder: Folder of the outputs.
        path: Path of the new file.

    Raises:
        ValueError: If the folder that would hold the file is neither the folder nor below it.
    """
    place = Path(path).absolute()
    if place.name in ("", ".."):
        below(folder, place)
    below(folder, place.parent.resolve() / "file")


def below(folder: str | Path, *parts: str | Path) -> Path:
    """Return a resolved path below a folder: the last check before a file is created under a name from outside.

    Args:
        folder: Folder that must hold the path.
        parts: Parts of the path below it.

    Raises:
        ValueError: If the path, with its links followed, is not below the folder.

    Example:
        >>> below("/out", "case", "..", "..", "etc")
        Traceback (most recent call last):
        ValueError: 'case/../../etc' must lie below the folder '/out', but stands for '/etc'.
    """
    root = Path(folder).resolve()
    given = Path(*parts)
    path = (root / given).resolve()
    if root not in path.parents:
        raise ValueError(f"{str(given)!r} must lie below the folder {str(folder)!r}, but stands for {str(path)!r}.")
    return path


class Staging:
    """A context manager with a hidden folder below an output folder; what is not published is removed at the end.

    A killed process leaves the hidden folder, but nothing under an output's name; the next process on the same machine
    removes it.

    Args:
        output_dir: Folder of the outputs; it is created if it does not exist.

    Attributes:
        folder: The hidden folder, which exists in the context.

    Raises:
        ValueError: By `place` and `publish`, for a path that leads out of the folders.

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

    def place(self, path: str | Path) -> Path:
        """Return where to write what shall be published under a path of the output folder."""
        staged = self.folder / Path(path).relative_to(self.output_dir)
        refuse_outside(self.folder, staged)
        return staged

    def publish(self, staged: Sequence[Path]) -> list[Path]:
        """Move files and folders to the same path below the output folder, one by one, and replace existing ones.

        Args:
            staged: Paths below `folder`.

        Returns:
            New paths.
        """
        published = []
        finals = [self.output_dir / path.relative_to(self.folder) for path in staged]
        for path, final in zip(staged, finals):
            refuse_outside(self.folder, path)
            refuse_outside(self.output_dir, final)
        for path, final in zip(staged, finals):
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.is_dir():  # a folder cannot be replaced by renaming alone
                final.rename(self.folder / f".old-{uuid.uuid4().hex[:8]}")
            os.replace(path, final)
            published.append(final)
        return published


def read_json(path: str | os.PathLike[str], *, cure: str = "write the file again") -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: Path of the file, in UTF-8, with or without a byte order mark.
        cure: What a user can do about a damaged file; ends the messages.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or not an object.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # not JSON, not text, or nested too deeply
        raise ValueError(f"`{path}` must be JSON, got {error}; {cure}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"`{path}` must hold a JSON object, got {type(content).__name__}; {cure}.")
    return content


def write_json(path: str | os.PathLike[str], content: Any) -> Path:
    """Write strict JSON atomically.

    Args:
        path: Path of the file.
        content: Plain values, numpy numbers and arrays, and paths.

    Returns:
        Path of the file.

    Raises:
        ValueError: If the content holds NaN or infinity.
    """
    try:
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False, default=_plain)
    except ValueError as error:
        raise ValueError(
            f"`content` of {path} must hold finite numbers only: {error}; leave undefined ones out."
        ) from None
    return write_text(path, text + "\n")


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write UTF-8 text to a file atomically."""
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
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:
    """Compute a SHA-256 as `hashlib.file_digest` does, which Python 3.10 lacks."""
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()
