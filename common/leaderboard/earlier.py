"""The lines of the results that were made before the leaderboard: of compare_methods.py and compare_kernels.py."""

from __future__ import annotations

from typing import Any

from .boards import NETWORK, RESULTS, Board
from .entries import Entry, entry, kind_of
from .statistics import mean_and_sd

KERNEL_FILE = RESULTS / "kernels.json"
# Settings of kernels.json and the methods of each bundle's leaderboard.
KERNEL_SETTINGS = {
    "ggcl": {
        "ggcl physics": "physics",
        "ggcl physics, untrained": "physics+ablations/physics_untrained",
        "ggcl physics, clipped air": "physics+ablations/physics_clipped_air",
        "ggcl paper": "ggcl",
        "ggdr paper": "ggdr",
        "stargan paper": "stargan",
    },
    "kcgan_kernel_conversion": {
        "kcgan physics": "physics",
        "kcgan paper": "kcgan",
        "ggdr paper": "ggdr",
        "stargan paper": "stargan",
    },
}


def earlier_entries(board: Board, content: dict[str, Any]) -> list[Entry]:
    """
    The lines of an earlier file, of either kind.

    Those of compare_methods.py hold mean and SD over patients alone, hence no test can be made from them.
    """
    if board.bundle in KERNEL_SETTINGS:
        return _kernel_entries(board, content)
    found: list[Entry] = []
    names = list(dict.fromkeys(run["method"] for run in content["runs"]))
    for name in names:
        runs = [run for run in content["runs"] if run["method"] == name]
        summaries = [next(iter(run["summary"].values()))[NETWORK] for run in runs]
        found.append(_summarised(board, name, summaries, [_cost(run) for run in runs]))
    (methods,) = content["runs"][0]["summary"].values()
    return found + [_summarised(board, name, [methods[name]], []) for name in methods if name != NETWORK]


def _kernel_entries(board: Board, content: dict[str, Any]) -> list[Entry]:
    found = []
    for setting, name in KERNEL_SETTINGS[board.bundle].items():
        runs = [run for run in content["runs"] if run["setting"] == setting]
        rows = [{**row, "seed": run["seed"]} for run in runs for row in run["rows"] if row["method"] == NETWORK]
        found.append(entry(board, name, rows, costs=[{"parameters": run["facts"]["parameters"]} for run in runs]))
    baselines = [row for row in content["runs"][0]["rows"] if row["method"] != NETWORK]
    for name in dict.fromkeys(row["method"] for row in baselines):
        found.append(entry(board, name, [row for row in baselines if row["method"] == name], costs=[]))
    return found


def _summarised(board: Board, name: str, summaries: list[dict[str, Any]], costs: list[dict[str, Any]]) -> Entry:
    """A line from means and SDs over patients: with several seeds, their means."""
    cells = {}
    for column in (column for column in board.columns if column in summaries[0]):
        means, deviations = ([summary[column][key] for summary in summaries] for key in ("mean", "std"))
        cells[column] = (sum(means) / len(means), sum(deviations) / len(deviations))
    first = [summary[board.columns[0]]["mean"] for summary in summaries]
    spread = mean_and_sd(first)
    return Entry(
        name,
        kind_of(board, name, trained=bool(costs)),
        cells,
        seeds=len(costs),
        seed_sd=spread[1] if spread and len(first) > 1 else None,
        cost={key: sum(cost[key] for cost in costs) / len(costs) for key in costs[0]} if costs else {},
        own=board.own,
    )


def _cost(run: dict[str, Any]) -> dict[str, float]:
    training = run["training"]
    return {
        "parameters": run["facts"]["parameters"],
        "generator_updates": training["iterations"],
        "seconds": training["seconds"],
        "seconds_per_update": training["seconds"] / training["iterations"],
    }
