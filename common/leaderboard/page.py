"""`docs/leaderboard.md`, generated from the committed results: tables of scores, tests and costs, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from ..files import write_text
from .boards import RESULTS, ROOT, Board, find_boards, lower_is_better
from .entries import ABLATION, UNPAIRED, Entry, earlier_entries, entries, holm, paired_tests, patient_means
from .run import command

COSTS = (
    ("parameters", "parameters, deployed", "{:,.0f}"),
    ("parameters_trained", "trained", "{:,.0f}"),
    ("gflop", "GFLOP", "{:.3g}"),
    ("generator_images", "generator images", "{:,.0f}"),
    ("generator_updates", "generator updates", "{:,.0f}"),
    ("discriminator_updates", "discriminator updates", "{:,.0f}"),
    ("seconds", "wall time (s)", "{:,.0f}"),
    ("stage_seconds", "stages before (s)", "{:,.0f}"),
    ("seconds_per_update", "s / generator update", "{:.3g}"),
    ("peak_memory_mb", "peak memory (MB)", "{:,.0f}"),
    ("peak_gpu_memory_mb", "peak GPU memory (MB)", "{:,.0f}"),
)
NOTES = ROOT / "benchmarks" / "notes"
PAGE = ROOT / "docs" / "leaderboard.md"


def write_page(page: str | Path | None = None, *, results: str | Path | None = None) -> Path:
    """Write the page of all leaderboards from the existing files of results.

    Args:
        page: Path of the page; default: `docs/leaderboard.md`.
        results: Folder of the files; default: `benchmarks/results`.

    Returns:
        Path of the page.
    """
    folder = Path(results or RESULTS)
    parts = [(NOTES / "introduction.md").read_text(encoding="utf-8").strip()]
    for board in find_boards().values():
        found = load(board, folder)
        if found is not None:
            parts.append(section(board, *found))
    return write_text(page or PAGE, "\n\n".join(parts) + "\n")


def section(board: Board, facts: dict[str, Any], found: list[Entry]) -> str:
    """Write a bundle's heading, commands, tables and text."""
    lines, ablations = without_ablations(found)
    parts = [f"## {board.title(board.own)} (`{board.bundle}`)", "```\n" + "\n".join(facts["commands"]) + "\n```"]
    parts += [_source(board, facts), score_table(board, lines), _tests(board, lines)]
    if ablations:
        parts += ["Ablations, beside the method itself:", score_table(board, [best_entry(board, lines), *ablations])]
    if "second_baselines" in facts:
        parts += [f"{board.second_title}:", second_table(board, facts)]
    parts += ["Cost:", cost_table(found)]
    notes = NOTES / f"{board.bundle}.md"
    if notes.is_file():
        parts.append(notes.read_text(encoding="utf-8").strip())
    return "\n\n".join(parts)


def load(board: Board, folder: Path) -> tuple[dict[str, Any], list[Entry]] | None:
    """Read the facts and rows of a bundle from its leaderboard's file and from that of the earlier comparison.

    Returns:
        Facts and rows, of which the earlier file adds those of other methods; None when there is neither file.
    """
    path, before = folder / f"{board.bundle}.json", folder / f"{board.bundle}_methods.json"
    facts: dict[str, Any] = {"setting": {"budget": board.budget}, "commands": [], "runs": []}
    found: list[Entry] = []
    if path.is_file():
        facts |= {"file": path.name, **json.loads(path.read_text(encoding="utf-8"))}
        found = entries(board, facts)
    if before.is_file() and facts["setting"]["budget"] == board.budget:
        names = {each.name for each in found}
        old = [
            each
            for each in earlier_entries(board, json.loads(before.read_text(encoding="utf-8")))
            if each.name not in names
        ]
        methods = [each.name for each in old if each.seeds]
        if methods:
            seeds = max(each.seeds for each in old)
            facts["commands"].append(command(board, board.budget, seeds, methods, board.overlay, None))
            facts |= {"earlier": before.name, "earlier_methods": methods}
            found += old
    return (facts, found) if found else None


