"""Train and evaluate the methods of a bundle, each in processes of its own; finished runs are not repeated."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from ..devices import accelerator_name
from ..files import write_json
from ..metrics.summary import NETWORK, read_rows
from ..processes import run_child
from .boards import DECLARED, RESULTS, Board, find_board, pair_of
from .budget import Schedule, schedule, training_cost, training_seconds
from .results import add_runs, read_results, refuse_other, shared_run

DONE = "result.json"
SETTING = "setting.json"
ERROR = re.compile(r"(error|[\w.]+(Error|Exception)): ")  # the first one is the cause
FACTS = ("network", "parameters", "torch", "monai", "gpu", "commit", "weights_sha256")


class RunFailedError(RuntimeError):
    """A training or an evaluation ended with an error, which its log holds."""


def run_leaderboard(
    bundle: str,
    *,
    methods: Sequence[str] | None = None,
    budget: int | None = None,
    seeds: int | Sequence[int] = 3,
    overlay: str | None = DECLARED,
    epochs: int | None = None,
    data: str | Path | None = None,
    second: str | Path | None = None,
    output_dir: str | Path | None = None,
    result: str | Path | None = None,
    options: dict[str, Any] | None = None,
) -> Path:
    """Train and evaluate each method with each seed at one budget, and write one file of results.

    Equal budget means the same data, batch size and number of epochs, and equally many images with which the generator
    is updated; what else differs (updates of the discriminator, time, memory) is recorded. All methods are evaluated
    on the same held-out patients. Each run has a folder: a finished run is read, an interrupted one continues from its
    last epoch, and one that another bundle shares is taken from that bundle's results. The file of results is written
    after each run and keeps the results of other methods and seeds.

    Args:
        bundle: Name of a folder in `bundles`, or path of another bundle.
        methods: Names of methods, see `Board.files`; default: all except the ablations.
        budget: Number of images with which each generator is updated; default: the board's.
        seeds: Number of seeds, from 0, or the seeds.
        overlay: Last overlay of `train.yaml`, after each method's own: a name, a path, or None for the papers' sizes;
            `declared` is the board's.
        epochs: Number of epochs of each training; default: that of the configs.
        data: Folder of the data; the demonstration makes its phantom there.
        second: Folder of a second test set, on which all methods are scored too; nothing is trained on it.
        output_dir: Folder of the runs; default: `runs/leaderboard/<bundle>`.
        result: File of results; default: `benchmarks/results/<bundle>.json`.
        options: Further overrides of every training's config.

    Returns:
        Path of the file of results.

    Raises:
        ValueError: If an argument is out of range, or results of another budget are in the way.
        RunFailedError: If a training or an evaluation fails.
    """
    board = find_board(bundle)
    bundle = board.bundle
    budget = board.budget if budget is None else budget
    if overlay == "compact":
        warnings.warn(
            "`overlay` compact is the bundle's compact.yaml now. The overlay that the name stood for is the default.",
            FutureWarning,
            stacklevel=2,
        )
    overlay = board.overlay if overlay == DECLARED else overlay
    names = list(methods or board.methods())
    folder = Path(output_dir or Path("runs") / "leaderboard" / bundle).absolute()
    places = {"data": Path(data or folder / "data").absolute(), "runs": folder}
    places |= {} if second is None else {"second": Path(second).absolute()}
    plans = {name: schedule(board.files(name, overlay), budget, epochs=epochs) for name in names}
    setting = {"bundle": bundle, "budget": budget, "overlay": None if overlay is None else Path(overlay).stem}
    setting |= {"epochs": epochs, "options": dict(options or {})}
    path = Path(result or RESULTS / f"{bundle}.json")
    refuse_other(path, read_results(path), setting)
    facts = {"command": command(board, budget, seeds, methods, overlay, epochs), "machine": machine()}
    for seed in range(seeds) if isinstance(seeds, int) else seeds:
        if board.stages:
            train_stages(board, seed, places, overlay, plans[names[0]], setting)
        for name in names:
            print(f"{bundle}: {name}, seed {seed}", flush=True)
            known = {run["method"] for run in (read_results(path) or {"runs": []})["runs"]}
            alone = board.own in known and name != board.own  # its run scores the baselines in all directions
            run = shared_run(board, name, seed, path, setting) or one_run(
                board, name, seed, places, overlay, plans[name], setting, baselines=not alone
            )
            add_runs(path, setting, facts, [run])
    return path


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
    """Train and evaluate a method, unless its folder holds the result.

    Args:
        board: Leaderboard of the bundle.
        method: Name of the method, see `Board.files`.
        seed: Seed of the training.
        places: Folders `data` and `runs`, and `second` where there is a second test set.
        overlay: Last overlay of the training, after the method's own.
        plan: Schedule of the training.
        setting: Setting that all runs of a leaderboard share.
        baselines: Whether to score the baselines too, which takes longer than the network.

    Returns:
        `method`, `seed`, `cost`, `facts` and `rows`, the scores of the network and of the baselines in the board's
        columns, one row per patient and direction; `second` holds the rows of a second test set.

    Raises:
        ValueError: If the folder holds a run of another setting.
        RunFailedError: If the training or the evaluation fails.
    """
    folder = _folder(places["runs"], f"{re.sub('[/+:]', '_', method)}_{seed}", setting)
    if (folder / DONE).is_file():
        return _with_second(
            board, folder, places, json.loads((folder / DONE).read_text(encoding="utf-8")), baselines=baselines
        )
    if board.stages:
        shutil.copytree(places["runs"] / f"stages_{seed}" / "models", folder / "models", dirs_exist_ok=True)
    options = {**setting["options"], **pair_of(method)}
    lengths = {"max_epochs": plan.epochs, "samples_per_epoch": plan.samples_per_epoch}
    _train(board, board.files(method, overlay), folder, places, {**lengths, "seed": seed, **options})
    rows = _evaluate(board, folder, places["data"], "evaluation", baselines=baselines)
    facts = json.loads((folder / "evaluation" / "run.json").read_text(encoding="utf-8"))
    cost = training_cost(folder, board.configs, plan)
    if board.stages:
        logs = (places["runs"] / f"stages_{seed}" / "training").glob("*/losses.csv")
        cost["stage_seconds"] = round(sum(map(training_seconds, logs)), 1)
    run = {
        "method": method,
        "seed": seed,
        "selected_epoch": json.loads((folder / "models" / "network.json").read_text(encoding="utf-8")).get("epoch"),
        "cost": cost,
        "facts": {key: facts[key] for key in FACTS if key in facts},
        "rows": rows,
    }
    write_json(folder / DONE, run)
    return _with_second(board, folder, places, run, baselines=baselines)


def train_stages(
    board: Board, seed: int, places: dict[str, Path], overlay: str | None, plan: Schedule, setting: dict[str, Any]
) -> None:
    """Train the stages before the methods, once per seed, with the same number of images per epoch."""
    folder = _folder(places["runs"], f"stages_{seed}", setting)
    for stage in board.stages:
        done = folder / f"{stage.stem}.done"
        if not done.is_file():
            own_epochs = "max_epochs" in ConfigParser.load_config_file(str(stage))  # a classifier, no translation
            lengths = {} if own_epochs else {"max_epochs": plan.epochs}
            lengths["samples_per_epoch"] = plan.samples_per_epoch
            files = [*board.files(board.own, overlay), stage]
            _train(board, files, folder, places, {**lengths, "seed": seed, **setting["options"]})
            done.touch()


def command(
    board: Board,
    budget: int,
    seeds: int | Sequence[int],
    methods: Sequence[str] | None,
    overlay: str | None,
    epochs: int | None,
) -> str:
    """Return the command that makes these results, without the paths of this machine.

    Example:
        >>> command(find_board("ggcl"), 1200, 3, ["ggcl", "cut"], "declared", None)
        'python -m common leaderboard --bundle ggcl --budget 1200 --seeds 3 --methods ggcl,cut'
    """
    numbers = str(seeds) if isinstance(seeds, int) else ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")
    words = ["python", "-m", "common", "leaderboard", "--bundle", board.bundle, "--budget", str(budget)]
    words += ["--seeds", numbers]
    words += ["--methods", ",".join(methods)] if methods else []
    if overlay not in (DECLARED, board.overlay):
        words += ["--overlay", "None" if overlay is None else Path(overlay).stem]
    return shlex.join([*words, *(["--epochs", str(epochs)] if epochs else [])])


def machine() -> dict[str, Any]:
    """Describe the machine that time and memory were measured on."""
    facts: dict[str, Any] = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "system": platform.machine()}
    return {**facts, "gpu": accelerator_name()}


def _folder(runs: Path, name: str, setting: dict[str, Any]) -> Path:
    """Make the folder of a run, or check that an existing one was made with the same setting."""
    folder = runs / name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SETTING).is_file():
        write_json(folder / SETTING, setting)
    found = json.loads((folder / SETTING).read_text(encoding="utf-8"))
    if found != json.loads(json.dumps(setting)):
        raise ValueError(
            f"{str(folder)!r} holds a run of another setting ({found}), not of {setting}: give another `output_dir`,"
            " or remove it."
        )
    return folder


def _train(board: Board, files: list[Path], folder: Path, places: dict[str, Path], options: dict[str, Any]) -> None:
    _call(folder / f"{files[-1].stem}.log", "common.leaderboard.measured", str(folder / "memory.json"), "run",
          "training", "--config_file", str([str(path) for path in files]), *_places(board, folder, places["data"]),
          "--output_dir", str(folder / "training"), *_options(options))  # fmt: skip


def _with_second(
    board: Board, folder: Path, places: dict[str, Path], run: dict[str, Any], *, baselines: bool
) -> dict[str, Any]:
    """Add the rows of the second test set, if there is one and the run lacks them."""
    if "second" in places and "second" not in run:
        run = {**run, "second": _evaluate(board, folder, places["second"], "second", baselines=baselines)}
        write_json(folder / DONE, run)
    return run


def _evaluate(board: Board, folder: Path, data: Path, name: str, *, baselines: bool) -> list[dict[str, Any]]:
    """Score the network, and maybe the baselines, on the test patients of `data`, in the folder `name`."""
    options = {**board.evaluation, **({} if baselines else board.network_alone())}
    both = [str(board.configs / f"{name}.yaml") for name in ("inference", "evaluate")]
    _call(folder / f"{name}.log", "monai.bundle", "run", "evaluating", "--config_file", str(both),
          *_places(board, folder, data), "--output_dir", str(folder / name),
          "--training_dir", str(folder / "training"), *_options(options))  # fmt: skip
    return _rows(folder / name / "metrics.csv", board.columns)


def _options(values: Mapping[str, Any]) -> list[str]:
    """Return command-line options; MONAI leaves out a None that is not written as an expression."""
    texts = {name: "$None" if value is None else str(value) for name, value in values.items()}
    return [word for name, text in texts.items() for word in (f"--{name}", text)]


def _places(board: Board, folder: Path, data: Path) -> list[str]:
    words = ["--bundle_root", str(board.configs.parent), "--dataset_dir", str(data)]
    return [*words, "--models_dir", str(folder / "models")]


def _call(log: Path, module: str, *arguments: str) -> None:
    code = run_child([sys.executable, "-m", module, *arguments], log=log)
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""]
        reason = next((line for line in lines if ERROR.match(line)), lines[-1])
        raise RunFailedError(f"`{module}` ended with exit code {code}: {reason} ({log})")


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    kept = ("patient", "direction", "method")
    rows = [
        {key: row[key] for key in kept} | {key: float(f"{row[key]:.7g}") for key in columns if key in row}
        for row in read_rows(path)
    ]
    return sorted(rows, key=lambda row: row["method"] != NETWORK)
