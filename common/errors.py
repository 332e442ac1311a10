"""Errors caused by a user's input, how they are found in a chain of causes, and collected warnings.

The command lines show only the message of such an error, without a traceback.
"""

from __future__ import annotations

import errno
import logging
import shutil
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_WRITABLE = {  # what the system says, and the cure
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Choose another folder, or let this user write there."),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST), "Something else has that name: choose another one."),
    errno.ENAMETOOLONG: "The name of an output is that of its image and the target: give the image a shorter name.",
    errno.ENOENT: "Choose a folder on a disk that can be written.",
}


class DiskFullError(OSError):
    """An output does not fit on the disk; no part of it is left there."""


class NotWritableError(OSError):
    """An output cannot be written where it was asked for."""


class ImpossibleError(ValueError):
    """What was asked for cannot be done with this image; unlike other refusals of a check, it cannot be overridden."""


class WorkerDiedError(RuntimeError):
    """A process that loads training data ended or was killed."""


EXPECTED = (
    ValueError,
    FileNotFoundError,
    NotADirectoryError,
    FileExistsError,
    FloatingPointError,
    DiskFullError,
    NotWritableError,
    WorkerDiedError,
)


@contextmanager
def disk_full_names(path: str | Path, *, needed: int | None = None) -> Iterator[None]:
    """Turn the system's error about a full disk, which names no file, or a place into one that says what to do.

    Args:
        path: File or folder that is being written; the caller removes an incomplete one.
        needed: Size in bytes, if known.

    Raises:
        DiskFullError: Instead of an `OSError` about a full disk, an exceeded quota or a file size limit.
        NotWritableError: Instead of one about permissions, a file in the way or a name that is too long.

    Example:
        >>> with disk_full_names("/scans/out.nii.gz", needed=2_000_000):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
        common.errors.DiskFullError: '/scans/out.nii.gz' (2 MB) could not be written: No space left on device...
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, (DiskFullError, NotWritableError)):
            raise
        if error.errno in NOT_WRITABLE and error.filename is not None:
            raise NotWritableError(
                f"{str(error.filename)!r} could not be written: {error.strerror}. {NOT_WRITABLE[error.errno]}"
            ) from error
        if error.errno not in DISK_FULL:
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


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Follow `raise ... from`, from the outermost error to the first cause.

    An error that was merely being handled when another was raised (`__context__`) is not its cause and is left out.

    Example:
        >>> inner, outer = KeyError("pred"), RuntimeError("applying transform")
        >>> outer.__cause__ = inner
        >>> [type(link).__name__ for link in causes(outer)]
        ['RuntimeError', 'KeyError']
    """
    while error is not None:
        yield error
        error = error.__cause__


def own_error(error: BaseException) -> BaseException | None:
    """Find the error that tells a user what to do: one of `EXPECTED` that this package raised itself.

    MONAI and Ignite wrap the errors of components in errors of their own.

    Args:
        error: The error that was caught.

    Returns:
        The outermost such error in the chain of causes, which may say more than those that it wraps; None if the user
        is not at fault.
    """
    package = Path(__file__).parent
    for link in causes(error):
        frames = traceback.extract_tb(link.__traceback__)
        if isinstance(link, EXPECTED) and frames and package in Path(frames[-1].filename).parents:
            return link
    return None


class _Collector:
    """Messages of one `collected_warnings`; `issued`: whether it collects those of the `warnings` module as well."""

    def __init__(self, issued: bool) -> None:
        self.found: list[str] = []
        self.issued = issued


_collectors: ContextVar[tuple[_Collector, ...]] = ContextVar("collectors", default=())


@contextmanager
def collected_warnings(*, issued: bool = False) -> Iterator[list[str]]:
    """Collect the warnings that this package logs in this context; they are logged as well.

    Calls are isolated from each other: messages are those of the call's own `contextvars` context. Work in another
    thread must run in a copy of the context, or its warnings are missed.

    Args:
        issued: Also collect each `UserWarning` of Python's `warnings` module, from any package.

    Yields:
        List of the messages so far.

    Example:
        >>> with collected_warnings() as found:
        ...     logging.getLogger("common.data").warning("2 slices are missing")
        >>> found
        ['2 slices are missing']
    """
    collector = _Collector(issued)
    handler = logging.Handler(logging.WARNING)
    handler.addFilter(lambda _: collector in _collectors.get())
    handler.emit = lambda record: collector.found.append(record.getMessage())  # type: ignore[method-assign]
    package = logging.getLogger(__name__.split(".")[0])
    package.addHandler(handler)
    token = _collectors.set((*_collectors.get(), collector))
    try:
        with _issued.routed() if issued else nullcontext():
            yield collector.found
    finally:
        _collectors.reset(token)
        package.removeHandler(handler)


class _IssuedWarnings:
    """Pass Python's warnings to the collectors of the context that issues them.

    The filters and the hook of the `warnings` module are global: they are replaced once for all threads, and restored
    when the last one is done. All warnings issued in the meantime are then issued again, subject to the filters.
    """

    def __init__(self) -> None:
        self.lock, self.users = threading.Lock(), 0

    @contextmanager
    def routed(self) -> Iterator[None]:
        with self.lock:
            self.users += 1
            if self.users == 1:
                self.caught: list[warnings.WarningMessage] = []
                self.before = warnings.catch_warnings()
                self.before.__enter__()
                warnings.simplefilter("always")
                warnings.showwarning = self._collect
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    self.before.__exit__(None, None, None)
                caught = [] if self.users else self.caught
            for warning in caught:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)

    def _collect(self, *warning: Any, **where: Any) -> None:
        issued = warnings.WarningMessage(*warning, **where)
        self.caught.append(issued)
        if issued.category is UserWarning:
            for collector in _collectors.get():
                if collector.issued:
                    collector.found.append(str(issued.message))


_issued = _IssuedWarnings()
