"""The lines of a table: what each method and baseline scored and cost, from a file of results of either form."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from .boards import Board
from .names import title
from .statistics import mean_and_sd, patient_means, seed_sd

UNPAIRED, CLASSICAL, PAIRED_CLASSICAL, SUPERVISED, ABLATION = (
    "trained",
    "classical",
    "classical, on pairs",
    "supervised",
    "ablation",
)


@dataclass(frozen=True)
class Entry:
    """
    A line of the table.

    Attributes:
        name: of the method or baseline, as `title` takes it.
        kind: trained, classical, classical on pairs, supervised or ablation.
        cells: mean and SD over patients, by column.
        seeds: how many; 0 of a baseline.
        seed_sd: SD over seeds of the mean of the first column.
        rows: one a patient, direction and seed; empty where the file has none.
        cost: see `training_cost`; mean over seeds.
        directions: those that it was scored in.
        own: the bundle's own method.
    """

    name: str
    kind: str
    cells: dict[str, tuple[float, float]]
    seeds: int = 0
    seed_sd: float | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    directions: tuple[str, ...] = ()
    own: str = ""

    @property
    def title(self) -> str:
        """What the table calls it."""
        return title(self.name, self.own)


def kind_of(board: Board, name: str, *, trained: bool) -> str:
    """Which end of the scale a line stands for."""
    if not trained:
        return PAIRED_CLASSICAL if name in board.fitted_on_pairs else CLASSICAL
    if "ablations/" in name:
        return ABLATION
    return SUPERVISED if name in board.supervised else UNPAIRED


def entry(board: Board, name: str, rows: list[dict[str, Any]], *, costs: list[dict[str, Any]]) -> Entry:
    """
    A line from rows of patients.

    Args:
        board: of the bundle.
        name: of the method or baseline.
        rows: one a patient, direction and seed.
        costs: one a run; none of a baseline.
    """
    directions = tuple(dict.fromkeys(row["direction"] for row in rows))
    columns = {column: mean_and_sd(patient_means(rows, column).values()) for column in board.columns}
    if len(directions) > 1:
        first = board.columns[0]
        for direction in directions:
            values = patient_means(rows, first, direction=direction).values()
            columns[f"{first} {direction}"] = mean_and_sd(values)
    return Entry(
        name,
        kind_of(board, name, trained=bool(costs)),
        {column: cell for column, cell in columns.items() if cell is not None},
        seeds=len({row.get("seed") for row in rows}) if costs else 0,
        seed_sd=seed_sd(rows, board.columns[0]),
        rows=rows,
        cost=_mean_cost(costs),
        directions=directions,
        own=board.own,
    )


def entries(board: Board, content: dict[str, Any]) -> list[Entry]:
    """The lines of a leaderboard's file of results: methods, then baselines."""
    names = list(dict.fromkeys(run["method"].partition(":")[0] for run in content["runs"]))
    found = []
    for name in names:  # the pairs of a method between two domains are one line
        runs = [run for run in content["runs"] if run["method"].partition(":")[0] == name]
        rows = [{**row, "seed": run["seed"]} for run in runs for row in run["rows"]]
        found.append(entry(board, name, rows, costs=[run["cost"] for run in runs]))
    for name in dict.fromkeys(row["method"] for row in content["baselines"]):
        rows = [row for row in content["baselines"] if row["method"] == name]
        found.append(entry(board, name, rows, costs=[]))
    return found


def _mean_cost(costs: list[dict[str, Any]]) -> dict[str, Any]:
    """Numbers averaged over runs."""
    names = costs[0] if costs else {}
    return {name: mean(cost[name] for cost in costs) for name in names if all(name in cost for cost in costs)}
