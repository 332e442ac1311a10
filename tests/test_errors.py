"""The chain of causes, the error that a user is shown, and warnings collected in one context alone."""

from __future__ import annotations

import errno
import logging
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

from common.errors import NotWritableError, causes, collected_warnings, disk_full_names, own_error
from common.files import atomic_write
from common.networks import target_weights

logger = logging.getLogger("common.somewhere")


def wrapped(cause: BaseException | None, message: str) -> Exception:
    """As MONAI wraps what a component raises."""
    try:
        raise RuntimeError(message) from cause
    except RuntimeError as error:
        return error


def ours() -> Exception:
    with pytest.raises(ValueError, match="must name one of the domains") as error:
        target_weights(["B30f", "B70f"], "B40f")
    return error.value


def test_the_outermost_error_of_ours_is_found_however_it_is_wrapped():
    inner = ours()
    assert own_error(wrapped(wrapped(inner, "a"), "b")) is inner
    outer = ours()
    outer.__cause__ = wrapped(inner, "a")
    assert own_error(wrapped(outer, "b")) is outer


@pytest.mark.parametrize("error", [ValueError("of a library"), KeyError("x"), MemoryError(), wrapped(None, "a")])
def test_an_error_of_anybody_else_is_not_ours(error):
    assert own_error(error) is None


def test_what_was_being_handled_is_no_cause():
    while_cleaning_up = KeyError("a name")
    while_cleaning_up.__context__ = ours()
    assert list(causes(while_cleaning_up)) == [while_cleaning_up]
    assert own_error(while_cleaning_up) is None


def test_warnings_of_the_package_are_collected_and_no_others():
    with collected_warnings() as found:
        logging.getLogger("common.transforms.guards.image").warning("looks T2-weighted")
        logging.getLogger("common.transforms.guards.image").info("fine")
        logging.getLogger("monai").warning("elsewhere")
    logging.getLogger("common").warning("too late")
    assert found == ["looks T2-weighted"]


def test_concurrent_calls_hear_of_their_own_warnings_alone():
    """Two requests of a server, each of which loads its image in a thread of its own."""
    together = threading.Barrier(2)

    def request(name: str) -> list[str]:
        with collected_warnings() as found, ThreadPoolExecutor(1) as loader:
            together.wait(10)
            loader.submit(copy_context().run, logger.warning, f"{name} is doubtful").result()
            logger.warning(f"{name} was translated nevertheless")
            together.wait(10)
        return found

    with ThreadPoolExecutor(2) as server:
        first, second = server.map(request, ("first", "second"))
    assert first == ["first is doubtful", "first was translated nevertheless"]
    assert second == ["second is doubtful", "second was translated nevertheless"]


def test_issued_warnings_reach_their_collector_and_then_everybody_however_calls_overlap():
    """The first call to begin is the first to end, which must not leave its hook behind."""
    before = warnings.showwarning
    entered, left = threading.Event(), threading.Event()

    def first() -> list[str]:
        with collected_warnings(issued=True) as found:
            entered.set()
            warnings.warn("of the first", stacklevel=1)
        left.set()
        return found

    def second() -> list[str]:
        entered.wait(10)
        with collected_warnings(issued=True) as found:
            left.wait(10)
            warnings.warn("of the second", stacklevel=1)
            warnings.warn("no concern of a user", DeprecationWarning, stacklevel=1)
        return found

    def both() -> list[list[str]]:
        with ThreadPoolExecutor(2) as threads:
            return [call.result() for call in (threads.submit(first), threads.submit(second))]

    with pytest.warns(UserWarning, match="of the first"), pytest.warns(UserWarning, match="of the second"):
        assert both() == [["of the first"], ["of the second"]]
    assert warnings.showwarning is before


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.EACCES, "let this user write there"),
        (errno.EROFS, "Choose another folder"),
        (errno.ENOTDIR, "Something else has that name"),
        (errno.ENAMETOOLONG, "give the image a shorter name"),
    ],
)
def test_a_place_that_cannot_be_written_is_named_with_its_cure(number, cure):
    with (
        pytest.raises(NotWritableError, match=rf"'/out/a\.nii' could not be written: .*{cure}"),
        disk_full_names("/out"),
    ):
        raise OSError(number, os.strerror(number), "/out/a.nii")


def test_a_name_that_is_too_long_and_a_file_in_the_way_are_named_by_the_system_itself(tmp_path):
    (tmp_path / "file").touch()
    for path, words in ((tmp_path / ("x" * 300), "File name too long"), (tmp_path / "file" / "a.txt", "could not be")):
        with pytest.raises(NotWritableError, match=words), atomic_write(path) as file:
            file.write(b"never")
    assert os.listdir(tmp_path) == ["file"]
