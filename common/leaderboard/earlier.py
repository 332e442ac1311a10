"""The lines of the results that were made before the leaderboard, of compare_methods.py."""

from __future__ import annotations

from typing import Any

from .boards import NETWORK, Board
from .entries import Entry, kind_of
from .statistics import mean_and_sd


def earlier_entries(board: Board, content: dict[str, Any]) -> list[Entry]:
    """
    The lines of an earlier file, which holds mean and SD over patients alone: no test can be made from them.
    """
    found: list[Entry] = []
    names = list(dict.fromkeys(run["method"] for run in content["runs"]))
    for name in names:
        runs = [run for run in content["runs"] if run["method"] == name]
        summaries = [next(iter(run["summary"].values()))[NETWORK] for run in runs]
        found.append(_summarised(board, name, summaries, [_cost(run) for run in runs]))
    (methods,) = content["runs"][0]["summary"].values()
    return found + [_summarised(board, name, [methods[name]], []) for name in methods if name != NETWORK]


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
