"""A batch of many cases that continues after a failed one, and reports all failures at its end."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import causes, own_error
from ..memory import keep_memory

logger = logging.getLogger(__name__)


class FailedCasesError(ValueError):
    """Some cases of a batch failed; the outputs of the others are complete."""


class Failure(NamedTuple):
    """A case that failed.

    Attributes:
        name: Quoted name of the image.
        why: Reason of the failure, see `reason`.
        error: Error of the case; kept only for a batch of one case, as it holds on to the image.
    """

    name: str
    why: str
    error: Exception | None = None


def run_cases(evaluator: Any) -> None:
    """Run an evaluator over its data loader; a case that fails is left out, and the run continues with the others.

    Args:
        evaluator: MONAI's evaluator, whose loader returns the images one by one in the order of its data set. Its own
            `run` would end at the first failure.

    Raises:
        FailedCasesError: At the end, if any of several cases failed. The message names each one with its reason.
        Exception: If the only case failed: its own error.
    """
    raise_failures(failed_cases(evaluator), len(evaluator.data_loader))


def failed_cases(evaluator: Any) -> list[Failure]:
    """Run an evaluator as `run_cases` does, and return the failures.

    Args:
        evaluator: MONAI's evaluator, see `run_cases`; without cases it does not run.
    """
    loader, step = evaluator.data_loader, evaluator._process_function
    failures: list[Failure] = []
    names = _names(loader)
    if not names:
        return []

    def tolerant(engine: Any, batch: Any) -> Any:
        try:
            if isinstance(batch, _Failed):
                raise batch.error
            return step(engine, batch)
        except Exception as error:
            name = names[(engine.state.iteration - 1) % len(names)]
            if len(names) > 1:
                _log(name, error)
            failures.append(Failure(name, reason(error), error if len(names) == 1 else None))
            return None

    evaluator.data_loader, evaluator._process_function = _Batches(loader), tolerant
    keep_memory()
    try:
        evaluator.run()
    finally:
        evaluator.data_loader, evaluator._process_function = loader, step
    return failures


def raise_failures(failures: Sequence[Failure], count: int) -> None:
    """Raise the error of `run_cases`, if there are failures.

    Args:
        failures: Failures of the cases.
        count: Number of all cases.

    Raises:
        FailedCasesError: If any of several cases failed.
        Exception: If the only case failed: its own error.
    """
    for failure in failures:
        if failure.error is not None:
            raise failure.error
    if failures:
        raise FailedCasesError(_summary(failures, count))


def reason(error: BaseException) -> str:
    """Return why a case failed: the message of our own error, which wraps others, else that of the first cause.

    Args:
        error: Error of the case.

    Example:
        >>> reason(KeyError("pred"))
        "KeyError: 'pred'"
    """
    if (ours := own_error(error)) is not None:
        return str(ours)
    *_, first = causes(error)
    return f"{type(first).__name__}: {first}"


class _Batches:
    """The batches of a loader, each loaded while the last is used; a failure to load does not end the iteration."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        with ThreadPoolExecutor(max_workers=1) as ahead:
            coming = ahead.submit(copy_context().run, _next, batches)  # its warnings belong to this call
            for left in reversed(range(len(self.loader))):
                batch = coming.result()
                if left:
                    coming = ahead.submit(copy_context().run, _next, batches)
                yield batch


class _Failed(NamedTuple):
    """A stand-in for a batch that could not be loaded."""

    error: Exception


def _next(batches: Iterator[Any]) -> Any:
    try:
        return next(batches)
    except StopIteration:
        return _Failed(RuntimeError("the data loader ended before its last image"))
    except Exception as error:
        return _Failed(error)


def _summary(failures: Sequence[Failure], count: int) -> str:
    lines = "".join(f"\n  {_told(failure.name, failure.why)}" for failure in failures)
    done = count - len(failures)
    return f"{len(failures)} of {count} images failed and have no output; {done} were translated. Failed:{lines}"


def _log(name: str, error: Exception) -> None:
    show: Callable[..., None] = logger.exception if os.environ.get("BUNDLE_TRACEBACK") else logger.error
    show(f"An image failed; the run continues with the others. {_told(name, reason(error))}")


def _told(name: str, why: str) -> str:
    """Return the reason, with the image's name in front unless the reason contains it."""
    return why if name in why else f"{name}: {why}"


def _names(loader: Any) -> list[str]:
    """Return the quoted names of the images in the order of their batches."""
    items = getattr(loader.dataset, "data", None) or [{}] * len(loader.dataset)
    names = [repr(_path(item.get("image", f"image {number}"))) for number, item in enumerate(items, start=1)]
    size = loader.batch_size or 1
    return [", ".join(names[start : start + size]) for start in range(0, len(names), size)]


def _path(image: Any) -> str:
    """Return the path of a file, or the name at the start of a list of files."""
    return str(image if isinstance(image, (str, Path)) else image[0])
