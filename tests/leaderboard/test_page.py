"""docs/leaderboard.md is what the committed results and notes give, of the earlier files as well as the new ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from common.leaderboard import find_board, find_boards, write_page
from common.leaderboard.boards import RESULTS
from common.leaderboard.page import PAGE, load


def test_the_committed_page_is_that_of_the_committed_results(tmp_path):
    """Run `python -m common leaderboard_page` after a change of results, notes or tables."""
    assert write_page(tmp_path / "page.md").read_text() == PAGE.read_text()


def test_every_bundle_has_its_table_its_command_and_its_text():
    sections = PAGE.read_text().split("\n## ")[1:]
    assert len(sections) == len(find_boards())
    for board, section in zip(find_boards().values(), sections):
        assert f"`{board.bundle}`" in section.splitlines()[0]
        assert f"python -m common leaderboard --bundle {board.bundle} --budget " in section
        assert "| identity | classical |" in section or "| nearest neighbour | classical |" in section
        assert "**It loses**" in section or " loses to " in section


@pytest.mark.parametrize("bundle", ["nec_t1t2", "nect2cect", "sr_cyclegan"])
def test_a_comparison_made_before_gives_its_means_and_no_tests(bundle, tmp_path):
    content = json.loads((RESULTS / f"{bundle}_methods.json").read_text())
    (tmp_path / f"{bundle}_methods.json").write_text(json.dumps(content))
    facts, found = load(find_board(bundle), tmp_path)
    (line,) = (each for each in found if each.name == find_board(bundle).own)
    column = find_board(bundle).columns[0]
    summaries = [next(iter(run["summary"].values())) for run in content["runs"] if run["method"] == line.name]
    expected = np.mean([summary["network"][column]["mean"] for summary in summaries])
    assert line.cells[column][0] == pytest.approx(expected)
    assert line.rows == []
    assert facts["earlier"] == f"{bundle}_methods.json"
    assert find_board(bundle).own in facts["earlier_methods"]


def test_new_results_take_the_place_of_earlier_ones_and_the_others_stay(tmp_path):
    earlier = json.loads((RESULTS / "nec_t1t2_methods.json").read_text())
    (tmp_path / "nec_t1t2_methods.json").write_text(json.dumps(earlier))
    rows = [{"patient": p, "direction": "T1->T2", "method": "network", "psnr": 20.0 + i} for i, p in enumerate("abc")]
    baseline = [{**row, "method": "identity", "psnr": row["psnr"] - 5 - i} for i, row in enumerate(rows)]
    run = {"method": "nec", "seed": 0, "cost": {"parameters": 5}, "rows": rows}
    run["machine"] = {"cores": 2, "threads": 1, "system": "x86_64", "gpu": None}
    setting = {"bundle": "nec_t1t2", "budget": 3584, "overlay": "demo"}
    content = {"setting": setting, "commands": ["COMMAND"], "runs": [run], "baselines": baseline}
    (tmp_path / "nec_t1t2.json").write_text(json.dumps(content))
    page = write_page(tmp_path / "page.md", results=tmp_path).read_text()
    assert "```\nCOMMAND\npython -m common leaderboard --bundle nec_t1t2 --budget 3584" in page
    assert "3,584 images for each generator, overlay `demo.yaml`, on 2 CPU cores (1 threads, x86_64)." in page
    assert "| **NEC** | trained | 1 | 21.00 ± 1.00 |" in page
    assert "over 3 patients" in page
    assert "GGCL" not in page.partition("## NEC")[2]
    assert page.count("| **NEC** |") == 1
    assert "[nec_t1t2_methods.json](../benchmarks/results/nec_t1t2_methods.json): CycleGAN, CUT, Pix2Pix" in page
    assert "| CycleGAN | trained | 1 | 16.18" in page
