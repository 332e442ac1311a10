"""The report of super-resolution: four volumes side by side, a table by structure, honest sentences."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import nibabel
import numpy as np
import pytest

from common.files import write_json
from common.metrics import write_rows
from common.metrics.summary import summarise
from common.reports import results_table, verdict, write_report
from common.reports.inputs import read_inputs
from common.reports.super_resolution import (
    choose_place,
    load_volumes,
    structure_table,
    super_resolution_blocks,
    super_resolution_lines,
    super_resolution_panels,
)

NAMES = {1: "vessel", 2: "bronchial_wall"}
NETWORK = {"psnr": 19.0, "ssim": 0.4, "consistency_mse": 400.0, "consistency_psnr": 38.0, "spectrum_distance": 0.3,
           "contrast_vessel": 0.9, "edge_ratio_vessel": 1.2, "edge_width_vessel_mm": 0.3}  # fmt: skip
BICUBIC = {"psnr": 21.0, "ssim": 0.3, "consistency_mse": 80.0, "consistency_psnr": 45.0, "spectrum_distance": 4.0,
           "contrast_vessel": 0.4, "edge_ratio_vessel": 1.6, "edge_width_vessel_mm": 0.4}  # fmt: skip


def save(path: Path, volume: np.ndarray, pixel_mm: float) -> str:
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.int16), np.diag([pixel_mm, pixel_mm, 0.6, 1.0])), path)
    return path.name


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("micro")
    rng = np.random.default_rng(0)
    label = np.zeros((96, 96, 2))
    label[30:40, 50:60, 1] = 2
    fine = {"prediction": rng.integers(-1000, 0, (96, 96, 2)), "bicubic": rng.integers(-1000, 0, (96, 96, 2)),
            "target": rng.integers(-1000, 0, (96, 96, 2)), "label": label}  # fmt: skip
    files = {key: save(folder / f"{key}.nii.gz", volume, 0.1) for key, volume in fine.items()}
    files["source"] = save(folder / "source.nii.gz", rng.integers(-1000, 0, (12, 12, 2)), 0.8)
    names = {"patient": "p<1>", "direction": "clinical->micro"}
    truth = {"edge_width_true_vessel_mm": 0.25}
    rows = [{**names, "method": m, **v, **truth} for m, v in (("network", NETWORK), ("bicubic", BICUBIC))]
    write_rows(folder / "metrics.csv", rows)
    write_json(folder / "summary.json", summarise(rows))
    cases = [names | files]
    write_json(folder / "cases.json", {"cases": cases, "label_names": {str(k): v for k, v in NAMES.items()}})
    write_json(folder / "run.json", {"bundle": "sr_cyclegan", "warnings": []})
    return folder


def test_the_page_shows_four_volumes_with_a_part_of_each_enlarged_and_says_who_loses(run: Path):
    page = write_report(run).read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption>(Clinical|Bicubic|Output|Truth)</figcaption>", page)
    assert captions == ["Clinical", "Bicubic", "Output", "Truth"]
    assert page.count('<div class="inset">') == 4
    text = unescape(re.sub(r"<[^>]+>", " ", re.sub(r'src(set)?="[^"]*"', "", page)))
    assert "loses to the best interpolation (bicubic interpolation) by 2.00 dB" in text
    assert "it is ahead of bicubic interpolation (0.3 against 4 decades)" in text
    assert "it loses to bicubic interpolation (400 against 80 HU²)" in text
    assert "Structures" in text
    (picture,) = (run / "pictures").glob("case_1*.png")
    assert picture.stat().st_size > 10_000


def test_the_clinical_picture_has_the_sources_pixels_repeated(run: Path):
    (case,) = read_inputs(run).cases
    volumes, zooms = load_volumes(case)
    assert list(volumes) == ["Clinical", "Bicubic", "Output", "Truth"]
    assert {volume.shape for volume in volumes.values()} == {(96, 96, 2)}
    assert len(np.unique(volumes["Clinical"][:8, :8, 0])) == 1
    assert zooms == pytest.approx((0.1, 0.1, 0.6))


def test_bronchial_wall_is_enlarged_first(run: Path):
    (case,) = read_inputs(run).cases
    volumes, zooms = load_volumes(case)
    label = np.asarray(nibabel.load(case.label).dataobj)
    place = choose_place(label.shape, label, NAMES)
    assert place.z == 1
    assert 30 <= place.x < 40
    assert 50 <= place.y < 60
    rows, columns = super_resolution_panels(volumes, place, zooms)[0].inset or (slice(0), slice(0))
    assert rows.start <= 95 - place.y < rows.stop  # rows run backwards
    assert columns.start <= 95 - place.x < columns.stop
    assert (rows.stop - rows.start, columns.stop - columns.start) == (75, 75)
    assert choose_place((10, 20, 5), None, NAMES) == (2, 5, 10)


def test_structures_are_rows_and_methods_are_columns(run: Path):
    table = structure_table(read_inputs(run).summary["clinical->micro"])
    assert table.index("Truth") < table.index("Network") < table.index("Bicubic")
    (row,) = re.findall(r'<tr class="vessel">.*?</tr>', table)
    assert re.findall(r"<td>([^<]*)", row) == ["0.25", "90%", "0.30", "40%", "0.40"]


def test_sentences_say_where_it_is_ahead_and_where_not(run: Path):
    lines = super_resolution_lines(read_inputs(run).summary["clinical->micro"])
    assert "Its contrast is nearer to the truth's than interpolation's in vessel." in lines
    assert "Its edge width is nearer to the truth's than interpolation's in vessel." in lines
    assert super_resolution_lines({"network": {"psnr": {"mean": 3.0}}}) == []
    assert super_resolution_blocks({"network": {"psnr": {"mean": 3.0}}}) == ""


def test_terminal_and_verdict_know_the_interpolations(run: Path):
    summary = read_inputs(run).summary
    text = results_table(summary)
    assert "Bicubic interpolation" in text
    assert "consistency PSNR" in text
    assert verdict("clinical->micro", summary["clinical->micro"]).kind == "loses"
