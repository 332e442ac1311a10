"""docs/leaderboard.md is what the committed results and notes give, of the earlier files as well as the new ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from common.leaderboard import find_board, find_boards, write_page
from common.leaderboard.boards import RESULTS
from common.leaderboard.entries import Entry, entry
from common.leaderboard.page import (
    PAGE,
    above,
    best_entry,
    check_claims,
    ends_of_the_scale,
    limits,
    load,
    score_table,
    standing,
)


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


def row(name: str, values: dict[str, dict[str, float]], *, seeds: int = 0) -> Entry:
    """A row with the same values for three patients; `values` by direction and metric."""
    rows = [
        {"patient": patient, "direction": direction, "method": name, "seed": seed, **metrics}
        for patient in "abc"
        for seed in range(max(seeds, 1))
        for direction, metrics in values.items()
    ]
    return entry(BOARD, name, rows, costs=[{}] * seeds)


BOARD = find_board("ggcl")
BOTH = ("B30f->B70f", "B70f->B30f")


def table(*, seeds: int = 3, **psnr: float) -> list[Entry]:
    """Rows of PSNR and SSIM (a hundredth of PSNR, but of the baselines fitted on pairs a half) in both directions."""
    return [
        row(
            name,
            {d: {"psnr": value, "ssim": value / 100 if name != "radial_filter" else 0.5} for d in BOTH},
            seeds=0 if name in ("identity", "radial_filter") else seeds,
        )
        for name, value in psnr.items()
    ]


@pytest.mark.filterwarnings("ignore:Precision loss")
@pytest.mark.parametrize(
    ("psnr", "below"),
    [
        ({"identity": 37.0, "radial_filter": 50.0, "supervised": 33.0}, ["identity", "radial_filter"]),
        ({"identity": 37.0, "radial_filter": 50.0, "supervised": 40.0}, ["radial_filter"]),
        ({"identity": 37.0, "radial_filter": 50.0, "supervised": 51.0}, []),
        ({"identity": 37.0, "supervised": 38.0}, []),
    ],
)
def test_a_supervised_row_below_identity_or_a_baseline_fitted_on_pairs_is_no_ceiling(psnr, below):
    found = table(ggcl=36.0, **psnr)
    supervised = found[-1]
    assert [each.name for each in above(BOARD, supervised, found)] == below
    text, kind = ends_of_the_scale(BOARD, found), "| supervised, no ceiling |"
    assert (kind in score_table(BOARD, found)) == bool(below)
    assert ("is no ceiling" in text) == bool(below)
    for name in below:
        assert f"{BOARD.title(name)} ({psnr[name]:.2f})" in text
    assert ("No distance to an upper end" in text) == bool(below)


def test_beside_a_ceiling_a_row_that_is_none_is_still_named():
    psnr = {"identity": 37.0, "radial_filter": 50.0, "supervised": 33.0, "physics+supervised": 51.0}
    text = ends_of_the_scale(BOARD, table(ggcl=36.0, **psnr))
    assert text.startswith("**supervised on aligned truth is no ceiling**")
    assert "with physics" not in text
    assert "No distance" not in text


def test_a_ceiling_is_compared_in_its_own_directions():
    """Over both directions the identity has 30 dB, in the supervised row's one 20."""
    identity = row("identity", {BOTH[0]: {"psnr": 40.0}, BOTH[1]: {"psnr": 20.0}})
    supervised = row("supervised", {BOTH[1]: {"psnr": 25.0}}, seeds=1)
    assert above(BOARD, supervised, [identity, supervised]) == []


@pytest.mark.parametrize(
    ("seeds", "psnr", "words"),
    [
        (3, 51.0, "GGCL (3 seeds) beats identity in psnr."),
        (1, 51.0, "GGCL (1 seed) is ahead of identity in psnr."),
        (3, 30.0, "GGCL (3 seeds) **loses to** identity in psnr."),
    ],
)
def test_the_best_method_beats_the_source_only_above_it_and_with_three_seeds(seeds, psnr, words):
    found = table(seeds=seeds, ggcl=psnr, stargan=20.0, identity=37.0)
    assert standing(BOARD, found).startswith(words)


def test_every_column_in_which_the_best_method_loses_is_named():
    found = table(ggcl=49.0, identity=37.0, radial_filter=50.0)
    text = standing(BOARD, found)
    assert "**It loses in 4 of 4 columns**" in text
    for part in ("psnr (49.00 against 50.00, radial", "ssim (0.490 against 0.500", *(f"psnr {d} (49" for d in BOTH)):
        assert part in text
    assert "It loses in no column" in standing(BOARD, table(ggcl=51.0, identity=37.0, radial_filter=50.0))


def test_an_untrained_row_is_neither_the_best_method_nor_an_ablation():
    found = table(ggcl=49.0, identity=37.0, **{"physics+ablations/physics_untrained": 51.0})
    assert found[-1].kind == "not trained"
    assert best_entry(BOARD, found).name == "ggcl"
    assert "51.00, GGCL with physics: physics untrained" in standing(BOARD, found)


@pytest.mark.parametrize(
    ("text", "seeds", "refused"),
    [
        ("**GGCL wins** here.", 3, False),
        ("GGCL beats StarGAN.", 3, False),
        ("GGCL is ahead of StarGAN.", 1, False),
        ("**GGCL wins** here.", 2, True),
        ("StarGAN beats GGCL.", 3, True),
        ("The first wins over\nthe second.", 3, True),
        ("A network must be ahead. The loss wins.", 3, True),
    ],
)
def test_a_text_says_wins_only_of_a_method_above_identity_with_three_seeds(text, seeds, refused):
    found = table(seeds=seeds, ggcl=51.0, stargan=20.0, identity=37.0)
    if refused:
        with pytest.raises(ValueError, match=r"ggcl\.md must say that a method wins or beats .* 3 seeds"):
            check_claims(BOARD, text, found, file="ggcl.md")
    else:
        check_claims(BOARD, text, found, file="ggcl.md")


def test_what_was_not_run_and_what_has_few_seeds_is_said():
    text = limits(BOARD, table(seeds=1, ggcl=51.0, identity=37.0))
    assert "rows of fewer than 3 seeds differ by chance as well (GGCL)" in text
    assert "supervised on aligned truth with physics" in text
    assert "GGCL with physics: physics untrained" in text


def test_columns_that_no_row_has_are_said_to_be_not_measured():
    board = find_board("ggcl")
    row = {"patient": "a", "direction": "B30f->B70f", "method": "network", **dict.fromkeys(board.columns, 1.0)}
    found = [entry(board, board.own, [row], costs=[{"seconds": 1.0}])]
    assert "not measured" not in limits(board, found)
    found = [entry(board, board.own, [{**row, "perc15_error": None}], costs=[{"seconds": 1.0}])]
    assert "columns that were not measured (perc15_error)" in limits(board, found)
