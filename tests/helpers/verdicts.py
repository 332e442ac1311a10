"""What may come of a damaged input: it works, or one of our errors tells which file and why. Nothing else."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import own_error

SECONDS = 20.0  # an input takes a tenth of one; the rest is for a busy machine
BYTES_MORE = 3 * 2**30
ACCEPTED, REFUSED = "accepted", "refused"


class HangError(BaseException):
    """An input took too long; no handler of `Exception` may catch it."""


def verdict(attempt: Callable[[], object], *, names: list[str]) -> str:
    """
    Runs an attempt, which must succeed or be refused.

    Args:
        attempt: works on one input.
        names: of which a refusal's message must have one.

    Returns:
        `accepted` or `refused`.

    Raises:
        AssertionError: when the refusal names none of them.
        Exception: what is not one of our errors, as it is.
        HangError: after `SECONDS`.
    """
    try:
        with _alarm(), _little_memory():
            attempt()
    except Exception as error:
        message = refusal(error)
        if not any(name in message for name in names):
            raise AssertionError(f"The refusal names none of {names}: {message}") from error
        return REFUSED
    return ACCEPTED


def refusal(error: BaseException) -> str:
    """
    The message that the command line shows: of the first of our errors in a chain of causes.

    Raises:
        BaseException: the error itself, when none of the chain is ours.
    """
    ours = own_error(error)
    if ours is None:
        raise error
    return str(ours)


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise HangError(f"still at work after {SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _little_memory() -> Iterator[None]:
    """A header that promises terabytes must not take the machine's memory before it is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES_MORE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
