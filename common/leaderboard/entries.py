"""The rows of a table: scores and cost of each method and baseline, with statistics over patients and seeds.

They come from a file of results of the leaderboard, or from an earlier one of `benchmarks/compare_methods.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from scipy.stats import ttest_rel, wilcoxon

from ..metrics.summary import NETWORK
from .boards import Board

Rows = Sequence[Mapping[str, Any]]
UNPAIRED, UNTRAINED, CLASSICAL, PAIRED_CLASSICAL, SUPERVISED, ABLATION = (
    "trained",
    "not trained",
    "classical",
    "classical, on pairs",
    "supervised",
    "ablation",
)


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Args:
        name: Name of the method or baseline.
        title: Title in the table.
        kind: Kind: trained, not trained, classical, classical on pairs, supervised or ablation.
        cells: Mean and SD over patients, by column.
        seeds: Number of seeds; 0 for a baseline.
        seed_sd: SD over seeds of the mean of the first column.
        rows: Scores per patient, direction and seed; empty where the file has none.
        cost: Costs of `training_cost`, averaged over seeds.
        directions: Directions that were scored.
    """

    name: str
    title: str
    kind: str
    cells: dict[str, tuple[float, float]]
    seeds: int = 0
    seed_sd: float | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    directions: tuple[str, ...] = ()


def entries(board: Board, content: dict[str, Any]) -> list[Entry]:
    """Make the rows of a leaderboard's file of results: methods, then baselines."""
    names = list(dict.fromkeys(run["method"].partition(":")[0] for run in content["runs"]))
    found = []
    for name in names:  # the pairs of a method between two domains share a row
        runs = [run for run in content["runs"] if run["method"].partition(":")[0] == name]
        rows = [{**row, "seed": run["seed"]} for run in runs for row in run["rows"]]
        found.append(entry(board, name, rows, costs=[run["cost"] for run in runs]))
    for name in dict.fromkeys(row["method"] for row in content["baselines"]):
        rows = [row for row in content["baselines"] if row["method"] == name]
        found.append(entry(board, name, rows, costs=[]))
    return found


