"""Which errors are the client's, and their reasons."""

from __future__ import annotations

import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path

from ...errors import EXPECTED, DiskFullError

UNREADABLE = (EOFError, zlib.error)  # of a file that was cut off
_PACKAGE = Path(__file__).parents[2]


def reason(error: BaseException) -> str | None:
    """
    Why a request is refused, or None when the error is the server's.

    A component wraps an error of ours in others; ours tells what to do.

    Example:
        >>> from common.networks import target_weights
        >>> try:
        ...     target_weights(["B30f", "B70f"], "B40f")
        ... except ValueError as error:
        ...     "B40f" in reason(error)
        True
    """
    chain = list(_chain(error))
    ours = [link for link in chain if isinstance(link, EXPECTED) and _raised_here(link)]
    if ours:
        return None if isinstance(ours[-1], DiskFullError) else str(ours[-1])
    broken = [link for link in chain if isinstance(link, UNREADABLE)]
    return f"The image cannot be read ({broken[-1]}): send it anew." if broken else None


def _raised_here(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and _PACKAGE in Path(frames[-1].filename).parents


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
