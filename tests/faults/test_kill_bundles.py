"""`kill -9` during the training of each bundle, as its configuration sets it up, and of a command line."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.phantoms import generate_phantom

from . import tasks
from .children import KILLED, run
from .data import CASES, Case
from .traces import difference, files, state

pytestmark = pytest.mark.faults
KILLS = 5  # of each stage
STAGES = {"train_classifier": "classifier", "train_contrast_removal": "contrast_removal"}


def prepared(case: Case, folder: Path) -> tuple[Path, Path]:
    """The phantom's folder and the overlay."""
    kind, parameters = case.phantom
    generate_phantom(kind, folder / "data", workers=1, **parameters)
    overlay = folder / "tiny.yaml"
    overlay.write_text(case.tiny)
    return folder / "data", overlay


@pytest.mark.parametrize("bundle", CASES)
def test_killed_training_of_a_bundle_resumes_bitwise(bundle, tmp_path, survived):
    """Killed before changes of files drawn at random, in a chain: the training is resumed, and killed again."""
    case = CASES[bundle]
    data, tiny = prepared(case, tmp_path)
    drawn = random.Random(bundle)
    kills = 0
    for stage in case.stages:
        task = (tasks.train_bundle, bundle, (*stage, tiny), data)
        steps = run(*task, tmp_path / "whole", watched=tmp_path / "whole")
        assert steps.error is None, steps.error
        for _ in range(KILLS):
            moment = drawn.randint(1, max(2, steps.steps // 2))
            outcome = run(*task, tmp_path / "killed", watched=tmp_path / "killed", kill_at=moment)
            assert outcome.code in (KILLED, 0)  # 0: what was left to do has fewer changes
            kills += outcome.code == KILLED
        assert run(*task, tmp_path / "killed", watched=tmp_path / "killed").error is None
    where = [STAGES[stage[-1]] for stage in case.stages if stage[-1] in STAGES]
    for name in (".", *where):
        one, other = ({"folder": folder, "stage": name} for folder in (tmp_path / "killed", tmp_path / "whole"))
        assert difference(state(**one), state(**other)) is None
    assert not files(tmp_path / "killed", hidden=True)
    assert kills >= KILLS // 2
    survived("kill -9 during training, before a change of a file", kills)


def command(data: Path, tiny: Path, out: Path) -> list[str]:
    root = tasks.ROOT / "bundles" / "nec_t1t2"
    configs = str([str(root / "configs" / "train.yaml"), str(tiny)])
    places = ["--dataset_dir", str(data), "--output_dir", str(out / "out"), "--models_dir", str(out / "models")]
    return [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", configs,
            "--bundle_root", str(root), "--max_epochs", "12", *places]  # fmt: skip


def test_a_command_line_that_is_killed_is_given_again(tmp_path, survived):
    """The processes of users: killed at random times once the first losses are written."""
    data, tiny = prepared(CASES["nec_t1t2"], tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tasks.ROOT)}
    quiet = {"env": environment, "cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command(data, tiny, tmp_path / "whole"), check=True, timeout=300, **quiet)
    times, kills = random.Random(0), 0
    losses = tmp_path / "killed" / "out" / "losses.csv"
    for _ in range(4):
        size = losses.stat().st_size if losses.exists() else 0
        process = subprocess.Popen(command(data, tiny, tmp_path / "killed"), **quiet)
        while process.poll() is None and not (losses.exists() and losses.stat().st_size > size):
            time.sleep(0.01)
        time.sleep(times.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        kills += process.wait(timeout=300) == KILLED
    subprocess.run(command(data, tiny, tmp_path / "killed"), check=True, timeout=300, **quiet)
    assert difference(state(tmp_path / "killed"), state(tmp_path / "whole")) is None
    assert kills >= 2
    survived("kill -9 of `python -m monai.bundle run training`, at random times", kills)
