"""docs/leaderboard.md, generated from the committed results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..metrics.summary import write_text
from .boards import BOARDS, RESULTS, ROOT, Board
from .earlier import KERNEL_FILE, KERNEL_SETTINGS, earlier_entries
from .entries import Entry, entries
from .names import title
from .run import command
from .statistics import patient_means
from .tables import best_entry, cost_table, score_table, significance, without_ablations

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
    """The facts and lines of a bundle: of its leaderboard, else of the comparison made before it; None of neither."""
    path = folder / f"{board.bundle}.json"
    if path.is_file():
        content = json.loads(path.read_text())
        return {"file": path.name, **content}, entries(board, content)
    earlier = folder / (KERNEL_FILE.name if board.bundle in KERNEL_SETTINGS else f"{board.bundle}_methods.json")
    if not earlier.is_file():
        return None
    found = earlier_entries(board, json.loads(earlier.read_text()))
    names = [each.name for each in found if each.seeds]
    seeds = max(each.seeds for each in found)
    commands = [command(board.bundle, board.budget, seeds, names, "demo", None)]
    return {"file": earlier.name, "commands": commands, "earlier": True, "setting": {"budget": board.budget}}, found


def section(board: Board, facts: dict[str, Any], found: list[Entry]) -> str:
    """A bundle's heading, commands, tables and text."""
    lines, ablations = without_ablations(found)
    parts = [f"## {title(board.own)} (`{board.bundle}`)", "```\n" + "\n".join(facts["commands"]) + "\n```"]
    parts += [_source(board, facts), score_table(board, lines), _tests(board, lines)]
    if ablations:
        parts += ["Ablations, beside the method itself:", score_table(board, [best_entry(board, lines), *ablations])]
    parts += ["What it cost:", cost_table(found)]
    notes = NOTES / f"{board.bundle}.md"
    if notes.is_file():
        parts.append(notes.read_text().strip())
    return "\n\n".join(parts)


def _source(board: Board, facts: dict[str, Any]) -> str:
    link = f"[{facts['file']}](../benchmarks/results/{facts['file']})"
    size = f"{facts['setting']['budget']:,} images for each generator"
    if facts.get("earlier"):
        return (
            f"From {link}: {size}, the demonstration's settings. The file was made by the comparison that this command"
            " took the place of, with the same configs, data and budget; seeds as in the table."
        )
    overlay = facts["setting"]["overlay"]
    how = "the papers' sizes" if overlay is None else f"overlay `{overlay}.yaml`"
    machines = {json.dumps(run["machine"], sort_keys=True) for run in facts["runs"]}
    where = "; ".join(_machine(json.loads(machine)) for machine in sorted(machines))
    return f"From {link}: {size}, {how}, on {where}."


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