def score_table(board: Board, found: Sequence[Entry]) -> str:
    """Write the ranked scores of all rows, with the tests against the best one where the file has patients.

    A row that lacks directions has numbers only in its own ones, since a mean over fewer directions is not comparable.
    """
    best = best_entry(board, found)
    p_values = significance(board, best, found)
    columns = list(dict.fromkeys(column for each in found for column in each.cells))
    spread = any(each.seed_sd is not None for each in found)
    head = ["method", "kind", "seeds", *columns, *([f"SD over seeds ({board.columns[0]})"] if spread else [])]
    head += ["p, paired t", "p, Wilcoxon"] if p_values else []
    lines = [head, ["---"] * len(head)]
    for each in ranked(board, found):
        complete = is_complete(each, found)
        cells = {c: value for c, value in each.cells.items() if complete or c not in board.columns}
        if not complete and len(each.directions) == 1:
            cells[f"{board.columns[0]} {each.directions[0]}"] = each.cells[board.columns[0]]
        line = [f"**{each.title}**" if each is best else each.title, each.kind, str(each.seeds or "")]
        line += [cell(cells.get(column)) for column in columns]
        line += ["" if each.seed_sd is None or not complete else number(each.seed_sd)] if spread else []
        line += ([p_value(p) for p in p_values.get(each.name, ())] or ["", ""]) if p_values else []
        lines.append(line)
    return _markdown(lines)


def cost_table(found: Sequence[Entry]) -> str:
    """Write the cost of each training, averaged over runs; columns that no row has are left out."""
    trained = [each for each in found if each.cost]
    columns = [each for each in COSTS if any(each[0] in line.cost for line in trained)]
    lines = [["method", *(head for _, head, _ in columns)]]
    lines.append(["---"] * len(lines[0]))
    for line in trained:
        values = [form.format(line.cost[key]) if key in line.cost else "" for key, _, form in columns]
        lines.append([line.title, *values])
    return _markdown(lines)


def second_table(board: Board, content: Mapping[str, Any]) -> str:
    """Write the scores of all rows on a second test set, averaged over patients and seeds, the best one first."""
    rows = list(content["second_baselines"])
    rows += [{**row, "method": run["method"]} for run in content["runs"] for row in run.get("second", [])]
    directions = list(dict.fromkeys(row["direction"] for row in rows))
    columns = [(column, direction) for direction in directions for column in board.columns]
    lines = []
    for name in dict.fromkeys(row["method"] for row in rows):
        values: list[float | None] = []
        for column, direction in columns:
            mine = [row for row in rows if (row["method"], row["direction"]) == (name, direction)]
            found = [row[column] for row in mine if column in row]
            values.append(mean(found) if found else None)
        lines.append((name, values))
    sign = 1 if lower_is_better(board.columns[0]) else -1
    lines.sort(key=lambda line: mean(sign * v for v in line[1][:: len(board.columns)] if v is not None))
    cells = [[board.title(name), *("" if v is None else number(v) for v in values)] for name, values in lines]
    head = ["method", *(f"{column} {direction}" for column, direction in columns)]
    return _markdown([head, ["---"] * len(head), *cells])


def best_entry(board: Board, found: Sequence[Entry]) -> Entry:
    """Return the best method trained without aligned pairs, by the first column, among those scored in all directions.

    Raises:
        ValueError: If nothing was trained.
    """
    column = board.columns[0]
    trained = [each for each in found if each.kind == UNPAIRED and column in each.cells]
    complete = [each for each in trained if is_complete(each, trained)]
    if not complete:
        raise ValueError(f"the results of {board.bundle} must hold a trained method with {column!r}, got none.")
    return (min if lower_is_better(column) else max)(complete, key=lambda each: each.cells[column][0])


def ranked(board: Board, found: Sequence[Entry]) -> list[Entry]:
    """Sort rows by the first column, the best one first; those that lack it or a direction come last."""
    column = board.columns[0]
    sign = 1 if lower_is_better(column) else -1

    def place(each: Entry) -> tuple[bool, float]:
        incomplete = not is_complete(each, found) or column not in each.cells
        return incomplete, sign * each.cells[column][0] if column in each.cells else 0.0

    return sorted(found, key=place)


