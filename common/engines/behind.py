"""Work that follows behind: done in order by one thread, while the caller makes what comes next."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any


class Behind:
    """
    A context in which calls are made by a thread, one after the other, at most one of them waiting.

    What a call raises is raised by the next one, or at the end of the context; after that none is made any more.

    Example:
        >>> with Behind() as behind:
        ...     for level in range(3):
        ...         behind(print, level)
        0
        1
        2
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._last: Future | None = None

    def __enter__(self) -> Behind:
        return self

    def __call__(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Begin a call as soon as the last one has ended; what that one raised is raised here."""
        self._finish()
        self._last = self._thread.submit(work, *arguments)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._thread.shutdown()

    def _finish(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()
