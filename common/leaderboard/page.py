"""`docs/leaderboard.md`, generated from the committed results: tables of scores, tests and costs, in Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from ..files import write_text
from .boards import RESULTS, ROOT, Board, find_boards, lower_is_better
from .entries import (
    ABLATION,
    PAIRED_CLASSICAL,
    SUPERVISED,
    UNPAIRED,
    Entry,
    earlier_entries,
    entries,
    holm,
    paired_tests,
    patient_means,
)
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
UNTRANSLATED = ("identity", "nearest")  # rows of the source as it is; with finer pixels, repeated
ENOUGH_SEEDS = 3  # of a method of which a text may say that it wins
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
    parts += [standing(board, lines), ends_of_the_scale(board, lines), limits(board, lines)]
    if ablations:
        parts += ["Ablations, beside the method itself:", score_table(board, [best_entry(board, lines), *ablations])]
    if "second_baselines" in facts:
        parts += [f"{board.second_title}:", second_table(board, facts)]
    parts += ["Cost:", cost_table(found)]
    notes = NOTES / f"{board.bundle}.md"
    if notes.is_file():
        text = notes.read_text(encoding="utf-8").strip()
        check_claims(board, text, found, file=notes.name)
        parts.append(text)
    return "\n\n".join(part for part in parts if part)


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
        kind = f"{each.kind}, no ceiling" if each.kind == SUPERVISED and above(board, each, found) else each.kind
        line = [f"**{each.title}**" if each is best else each.title, kind, str(each.seeds or "")]
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
    measured = [column for column in board.columns if any(column in row for row in rows)]
    columns = [(column, direction) for direction in directions for column in measured]
    lines = []
    for name in dict.fromkeys(row["method"] for row in rows):
        values: list[float | None] = []
        for column, direction in columns:
            mine = [row for row in rows if (row["method"], row["direction"]) == (name, direction)]
            found = [row[column] for row in mine if column in row]
            values.append(mean(found) if found else None)
        lines.append((name, values))
    sign = 1 if lower_is_better(measured[0]) else -1
    lines.sort(key=lambda line: mean(sign * v for v in line[1][:: len(measured)] if v is not None))
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


def standing(board: Board, found: Sequence[Entry]) -> str:
    """Say whether the best unpaired method is above the identity, and name each column in which it loses, and to whom.

    "Beats" is said only of a method above the identity with 3 seeds.
    """
    best, column = best_entry(board, found), board.columns[0]
    seeds = f"{best.seeds} seed{'s' if best.seeds != 1 else ''}"
    base = [each for each in found if each.name in UNTRANSLATED and column in each.cells]
    first = ""
    if base:
        higher = _is_ahead(column, best.cells[column][0], base[0].cells[column][0])
        verb = ("beats" if may_win(board, best, found) else "is ahead of") if higher else "**loses to**"
        first = f"{best.title} ({seeds}) {verb} {base[0].title} in {column}. "
    lost = []
    for name, (own, _) in best.cells.items():
        rivals = [each for each in found if each is not best and name in each.cells and is_complete(each, found)]
        if rivals:
            order = (min if lower_is_better(name) else max)(rivals, key=lambda each: each.cells[name][0])
            value = order.cells[name][0]
            if _is_ahead(name, value, own) and number(value) != number(own):
                lost.append(f"{name} ({number(own)} against {number(value)}, {order.title})")
    if not lost:
        return f"{first}It loses in no column of the table."
    return f"{first}**It loses in {len(lost)} of {len(best.cells)} columns**: {'; '.join(lost)}."


def ends_of_the_scale(board: Board, found: Sequence[Entry]) -> str:
    """Say which supervised rows are no ceiling, since they are below the identity or the baseline fitted on pairs."""
    column, told = board.columns[0], []
    supervised = [each for each in found if each.kind == SUPERVISED]
    for each in supervised:
        if rows := above(board, each, found):
            named = " and ".join(f"{row.title} ({number(row.cells[column][0])})" for row in rows)
            told.append(f"**{each.title} is no ceiling**: it is below {named} in {column}")
    if not told:
        return ""
    if len(told) == len(supervised):
        told.append("No distance to an upper end of the scale can be read from this table")
    return f"{'. '.join(told)}."


def above(board: Board, supervised: Entry, found: Sequence[Entry]) -> list[Entry]:
    """Return the identity and the baselines fitted on pairs that are better than a supervised row in the first column.

    They are compared in the directions that the row was scored in.
    """
    column = board.columns[0]
    better = []
    for each in found:
        if each.name not in UNTRANSLATED and each.kind != PAIRED_CLASSICAL:
            continue
        own, other = _shared_means(supervised, each, column)
        if own is not None and other is not None and _is_ahead(column, other, own):
            better.append(each)
    return better


def limits(board: Board, found: Sequence[Entry]) -> str:
    """Say what the table cannot: rows of fewer than 3 seeds, and methods and columns that were not run or measured."""
    few = [each.title for each in found if 0 < each.seeds < ENOUGH_SEEDS]
    names = {each.name for each in found}
    missing = [board.title(name) for name in board.methods() if name not in names]
    parts = []
    if few:
        parts.append(f"rows of fewer than {ENOUGH_SEEDS} seeds differ by chance as well ({', '.join(few)})")
    if missing:
        parts.append(f"nothing about methods that were not run ({', '.join(missing)})")
    absent = [column for column in board.columns if not any(column in each.cells for each in found)]
    if absent:
        parts.append(f"nothing about columns that were not measured ({', '.join(absent)})")
    return f"What this table cannot say: {'; '.join(parts)}." if parts else ""


def may_win(board: Board, each: Entry, found: Sequence[Entry]) -> bool:
    """Return whether a text may say of a method that it wins: above the identity in the first column, with 3 seeds."""
    column = board.columns[0]
    if each.seeds < ENOUGH_SEEDS or column not in each.cells:
        return False
    pairs = [_shared_means(each, other, column) for other in found if other.name in UNTRANSLATED]
    return any(own is not None and base is not None and _is_ahead(column, own, base) for own, base in pairs)


def check_claims(board: Board, text: str, found: Sequence[Entry], *, file: str) -> None:
    """Refuse a text under a table that says "wins" or "beats" of a method of which it may not be said.

    The method is the one that the sentence names first.

    Raises:
        ValueError: If such a sentence names no method of the table, or one that is not above the identity with 3 seeds.
    """
    flat = " ".join(text.replace("*", "").split())
    for sentence in re.split(r"(?<=[.:;])\s", flat):
        if not re.search(r"\b(wins?|beats?|beaten)\b", sentence):
            continue
        places = [(match.start(), e) for e in found if (match := re.search(rf"\b{re.escape(e.title)}\b", sentence))]
        first = min(places, key=lambda place: (place[0], -len(place[1].title)))[1] if places else None
        if first is None or not may_win(board, first, found):
            raise ValueError(
                f"{file} must say that a method wins or beats another only of a method of the table above the identity"
                f" with {ENOUGH_SEEDS} seeds, got {sentence!r}: write what the numbers carry, such as 'is ahead of'."
            )


def _shared_means(one: Entry, other: Entry, column: str) -> tuple[float | None, float | None]:
    """Return both rows' means of a column over the directions that both have; of all where there are no patients."""
    shared = set(one.directions) & set(other.directions)
    if not shared:
        own, base = (each.cells[column][0] if column in each.cells else None for each in (one, other))
        return own, base
    means: list[float | None] = []
    for each in (one, other):
        values = patient_means([row for row in each.rows if row["direction"] in shared], column).values()
        means.append(mean(values) if values else None)
    return means[0], means[1]


def _is_ahead(column: str, value: float, other: float) -> bool:
    return value < other if lower_is_better(column) else value > other


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
