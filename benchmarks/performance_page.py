"""
Writes docs/performance.md from benchmarks/notes/performance.md and the committed results.

    python benchmarks/performance_page.py

A line `TABLE file rows: a; b; c=x` of the notes becomes a table: of performance_<file>.json the list `rows`, columns a
and b, of the rows whose c is x; without columns all. `MACHINE file` becomes what that file was measured on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fire
from measuring import RESULTS, ROOT, table

NOTES = ROOT / "benchmarks" / "notes" / "performance.md"
PAGE = ROOT / "docs" / "performance.md"


def write_page(page: str | Path = PAGE) -> None:
    """Write the page.

    Args:
        page: where to.
    """
    lines = [_filled(line) for line in NOTES.read_text(encoding="utf-8").splitlines()]
    Path(page).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(page)


def _filled(line: str) -> str:
    names, _, columns = line.partition(":")
    words = names.split()
    if words[:1] == ["TABLE"]:
        return table(_rows(_content(words[1])[words[2]], [column.strip() for column in columns.split(";") if column]))
    if words[:1] == ["MACHINE"]:
        facts = _content(words[1])["machine"]
        where = facts["gpu"] or f"{facts['processor']}, {facts['cores']} cores, {facts['threads']} threads"
        return f"Measured on {where}; torch {facts['torch']}; commit {facts['commit']}."
    return line


def _content(file: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"performance_{file}.json").read_text(encoding="utf-8"))


def _rows(rows: list[dict[str, Any]], columns: list[str]) -> list[dict[str, Any]]:
    conditions = dict(column.split("=") for column in columns if "=" in column)
    shown = [column for column in columns if "=" not in column] or list(rows[0])
    kept = [row for row in rows if all(str(row.get(name)) == value for name, value in conditions.items())]
    return [{name.replace("_", " "): row.get(name, "") for name in shown} for row in kept]


if __name__ == "__main__":
    fire.Fire(write_page)
