"""`kill -9` during training: what resumes is, bit for bit, what would have come without it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.helpers.methods import NAMES

from . import tasks
from .children import KILLED, run
from .traces import difference, files, state

pytestmark = pytest.mark.faults
SAMPLED = 4  # moments for each method of which not all are tried
EPOCHS = 2  # of these


def whole(name: str, folder: Path, epochs: int = 3) -> int:
    """An uninterrupted training; its number of changes of the file system."""
    outcome = run(tasks.train, name, folder, epochs, watched=folder)
    assert outcome.code == 0
    assert outcome.error is None
    return outcome.steps


@pytest.mark.parametrize("name", NAMES)
def test_killed_before_any_change_of_a_file(name, tmp_path, survived):
    """Every change is tried for one method, a sample for the others."""
    steps = whole(name, tmp_path / "whole", EPOCHS)
    expected = state(tmp_path / "whole")
    moments = range(1, steps + 1)
    if name != "cyclegan":
        moments = sorted(random.Random(name).sample(moments, SAMPLED))
    for moment in moments:
        folder = tmp_path / str(moment)
        assert run(tasks.train, name, folder, EPOCHS, watched=folder, kill_at=moment).code == KILLED
        assert run(tasks.train, name, folder, EPOCHS, watched=folder).error is None
        assert difference(state(folder), expected) is None, f"killed before change {moment} of {steps}"
        assert not files(folder, hidden=True)
    survived("kill -9 during training, before a change of a file", len(moments))


@pytest.mark.parametrize("name", NAMES)
def test_killed_again_and_again_at_any_moment(name, tmp_path, survived):
    """One training, killed until it is through: also within writes and between iterations."""
    whole(name, tmp_path / "whole")
    times, kills = random.Random(name), 0
    while True:
        wait = 0.05 + times.random() * (0.6 if kills < 15 else 5.0)
        outcome = run(tasks.train, name, tmp_path / "killed", watched=tmp_path, kill_after=wait)
        if outcome.code == 0:
            break
        assert outcome.code == KILLED
        kills += 1
    assert outcome.error is None
    assert difference(state(tmp_path / "killed"), state(tmp_path / "whole")) is None
    assert kills >= 3
    survived("kill -9 during training, at random times", kills)
