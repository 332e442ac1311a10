"""docs/performance.md is what the committed results and notes say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = [
    "train_step",
    "train_step_kept",
    "train_curves",
    "inference",
    "data_loading",
    "metrics",
    "start_up",
    "memory",
    "growth",
    "runtimes",
    "scale",
    "entries",
    "train_forms",
]


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_the_committed_page_is_that_of_the_committed_results(tmp_path):
    from performance_page import write_page

    write_page(tmp_path / "performance.md")
    assert (tmp_path / "performance.md").read_text() == (ROOT / "docs" / "performance.md").read_text()


def test_a_table_has_the_columns_and_rows_that_the_notes_ask_for(tmp_path, monkeypatch):
    import performance_page

    rows = [{"network": "a", "s_a_slice": 1.23456, "used": True}, {"network": "b", "s_a_slice": 2.0, "used": False}]
    (tmp_path / "performance_inference.json").write_text(json.dumps({"speed": rows}))
    (tmp_path / "notes.md").write_text("Before.\nTABLE inference speed: network; s_a_slice; used=True\nAfter.\n")
    monkeypatch.setattr(performance_page, "RESULTS", tmp_path)
    monkeypatch.setattr(performance_page, "NOTES", tmp_path / "notes.md")
    performance_page.write_page(tmp_path / "page.md")
    expected = ["Before.", "| network | s a slice |", "| --- | --- |", "| a | 1.23 |", "After."]
    assert (tmp_path / "page.md").read_text().splitlines() == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_results_are_of_whole_runs_and_name_their_machine(name):
    content = json.loads((ROOT / "benchmarks" / "results" / f"performance_{name}.json").read_text())
    assert content.get("quick") is not True
    assert content["machine"]["processor"]
    assert "dirty" not in content["machine"]["commit"]