def entry(board: Board, name: str, rows: list[dict[str, Any]], *, costs: list[dict[str, Any]]) -> Entry:
    """Make the row of the table from scores of patients.

    Args:
        board: Leaderboard of the bundle.
        name: Name of the method or baseline.
        rows: Scores per patient, direction and seed.
        costs: Costs of `training_cost`, one per run; none for a baseline.
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
        board.title(name),
        kind_of(board, name, trained=bool(costs)),
        {column: cell for column, cell in columns.items() if cell is not None},
        seeds=len({row.get("seed") for row in rows}) if costs else 0,
        seed_sd=seed_sd(rows, board.columns[0]),
        rows=rows,
        cost=_mean_cost(costs),
        directions=directions,
    )


def earlier_entries(board: Board, content: dict[str, Any]) -> list[Entry]:
    """Make the rows of an earlier file, whose means and SDs over patients allow no test."""
    found: list[Entry] = []
    names = list(dict.fromkeys(run["method"] for run in content["runs"]))
    for name in names:
        runs = [run for run in content["runs"] if run["method"] == name]
        summaries = [next(iter(run["summary"].values()))[NETWORK] for run in runs]
        found.append(_summarised(board, name, summaries, [_cost(run) for run in runs]))
    (methods,) = content["runs"][0]["summary"].values()
    return found + [_summarised(board, name, [methods[name]], []) for name in methods if name != NETWORK]


def kind_of(board: Board, name: str, *, trained: bool) -> str:
    """Return the kind of a method or baseline, see `Entry`."""
    if not trained:
        return PAIRED_CLASSICAL if name in board.fitted_on_pairs else CLASSICAL
    if name in board.untrained:
        return UNTRAINED
    if "ablations/" in name:
        return ABLATION
    return SUPERVISED if name in board.supervised else UNPAIRED


def patient_means(rows: Rows, metric: str, *, direction: str | None = None) -> dict[str, float]:
    """Average a metric of each patient over directions and seeds.

    Args:
        rows: Rows, one per patient, direction and seed; those without the metric are left out.
        metric: Name of the metric.
        direction: Direction to which the average is restricted; default: all directions.

    Example:
        >>> forth = {"patient": "a", "direction": "x->y", "psnr": 20.0}
        >>> back = {"patient": "a", "direction": "y->x", "psnr": 30.0}
        >>> patient_means([forth, back], "psnr"), patient_means([forth, back], "psnr", direction="y->x")
        ({'a': 25.0}, {'a': 30.0})
    """
    values: dict[str, list[float]] = {}
    for row in rows:
        if direction in (None, row["direction"]) and row.get(metric) is not None:
            values.setdefault(str(row["patient"]), []).append(float(row[metric]))
    return {patient: mean(found) for patient, found in values.items()}


def mean_and_sd(values: Iterable[float]) -> tuple[float, float] | None:
    """Return mean and sample SD, which is 0 for a single value; None without values."""
    found = list(values)
    return (mean(found), stdev(found) if len(found) > 1 else 0.0) if found else None


def seed_sd(rows: Rows, metric: str) -> float | None:
    """Return the sample SD over seeds of the mean over patients and directions; None with one seed."""
    by_seed: dict[Any, list[float]] = {}
    for row in rows:
        if row.get(metric) is not None:
            by_seed.setdefault(row.get("seed"), []).append(float(row[metric]))
    means = [mean(values) for values in by_seed.values()]
    return stdev(means) if len(means) > 1 else None


def paired_tests(best: Mapping[str, float], other: Mapping[str, float]) -> tuple[float, float] | None:
    """Return the two-sided p of the paired t-test and of Wilcoxon's signed-rank test over the patients of both.

    Args:
        best: Value per patient of one method.
        other: Value per patient of another method.

    Returns:
        Both p, 1 for equal values; None with fewer than two common patients.

    Example:
        >>> t, rank = paired_tests({"a": 1.0, "b": 2.0, "c": 3.5}, {"a": 0.5, "b": 1.0, "c": 2.0})
        >>> round(t, 4), rank
        (0.0742, 0.25)
    """
    patients = [patient for patient in best if patient in other]
    if len(patients) < 2:
        return None
    pairs = [best[p] for p in patients], [other[p] for p in patients]
    if pairs[0] == pairs[1]:
        return 1.0, 1.0
    p_values = float(ttest_rel(*pairs).pvalue), float(wilcoxon(*pairs).pvalue)
    return p_values if all(map(math.isfinite, p_values)) else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple comparisons by Holm's method, in the order given.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979: the k-th
    smallest of m p-values is multiplied by m - k + 1; none may come out smaller than one before it, or above 1.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected


def _mean_cost(costs: list[dict[str, Any]]) -> dict[str, Any]:
    """Average the costs over the runs."""
    names = costs[0] if costs else {}
    return {name: mean(cost[name] for cost in costs) for name in names if all(name in cost for cost in costs)}


def _summarised(board: Board, name: str, summaries: list[dict[str, Any]], costs: list[dict[str, Any]]) -> Entry:
    """Make a row from means and SDs over patients, which are averaged over the seeds."""
    cells = {}
    for column in (column for column in board.columns if column in summaries[0]):
        means, deviations = ([summary[column][key] for summary in summaries] for key in ("mean", "std"))
        cells[column] = (sum(means) / len(means), sum(deviations) / len(deviations))
    first = [summary[board.columns[0]]["mean"] for summary in summaries]
    spread = mean_and_sd(first)
    return Entry(
        name,
        board.title(name),
        kind_of(board, name, trained=bool(costs)),
        cells,
        seeds=len(costs),
        seed_sd=spread[1] if spread and len(first) > 1 else None,
        cost={key: sum(cost[key] for cost in costs) / len(costs) for key in costs[0]} if costs else {},
    )


def _cost(run: dict[str, Any]) -> dict[str, float]:
    training = run["training"]
    return {
        "parameters": run["facts"]["parameters"],
        "generator_updates": training["iterations"],
        "seconds": training["seconds"],
        "seconds_per_update": training["seconds"] / training["iterations"],
    }
