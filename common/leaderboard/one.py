"""One training and its evaluation, in processes of their own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..metrics import read_rows, write_json
from .boards import NETWORK, Board
from .budget import Schedule
from .cost import training_cost, training_seconds
from .names import pair_of

DONE = "result.json"
SETTING = "setting.json"
ERROR = re.compile(r"(error|[\w.]+(Error|Exception)): ")  # the first one is the cause
FACTS = ("network", "parameters", "torch", "monai", "gpu", "commit", "weights_sha256")


class RunFailedError(RuntimeError):
    """A training or an evaluation ended with an error, which its log holds."""


def one_run(
    board: Board,
    method: str,
    seed: int,
    places: dict[str, Path],
    overlay: str | None,
    plan: Schedule,
    setting: dict[str, Any],
    *,
    baselines: bool = True,
) -> dict[str, Any]:
    """
    Train and evaluate a method, unless its folder says that this was done.

    Args:
        board: of the bundle.
        method: see `Board.files`.
        seed: of the training.
        places: `data` and `runs`; `second` where there is a second test set.
        overlay: behind the method's own.
        plan: its schedule.
        setting: what all runs of a leaderboard share.
        baselines: score them, too, which takes longer than the network.

    Returns:
        method, seed, `cost`, `facts`, and `rows`: those of the network and of the baselines, a row a patient and
        direction, with the board's columns; `second` likewise of a second test set.

    Raises:
        ValueError: when the folder holds a run of another setting.
        RunFailedError: when the training or the evaluation fails.
    """
    folder = _folder(places["runs"], f"{re.sub('[/+:]', '_', method)}_{seed}", setting)
    if (folder / DONE).is_file():
        return _with_second(board, folder, places, json.loads((folder / DONE).read_text()), baselines=baselines)
    if board.stages:
        shutil.copytree(places["runs"] / f"stages_{seed}" / "models", folder / "models", dirs_exist_ok=True)
    options = {**setting["options"], **pair_of(method)}
    _train(board, board.files(method, overlay), folder, places, seed, plan, options)
    rows = _evaluate(board, folder, places["data"], "evaluation", baselines=baselines)
    facts = json.loads((folder / "evaluation" / "run.json").read_text())
    cost = training_cost(folder, board.configs, plan)
    if board.stages:
        logs = (places["runs"] / f"stages_{seed}" / "training").glob("*/losses.csv")
        cost["stage_seconds"] = round(sum(map(training_seconds, logs)), 1)
    run = {
        "method": method,
        "seed": seed,
        "selected_epoch": json.loads((folder / "models" / "network.json").read_text()).get("epoch"),
        "cost": cost,
        "facts": {key: facts[key] for key in FACTS if key in facts},
        "rows": rows,
    }
    write_json(folder / DONE, run)
    return _with_second(board, folder, places, run, baselines=baselines)


def train_stages(
    board: Board,
    seed: int,
    places: dict[str, Path],
    overlay: str | None,
    plan: Schedule,
    setting: dict[str, Any],
) -> None:
    """Train what comes before the methods, once a seed, with the same number of images an epoch."""
    folder = _folder(places["runs"], f"stages_{seed}", setting)
    for stage in board.stages:
        if not (folder / f"{stage}.done").is_file():
            files = [*board.files(board.own, overlay), board.configs / f"{stage}.yaml"]
            _train(board, files, folder, places, seed, plan, setting["options"])
            (folder / f"{stage}.done").touch()


def _folder(runs: Path, name: str, setting: dict[str, Any]) -> Path:
    """A run's folder, which remembers the setting that it was made with."""
    folder = runs / name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SETTING).is_file():
        write_json(folder / SETTING, setting)
    found = json.loads((folder / SETTING).read_text())
    if found != json.loads(json.dumps(setting)):
        raise ValueError(
            f"{str(folder)!r} holds a run of another setting ({found}), not of {setting}: give another `output_dir`,"
            " or remove it."
        )
    return folder


def _train(
    board: Board,
    files: list[Path],
    folder: Path,
    places: dict[str, Path],
    seed: int,
    plan: Schedule,
    options: dict[str, Any],
) -> None:
    lengths = {"max_epochs": plan.epochs, "samples_per_epoch": plan.samples_per_epoch}
    if files[-1].stem == "train_classifier":  # a classifier is no translation: its epochs are its config's
        del lengths["max_epochs"]
    _call(folder / f"{files[-1].stem}.log", "common.leaderboard.measured", str(folder / "memory.json"), "run",
          "training", "--config_file", str([str(path) for path in files]), *_places(board, folder, places["data"]),
          "--output_dir", str(folder / "training"), *_options({**lengths, "seed": seed, **options}))  # fmt: skip


def _with_second(
    board: Board, folder: Path, places: dict[str, Path], run: dict[str, Any], *, baselines: bool
) -> dict[str, Any]:
    """A run with the rows of the second test set, if there is one; what was evaluated is not evaluated again."""
    if "second" in places and "second" not in run:
        run = {**run, "second": _evaluate(board, folder, places["second"], "second", baselines=baselines)}
        write_json(folder / DONE, run)
    return run


def _evaluate(board: Board, folder: Path, data: Path, name: str, *, baselines: bool) -> list[dict[str, Any]]:
    """Score the network, and the baselines with it, on the test patients of `data`, in the folder `name`."""
    options = board.evaluation | ({} if baselines else board.network_alone())
    both = [str(board.configs / f"{name}.yaml") for name in ("inference", "evaluate")]
    _call(folder / f"{name}.log", "monai.bundle", "run", "evaluating", "--config_file", str(both),
          *_places(board, folder, data), "--output_dir", str(folder / name),
          "--training_dir", str(folder / "training"), *_options(options))  # fmt: skip
    return _rows(folder / name / "metrics.csv", board.columns)


def _options(values: Mapping[str, Any]) -> list[str]:
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def _places(board: Board, folder: Path, data: Path) -> list[str]:
    words = ["--bundle_root", str(board.configs.parent), "--dataset_dir", str(data)]
    return [*words, "--models_dir", str(folder / "models")]


def _call(log: Path, module: str, *arguments: str) -> None:
    with log.open("w") as file:
        done = subprocess.run([sys.executable, "-m", module, *arguments], stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        lines = log.read_text().strip().splitlines() or [""]
        reason = next((line for line in lines if ERROR.match(line)), lines[-1])
        raise RunFailedError(f"`{module}` ended with exit code {done.returncode}: {reason} ({log})")


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    kept = ("patient", "direction", "method")
    rows = [
        {key: row[key] for key in kept} | {key: float(f"{row[key]:.7g}") for key in columns if key in row}
        for row in read_rows(path)
    ]
    return sorted(rows, key=lambda row: row["method"] != NETWORK)
