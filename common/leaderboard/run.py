"""Trains and evaluates the methods of a bundle; what is done is not done again."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .boards import COMPACT, RESULTS, find_board
from .budget import schedule
from .one import one_run, train_stages
from .results import add_runs, read_results, refuse_other, shared_run


def run_leaderboard(
    bundle: str,
    *,
    methods: Sequence[str] | None = None,
    budget: int | None = None,
    seeds: int | Sequence[int] = 3,
    overlay: str | None = COMPACT,
    epochs: int | None = None,
    data: str | Path | None = None,
    second: str | Path | None = None,
    output_dir: str | Path | None = None,
    result: str | Path | None = None,
    options: dict[str, Any] | None = None,
) -> Path:
    """
    Train each method with each seed at one budget, evaluate on the same held-out patients, write one file of results.

    Equal budget: the same data, batch and number of epochs, and equally many images with which the generator is
    updated; what else differs (updates of the discriminator, time, memory) is written down. Each run has its folder;
    one that is done is read, one that was interrupted goes on with its last epoch; one that another bundle shares is
    taken from that bundle's results. The results are written after each
    run, beside those of other methods and seeds that are there already.

    Args:
        bundle: a folder of bundles/.
        methods: their names (`Board.files`); default: all but the ablations.
        budget: images with which each generator is updated; default: the demonstration's.
        seeds: how many, from 0, or which.
        overlay: of `train.yaml`, behind each method's own: a name, a path, None for the papers' sizes; `compact` is
            the board's.
        epochs: of each training; default: the configs'.
        data: folder of the data; the demonstration makes its phantom there.
        second: folder of a second test set, on which all are scored, too; nothing is trained on it.
        output_dir: the runs.
        result: the file; default benchmarks/results/<bundle>.json.
        options: further overrides of every training's config.

    Returns:
        the file of results.

    Raises:
        ValueError: when an argument is out of range, or results of another budget are in the way.
        RunFailedError: when a training or an evaluation fails.
    """
    board = find_board(bundle)
    budget = board.budget if budget is None else budget
    overlay = board.compact if overlay == COMPACT else overlay
    names = list(methods or board.methods())
    folder = Path(output_dir or Path("runs") / "leaderboard" / bundle).absolute()
    places = {"data": Path(data or folder / "data").absolute(), "runs": folder}
    places |= {} if second is None else {"second": Path(second).absolute()}
    plans = {name: schedule(board.files(name, overlay), budget, epochs=epochs) for name in names}
    setting = {"bundle": bundle, "budget": budget, "overlay": None if overlay is None else Path(overlay).stem}
    setting |= {"epochs": epochs, "options": dict(options or {})}
    path = Path(result or RESULTS / f"{bundle}.json")
    refuse_other(path, read_results(path), setting)
    facts = {"command": command(bundle, budget, seeds, methods, overlay, epochs), "machine": machine()}
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


def command(
    bundle: str,
    budget: int,
    seeds: int | Sequence[int],
    methods: Sequence[str] | None,
    overlay: str | None,
    epochs: int | None,
) -> str:
    """The command that makes these results, without the places of this machine.

    Example:
        >>> command("ggcl", 1200, 3, ["ggcl", "cut"], "compact", None)
        'python -m common leaderboard --bundle ggcl --budget 1200 --seeds 3 --methods ggcl,cut'
    """
    numbers = str(seeds) if isinstance(seeds, int) else ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")
    words = ["python", "-m", "common", "leaderboard", "--bundle", bundle, "--budget", str(budget), "--seeds", numbers]
    words += ["--methods", ",".join(methods)] if methods else []
    own = find_board(bundle).compact
    words += ["--overlay", "None" if overlay is None else Path(overlay).stem] if overlay not in (COMPACT, own) else []
    return shlex.join([*words, *(["--epochs", str(epochs)] if epochs else [])])


def machine() -> dict[str, Any]:
    """What the numbers of time and memory belong to."""
    facts: dict[str, Any] = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "system": platform.machine()}
    return {**facts, "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None}
