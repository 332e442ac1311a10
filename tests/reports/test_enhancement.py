"""The report of contrast enhancement: organs, the paper's Table 1, Figure 5, and pictures in the abdomen's window."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from common.reports import results_table, write_report
from common.reports.enhancement import (
    CORRECT,
    FALSE,
    enhancement_blocks,
    is_removal,
    organ_table,
    removal_panel,
)
from common.reports.inputs import read_inputs, task_of_metrics
from common.reports.sections import case_figure
from common.reports.volumes import AxialSlice
from tests.helpers.abdomen import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("abdomen") / "run", ["p0", "p<1>"], removal=True)


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return write_report(run, cases=1).read_text(encoding="utf-8")


def text_of(page: str) -> str:
    return unescape(re.sub(r"<[^>]+>", " ", re.sub(r'src(set)?="[^"]*"', "", page)))


def test_organs_are_rows_and_methods_are_columns(run: Path) -> None:
    table = organ_table(read_inputs(run).summary["NECT->CECT"])
    head, *rows = re.findall(r"<tr.*?</tr>", table)
    assert ">Organ</th>" in head
    assert head.index("Truth") < head.index("Network") < head.index("Identity")
    cells = {
        re.findall(r"<th[^>]*>(.*?)</th>", row)[0]: re.findall(r"<td>([^<]*)", row) for row in rows[1:]
    }  # fmt: skip
    assert list(cells) == ["aorta", "cyst"]
    # By construction: 100 HU in the aorta, a spread of 15 HU, nothing above 200 HU, 10 % missing, all missing.
    true, irreducible, above, error, _, untreated, _ = (float(cell) for cell in cells["aorta"])
    assert true == pytest.approx(100.0, abs=2.0)
    assert (irreducible, above) == (15.0, 0.0)
    assert error == pytest.approx(-10.0, abs=0.5)
    assert untreated == pytest.approx(-100.0, abs=2.0)
    assert float(cells["cyst"][0]) == pytest.approx(0.0, abs=1.0)
    assert cells["cyst"][1] == "&ndash;"  # the training patients had none


def test_the_page_has_every_table_and_says_what_is_compared(page: str) -> None:
    text = text_of(page)
    for heading in (
        "As in the paper's Table 1",
        "Against the misaligned CECT, all that the paper had",
        "Enhancement by organ",
        "False enhancement, dose and what cannot be known",
        "Removal of contrast, the paper's Figure 5",
    ):
        assert text.count(heading) == 1, heading
    assert "Emphysema" not in text
    assert "(the paper's Figure 4)" not in text  # another paper's


def test_the_pictures_are_in_the_abdomens_window_without_lungs_or_kernel_curves(page: str, run: Path) -> None:
    assert "Window 300/50 HU (width/level)." in page
    assert "are enlarged" not in page
    assert "Noise power spectra" not in page
    assert page.count(">Change (up to 100 HU)</figcaption>") == page.count(">Source (truth)</figcaption>") > 0
    names = {path.name for path in (run / "pictures").iterdir()}
    assert {"case_1_NECT_to_CECT_p0.png", "case_1_truth_to_NECT_p0.png"} <= names
    assert not any(name.startswith("curves_") for name in names)


def test_another_window_on_request(run: Path) -> None:
    inputs = read_inputs(run)
    shown = case_figure(inputs.cases[0], "case", inputs=inputs, window=(-160.0, 240.0), save=lambda name, png: None)
    assert "Window 400/40 HU" in shown


def test_the_terminal_shows_the_papers_measures() -> None:
    summary = {"NECT->CECT": {"network": {"mse_window": {"mean": 0.01234, "std": 0.001}}}}
    assert "MSE window" in results_table(summary)
    assert "0.0123 ± 0.0010" in results_table(summary)


def test_other_runs_have_none_of_it() -> None:
    kernels = {"network": {"psnr": {"mean": 40.0}, "nps_error": {"mean": 0.1}}}
    assert enhancement_blocks(kernels) == ""
    assert not is_removal(kernels)
    removed = {"network": {"removal_false_hu": {"mean": 1.0}}}
    assert is_removal(removed)


@pytest.mark.parametrize(
    ("metric", "task"),
    [
        ("nps_error", "kernel_conversion"),
        ("mse_window", "contrast_enhancement"),
        ("removal_false_hu", "contrast_enhancement"),
        ("consistency_mse", "super_resolution"),
        ("psnr_window", None),
        ("psnr", None),
    ],
)
def test_an_evaluation_that_recorded_no_task_is_told_by_its_metrics(metric, task, tmp_path: Path) -> None:
    summary = {"a->b": {"identity": {"psnr": {"mean": 1.0}}, "network": {metric: {"mean": 1.0}}}}
    assert task_of_metrics(summary) == task
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert read_inputs(tmp_path).task == task
    (tmp_path / "run.json").write_text(json.dumps({"task": "sequence_translation"}))
    assert read_inputs(tmp_path).task == "sequence_translation"


def test_a_recorded_task_gives_the_page_of_an_older_evaluation_that_has_none(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ["p0"], removal=True)
    facts = json.loads((run / "run.json").read_text())
    pages = []
    for task in ({}, {"task": "contrast_enhancement"}, {"task": "kernel_conversion"}):
        (run / "run.json").write_text(json.dumps(facts | task))
        pages.append(write_report(run, cases=0).read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
    assert "Enhancement by organ" in text_of(pages[1])
    assert "Enhancement by organ" not in text_of(pages[2])


def test_the_map_is_blue_where_contrast_was_and_red_elsewhere() -> None:
    nect = np.full((60, 60), -1000.0)
    nect[5:55, 5:55] = 40.0
    cect = nect.copy()
    cect[20:40, 20:40] = 240.0
    synthetic = nect.copy()
    synthetic[45:53, 10:50] = 90.0
    panel = removal_panel(AxialSlice(cect, synthetic, nect, None, (2.0, 2.0), 0, 1, hu=True))
    np.testing.assert_allclose(panel.image[30, 30], CORRECT)  # 200 HU removed: full colour
    np.testing.assert_allclose(panel.image[49, 30], 0.5 * FALSE)  # 50 HU added
    np.testing.assert_array_equal(panel.image[0, 0], 0.0)
    with pytest.raises(ValueError, match="`axial` must have a target, the NECT aligned with its source"):
        removal_panel(AxialSlice(cect, synthetic, None, None, (2.0, 2.0), 0, 1, hu=True))
