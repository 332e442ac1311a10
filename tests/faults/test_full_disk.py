"""A disk that fills up: the message names the file, nothing is there in part, and the same command completes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.phantoms import generate_phantom
from common.release import build_release
from tests.helpers.disk import PAGE, Disk, mounted

from . import tasks
from .children import Outcome, run
from .data import models
from .traces import difference, files, state

pytestmark = pytest.mark.faults


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "disk", megabytes=64) as found:
        yield found


def assert_refused(outcome: Outcome) -> str:
    """Which file, in the words of our own message."""
    assert outcome.code == 0
    assert outcome.error is not None
    assert outcome.error.startswith("DiskFullError: ") or "FailedCasesError" in outcome.error, outcome.error
    for words in ("could not be written: No space left on device", "MB are free", "run the same command again"):
        assert words in outcome.error, outcome.error
    return outcome.error


def test_full_while_training_keeps_the_older_state(disk, tmp_path, survived):
    assert run(tasks.train, "cyclegan", tmp_path / "whole", watched=tmp_path).error is None
    refused: dict[str, int] = {}
    for pages in (0, 1, 5, 10, 20, 40, 60, 80):
        folder = disk.folder / str(pages)
        assert run(tasks.train, "cyclegan", folder, 1, watched=folder).error is None
        disk.leave(pages)
        outcome = run(tasks.train, "cyclegan", folder, watched=folder)
        if outcome.error is not None:
            error = assert_refused(outcome)
            name = next(name for name in ("losses.csv", "model.pt", "network.json", "last.pt") if name in error)
            refused[name] = refused.get(name, 0) + 1
            assert not files(folder, hidden=True)
            assert state(folder)["last"]["epoch"] in (1, 2)  # it, and the weights, are read
        disk.make_room()
        assert run(tasks.train, "cyclegan", folder, watched=folder).error is None
        assert difference(state(folder), state(tmp_path / "whole")) is None
    assert {"losses.csv", "model.pt", "last.pt"} <= refused.keys(), refused
    survived("full disk during training", sum(refused.values()))


@pytest.mark.parametrize("workers", [1, 2])
def test_full_while_a_phantom_is_made(workers, disk, tmp_path, survived):
    assert run(tasks.make_phantom, tmp_path / "whole", watched=tmp_path).error is None
    whole = files(tmp_path / "whole")
    tries = 0
    for pages in (0, 3, 6, 9)[: 4 // workers]:
        folder = disk.folder / str(pages)
        disk.leave(pages)
        assert_refused(run(tasks.make_phantom, folder, workers, watched=folder))
        assert files(folder).items() <= whole.items()
        assert not files(folder, hidden=True)
        disk.make_room()
        assert run(tasks.make_phantom, folder, workers, watched=folder).error is None
        assert files(folder) == whole
        tries += 1
    survived("full disk while a phantom is made", tries)


def test_full_while_a_release_is_installed(disk, tmp_path, survived):
    release = build_release(tasks.ROOT / "bundles" / "nec_t1t2", tmp_path)
    tries = 0
    for pages in (0, 1, 10, 40, 80):
        disk.leave(pages)
        error = assert_refused(run(tasks.install, str(release), disk.folder / "out", watched=disk.folder))
        assert "nec_t1t2" in error
        assert not files(disk.folder / "out") and not files(disk.folder / "out", hidden=True)  # noqa: PT018
        disk.make_room()
        tries += 1
    assert run(tasks.install, str(release), disk.folder / "out", watched=disk.folder).error is None
    survived("full disk during installation", tries)


@pytest.mark.parametrize("task", [tasks.translate, tasks.evaluate])
def test_full_while_outputs_are_written(task: Callable, disk: Disk, tmp_path: Path, survived: Callable):
    generate_phantom("brain", tmp_path / "data", patients=4, slices=4, size=64, workers=1)
    arguments = ("nec_t1t2", tmp_path / "data", models("nec_t1t2"), {})
    assert run(task, *arguments, tmp_path / "whole", watched=tmp_path).error is None
    whole = files(tmp_path / "whole")
    total = sum(len(content) for content in whole.values()) // PAGE
    tries = 0
    for pages in (0, 1, total // 3, total // 2, total - 1):
        folder = disk.folder / str(pages)
        disk.leave(pages)
        assert_refused(run(task, *arguments, folder, watched=folder))
        for name, content in files(folder).items():
            assert content == whole[name] or name.endswith((".json", ".csv", ".html")), name  # these tell the time
        assert not files(folder, hidden=True)
        disk.make_room()
        assert run(task, *arguments, folder, watched=folder).error is None
        assert files(folder).keys() == whole.keys()
        tries += 1
    survived(f"full disk during {'inference' if task is tasks.translate else 'evaluation'}", tries)
