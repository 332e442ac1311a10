"""A batch of many cases that goes on after a bad one, and tells of all bad ones at its end."""

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
    """Some cases of a batch failed; the outputs of the others are whole."""


class Failure(NamedTuple):
    """
    A case that failed.

    Attributes:
        name: of the image, quoted.
        why: see `reason`.
        error: kept for a batch of one case only, as it holds on to the image.
    """

    name: str
    why: str
    error: Exception | None = None


class _Failed(NamedTuple):
    """Takes the place of a batch that could not be loaded."""

    error: Exception


class _Batches:
    """The batches of a loader, each loaded while the last is used; one that cannot be does not end the iteration."""

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


def _next(batches: Iterator[Any]) -> Any:
    try:
        return next(batches)
    except StopIteration:
        return _Failed(RuntimeError("the data loader ended before its last image"))
    except Exception as error:
        return _Failed(error)


def run_cases(evaluator: Any) -> None:
    """
    Runs an evaluator over its data loader; a case that fails is left out, and the others go on.

    Args:
        evaluator: MONAI's, whose loader gives the images one by one, in the order of its data set. Its own `run` ends
            at the first failure.

    Raises:
        FailedCasesError: at the end, naming each failed case and its reason, when there are several cases.
        Exception: the case's own, when it is the only one.
    """
    raise_failures(failed_cases(evaluator), len(evaluator.data_loader))


def raise_failures(failures: Sequence[Failure], count: int) -> None:
    """Raises what `run_cases` does, for the failures among `count` cases."""
    for failure in failures:
        if failure.error is not None:
            raise failure.error
    if failures:
        raise FailedCasesError(_summary(failures, count))


def failed_cases(evaluator: Any) -> list[Failure]:
    """
    Runs an evaluator as `run_cases` does, and gives the cases that failed.

    Args:
        evaluator: see `run_cases`; with no case there is nothing to do.
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


def reason(error: BaseException) -> str:
    """
    Why a case failed: the message of our own error, the one that wraps others, or of the first cause.

    Example:
        >>> reason(KeyError("pred"))
        "KeyError: 'pred'"
    """
    if (ours := own_error(error)) is not None:
        return str(ours)
    *_, first = causes(error)
    return f"{type(first).__name__}: {first}"


def _summary(failures: Sequence[Failure], count: int) -> str:
    lines = "".join(f"\n  {_told(failure.name, failure.why)}" for failure in failures)
    done = count - len(failures)
    return f"{len(failures)} of {count} images failed and left nothing; {done} were translated. Failed:{lines}"


def _log(name: str, error: Exception) -> None:
    show: Callable[..., None] = logger.exception if os.environ.get("BUNDLE_TRACEBACK") else logger.error
    show(f"An image failed, the others go on. {_told(name, reason(error))}")


def _told(name: str, why: str) -> str:
    """The reason, with the image's name unless it has it already."""
    return why if name in why else f"{name}: {why}"


def _names(loader: Any) -> list[str]:
    """The images in the order of their batches."""
    items = getattr(loader.dataset, "data", None) or [{}] * len(loader.dataset)
    names = [repr(_path(item.get("image", f"image {number}"))) for number, item in enumerate(items, start=1)]
    size = loader.batch_size or 1
    return [", ".join(names[start : start + size]) for start in range(0, len(names), size)]


def _path(image: Any) -> str:
    """Of a file, or the name that begins a list of files."""
    return str(image if isinstance(image, (str, Path)) else image[0])
