"""docs/leaderboard.md, generated from the committed results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..metrics.summary import write_text
from .boards import BOARDS, RESULTS, ROOT, Board
from .earlier import earlier_entries
from .entries import Entry, entries
from .names import title
from .run import command
from .statistics import patient_means
from .tables import best_entry, cost_table, score_table, second_table, significance, without_ablations

NOTES = ROOT / "benchmarks" / "notes"
PAGE = ROOT / "docs" / "leaderboard.md"


def write_page(page: str | Path | None = None, *, results: str | Path | None = None) -> Path:
    """
    Write the page of all leaderboards from the files of results that are there.

    Args:
        page: default docs/leaderboard.md.
        results: the folder of the files; default benchmarks/results.

    Returns:
        the page.
    """
    folder = Path(results or RESULTS)
    parts = [(NOTES / "introduction.md").read_text().strip()]
    for board in BOARDS.values():
        found = load(board, folder)
        if found is not None:
            parts.append(section(board, *found))
    return write_text(page or PAGE, "\n\n".join(parts) + "\n")


def load(board: Board, folder: Path) -> tuple[dict[str, Any], list[Entry]] | None:
    """
    The facts and lines of a bundle: of its leaderboard, and what the comparison made before it has beyond that.

    None when there is neither file.
    """
    path, before = folder / f"{board.bundle}.json", folder / f"{board.bundle}_methods.json"
    facts: dict[str, Any] = {"setting": {"budget": board.budget}, "commands": [], "runs": []}
    found: list[Entry] = []
    if path.is_file():
        facts |= {"file": path.name, **json.loads(path.read_text())}
        found = entries(board, facts)
    if before.is_file() and facts["setting"]["budget"] == board.budget:
        names = {each.name for each in found}
        old = [each for each in earlier_entries(board, json.loads(before.read_text())) if each.name not in names]
        methods = [each.name for each in old if each.seeds]
        if methods:
            seeds = max(each.seeds for each in old)
            facts["commands"].append(command(board.bundle, board.budget, seeds, methods, board.compact, None))
            facts |= {"earlier": before.name, "earlier_methods": methods}
            found += old
    return (facts, found) if found else None


def section(board: Board, facts: dict[str, Any], found: list[Entry]) -> str:
    """A bundle's heading, commands, tables and text."""
    lines, ablations = without_ablations(found)
    parts = [f"## {title(board.own)} (`{board.bundle}`)", "```\n" + "\n".join(facts["commands"]) + "\n```"]
    parts += [_source(board, facts), score_table(board, lines), _tests(board, lines)]
    if ablations:
        parts += ["Ablations, beside the method itself:", score_table(board, [best_entry(board, lines), *ablations])]
    if "second_baselines" in facts:
        parts += [f"{board.second_title}:", second_table(board, facts)]
    parts += ["What it cost:", cost_table(found)]
    notes = NOTES / f"{board.bundle}.md"
    if notes.is_file():
        parts.append(notes.read_text().strip())
    return "\n\n".join(parts)


def _source(board: Board, facts: dict[str, Any]) -> str:
    size = f"{facts['setting']['budget']:,} images for each generator"
    earlier = ""
    if "earlier" in facts:
        methods = ", ".join(title(name, board.own) for name in facts["earlier_methods"])
        earlier = (
            f"From {_link(facts['earlier'])}: {methods}; {size}, the demonstration's settings. That file was made by"
            " the comparison that this command took the place of, with the same configs, data and budget; it holds no"
            " patients to test."
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
    first = f"Best in {column} of what was trained without aligned pairs: **{best.title}**"
    if not significance(board, best, lines):
        return f"{first}. The file holds means and SDs, no patients, so that nothing can be tested."
    patients = len(patient_means(best.rows, column))
    return (
        f"{first}; p is of {column} against it, over {patients} patients (means over directions and seeds), after"
        " Holm's correction."
    )
