"""The file of a leaderboard's results, to which runs are added one by one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import write_text
from ..metrics.summary import NETWORK
from .boards import Board


def read_results(path: str | Path) -> dict[str, Any] | None:
    """Read a file of results; None where there is none."""
    return json.loads(Path(path).read_text(encoding="utf-8")) if Path(path).is_file() else None


def refuse_other(path: str | Path, content: dict[str, Any] | None, setting: dict[str, Any]) -> None:
    """Refuse to add results of one setting to those of another.

    Args:
        path: File of results, for the message.
        content: Content of the file, or None.
        setting: Setting of the new results.

    Raises:
        ValueError: If the file's setting is another one.
    """
    found = None if content is None else content.get("setting")
    if content is not None and found != json.loads(json.dumps(setting)):
        raise ValueError(
            f"{str(path)!r} holds results of another setting ({found}), not of {setting}: give another `result`, or"
            " remove the file."
        )


def shared_run(board: Board, method: str, seed: int, path: Path, setting: dict[str, Any]) -> dict[str, Any] | None:
    """Find a run that another bundle has made already: the same training on the same data.

    Args:
        board: Leaderboard of the bundle.
        method: Name of the method, see `Board.files`.
        seed: Seed of the training.
        path: File of this bundle's results; the other bundle's lies beside it.
        setting: Setting of this bundle's runs; the other's must be equal except for the bundle.

    Returns:
        The run, or None.
    """
    if method.partition(":")[0] not in board.shared:
        return None
    other = read_results(path.with_name(f"{board.shared_with}.json"))
    if other is None or other["setting"] != json.loads(json.dumps({**setting, "bundle": board.shared_with})):
        return None
    found = [run for run in other["runs"] if (run["method"], run["seed"]) == (method, seed)]
    return {**found[0], "shared_with": board.shared_with} if found else None


def add_runs(path: str | Path, setting: dict[str, Any], facts: dict[str, Any], runs: Sequence[dict[str, Any]]) -> None:
    """Add runs to a file of results; they replace those of the same method and seed.

    The rows of a baseline, which no training changes, are kept once, from the first run that has them.

    Args:
        path: File of results; created if missing.
        setting: Setting that the runs share.
        facts: Facts `command` and `machine` of the runs.
        runs: Runs that `one_run` returned.

    Raises:
        ValueError: If the file's setting is another one.
    """
    content = read_results(path)
    refuse_other(path, content, setting)
    content = content or {"setting": setting, "baselines": [], "runs": []}
    known = {(run["method"], run["seed"]): run for run in content["runs"]}
    for run in runs:
        kept = {"machine": facts["machine"], **run}
        for rows, baselines in (("rows", "baselines"), ("second", "second_baselines")):
            have = {(row["method"], row["direction"]) for row in content.get(baselines, [])}
            others = [row for row in run.get(rows, []) if row["method"] != NETWORK]
            new = [row for row in others if (row["method"], row["direction"]) not in have]
            content |= {baselines: content.get(baselines, []) + new} if new else {}
            kept |= {rows: [row for row in run[rows] if row["method"] == NETWORK]} if rows in run else {}
        known[run["method"], run["seed"]] = kept
    commands = list(dict.fromkeys([*content.get("commands", []), facts["command"]]))
    whole = {**content, "setting": setting, "commands": commands, "runs": list(known.values())}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(whole, indent=1, allow_nan=False) + "\n")