def is_complete(each: Entry, found: Sequence[Entry]) -> bool:
    """Return whether a row was scored in all directions; one without patients names none and counts as complete."""
    return not each.directions or len(each.directions) == max(len(other.directions) for other in found)


def significance(board: Board, best: Entry, found: Sequence[Entry]) -> dict[str, tuple[float, float]]:
    """Test every other row against the best one.

    A row is tested in the directions that it shares with the best one.

    Returns:
        By name, p of the paired t-test and of Wilcoxon's test after Holm's correction; rows without patients or
        without a common direction are absent.
    """
    raw = {}
    for each in found:
        shared = set(each.directions) & set(best.directions)
        pairs = [
            patient_means([row for row in line.rows if row["direction"] in shared], board.columns[0])
            for line in (best, each)
        ]
        tests = paired_tests(*pairs) if each is not best else None
        if tests is not None:
            raw[each.name] = tests
    corrected = [holm([tests[which] for tests in raw.values()]) for which in (0, 1)]
    return dict(zip(raw, zip(*corrected)))


def without_ablations(found: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Split rows into those of the main table and the ablations."""
    return [e for e in found if e.kind != ABLATION], [e for e in found if e.kind == ABLATION]


def cell(value: tuple[float, float] | None) -> str:
    """Format mean and SD with as many digits as the mean's size asks for.

    Example:
        >>> cell((57.891, 1.708)), cell((0.00456, 0.0004)), cell((2343.9, 275.8)), cell(None)
        ('57.89 ± 1.71', '0.0046 ± 0.0004', '2344 ± 276', '')
    """
    if value is None:
        return ""
    digits = _digits(value[0])
    return f"{value[0]:.{digits}f} ± {value[1]:.{digits}f}"


def number(value: float) -> str:
    """Format a number with as many digits as its size asks for."""
    return f"{value:.{_digits(value)}f}"


def p_value(p: float) -> str:
    """Format a p-value with two significant digits.

    Example:
        >>> p_value(0.04321), p_value(0.000012), p_value(1.0)
        ('0.043', '1.2e-05', '1')
    """
    return f"{p:.2g}"


def _digits(value: float) -> int:
    return next((d for bound, d in ((0.1, 4), (2, 3), (100, 2)) if abs(value) < bound), 0)


def _markdown(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _source(board: Board, facts: dict[str, Any]) -> str:
    size = f"{facts['setting']['budget']:,} images for each generator"
    earlier = ""
    if "earlier" in facts:
        methods = ", ".join(board.title(name) for name in facts["earlier_methods"])
        earlier = (
            f"From {_link(facts['earlier'])}: {methods}; {size}, the demonstration's settings. That file was made by"
            " the comparison that this command replaced, with the same configs, data and budget; it has no scores of"
            " individual patients to test."
        )
    if "file" not in facts:
        return earlier
    overlay = facts["setting"]["overlay"]
    how = "the papers' sizes" if overlay is None else f"overlay `{overlay}.yaml`"
    machines = {json.dumps(run["machine"], sort_keys=True) for run in facts["runs"]}
    where = "; ".join(_machine(json.loads(machine)) for machine in sorted(machines))
    return f"From {_link(facts['file'])}: {size}, {how}, on {where}. {earlier}".strip()


def _link(name: str) -> str:
    return f"[{name}](../benchmarks/results/{name})"


def _machine(facts: dict[str, Any]) -> str:
    return facts["gpu"] or f"{facts['cores']} CPU cores ({facts['threads']} threads, {facts['system']})"


def _tests(board: Board, lines: list[Entry]) -> str:
    best, column = best_entry(board, lines), board.columns[0]
    first = f"Best {column} of the methods trained without aligned pairs: **{best.title}**"
    if not significance(board, best, lines):
        return f"{first}. The file has means and SDs but no scores of individual patients, so nothing can be tested."
    patients = len(patient_means(best.rows, column))
    return (
        f"{first}. p compares {column} with it, over {patients} patients (means over directions and seeds), after"
        " Holm's correction."
    )
