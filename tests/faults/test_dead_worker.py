"""A process that loads data and dies: the training stops, says so, and goes on when it is given again."""

from __future__ import annotations

import pytest

from . import tasks
from .children import run
from .traces import difference, state

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("code", [None, 0], ids=["killed", "exit 0"])
def test_a_dead_worker_stops_the_training_which_resumes_bitwise(code, tmp_path, survived):
    assert run(tasks.train_with_workers, tmp_path / "whole", None, None, 3, watched=tmp_path).error is None
    assert run(tasks.train_with_workers, tmp_path / "part", None, None, 1, watched=tmp_path).error is None
    tries = 0
    for fatal in (0, 3):
        outcome = run(tasks.train_with_workers, tmp_path / "part", fatal, code, 3, watched=tmp_path, timeout=120)
        assert outcome.error is not None
        assert outcome.error.startswith("WorkerDiedError: A process that loads the training data died in epoch 2")
        assert "DataLoader worker (pid" in outcome.error
        assert "run the same command again" in outcome.error
        assert state(tmp_path / "part")["last"]["epoch"] == 1
        tries += 1
    assert run(tasks.train_with_workers, tmp_path / "part", None, None, 3, watched=tmp_path).error is None
    assert difference(state(tmp_path / "part"), state(tmp_path / "whole")) is None
    survived("a data loader's worker dies", tries)
