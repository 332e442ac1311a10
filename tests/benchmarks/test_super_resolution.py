"""How super-resolution is judged: on volumes of known numbers, and its committed results."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.super_resolution import (
    CHESTS,
    LEVELS_HU,
    MICRO,
    RESULT,
    chest,
    dice_by_level,
    measure,
    methods,
    micro,
    structures,
    vessel_roughness,
)
from common.files import checksum
from common.phantoms.lung.phantom import lung_parameters, make_lung_walls
from tests.helpers.bundles import ROOT
from tests.helpers.shared import require_shared

BUNDLE = ROOT / "bundles" / "sr_cyclegan"
PAGE = ROOT / "docs" / "real_scans_sr.md"
DETAILS = ROOT / "docs" / "bundles" / "sr_cyclegan.md"
MICRO_DATA = ["phantom", "tooth", "phantom_spline", "tooth_spline"]


def test_dice_of_each_level_is_that_of_the_pixels_above_it():
    output = np.array([-1500.0, -500.0, -300.0, 0.0, 50.0, 40.0])
    structure = np.array([False, False, True, True, True, False])
    counted = np.array([True, True, True, True, True, False])  # the last one would be a false find
    dice = dict(zip(LEVELS_HU.tolist(), dice_by_level(output, structure, counted), strict=True))
    assert dice[-1000] == pytest.approx(2 * 3 / (4 + 3))
    assert dice[-300] == 1
    assert dice[-290] == pytest.approx(2 * 2 / (2 + 3))
    assert dice[60] == 0


def test_a_structure_fills_more_than_half_of_a_slice_and_others_do_not_count():
    labels = np.zeros((5, 1, 8), dtype=np.uint8)
    labels[0, 0, :5] = 1  # a vessel
    labels[1, 0, :4] = 1  # half: not there
    labels[2, 0, :2], labels[2, 0, 2:7] = 1, 3  # a septum beside a vessel
    labels[3, 0, 0] = 4  # some tumour
    found = structures(labels, 1)
    assert found["vessel"][0].ravel().tolist() == [True, False, False, False, False]
    assert found["vessel"][1].ravel().tolist() == [True, True, False, False, True]
    assert found["septum"][0].ravel().tolist() == [False, False, True, False, False]
    assert found["together"][0].ravel().tolist() == [True, False, True, False, False]
    assert found["together"][1].ravel().tolist() == [True, True, True, False, True]


def test_consistency_is_in_hu_and_within_the_codec():
    source = np.full((8, 8, 1), -900.0)
    source[0, 0] = 1000.0  # bone, which the codec cannot hold
    output = np.kron(np.clip(source, -1200, 400), np.ones((8, 8, 1)))
    output[8:16, 8:16] += 6 * np.indices((8, 8)).sum(0)[..., None] % 12  # 0 or 6: 3 on average
    row = measure(output, source, limits=(-1200, 400))
    assert row["consistency_largest_hu"] == pytest.approx(3)
    assert row["consistency_rms_hu"] == pytest.approx(3 / 8)


def test_a_frayed_vessel_is_rough_and_a_smooth_one_is_not():
    source = np.full((16, 16, 1), -900.0)
    source[5:11] = 0.0
    smooth = np.full((128, 128, 1), -900.0)
    smooth[40:88] = 0.0
    frayed = smooth.copy()
    frayed[88, ::3] = 0.0  # hairs at an edge
    assert vessel_roughness(smooth, source) == 1
    assert vessel_roughness(frayed, source) > 1.3
    speckled = smooth.copy()
    speckled[120, 10::16] = 0.0  # far from the vessel
    assert vessel_roughness(speckled, source) == 1


@pytest.mark.parametrize("path", [PAGE, DETAILS], ids=lambda path: path.stem)
def test_the_committed_numbers_are_on_the_page(path):
    page = path.read_text(encoding="utf-8")
    lines = [
        line.split() for line in page.splitlines() if line.startswith("python benchmarks/super_resolution.py table")
    ]
    assert len(lines) >= 2
    for line in lines:
        command = [sys.executable, *line[1:]]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
        rows = [row.strip() for row in done.stdout.splitlines() if row.startswith("|")]
        assert len(rows) > 4
        assert [row for row in rows if row not in page] == []


@pytest.mark.parametrize(("result", "data"), [(RESULT, ["unseen"]), (MICRO, MICRO_DATA)], ids=["clinical", "micro"])
def test_the_scored_weights_are_the_shipped_ones(result, data):
    runs = {(run["name"], run["data"]): run["weights_sha256"] for run in json.loads(result.read_text())["runs"]}
    for name, folder in (("network", ""), ("SR-CycleGAN (demonstration)", "sr_cyclegan")):
        assert {runs[name, each] for each in data} == {checksum(BUNDLE / "models" / folder / "model.pt")}


def test_what_an_evaluation_on_micro_ct_left_is_kept(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "patient,direction,method,psnr,ssim,spectrum_distance,consistency_mse\n"
        "p1,micro->micro,network,20.5,0.5,1.25,16.0\np1,micro->micro,bicubic,21.0,0.625,4.0,25.0\n"
    )
    (tmp_path / "run.json").write_text(json.dumps({"weights_sha256": "ab"}))
    for _ in range(2):  # the rows of the same weights are replaced
        micro(str(tmp_path), data="tooth", name="ours", result=str(tmp_path / "result.json"))
    content = json.loads((tmp_path / "result.json").read_text())
    assert [(row["method"], row["psnr"], row["consistency_rms_hu"]) for row in content["rows"]] == [
        ("ours", 20.5, 4.0), ("bicubic", 21.0, 5.0)
    ]  # fmt: skip
    assert content["runs"] == [{"name": "ours", "data": "tooth", "weights_sha256": "ab"}]


def test_shipped_weights_find_more_than_bicubic_interpolation_in_a_patient_whom_nobody_saw():
    """A small patient of another seed, with the thresholds of the committed results."""
    (run,) = [
        run for run in json.loads(RESULT.read_text())["runs"] if (run["name"], run["data"]) == ("network", "unseen")
    ]
    parameters = lung_parameters(kind="lung_walls", seed=77, size=256, slices=8)
    volumes = {key: volume.data.astype(np.float32) for key, volume in make_lung_walls(1, parameters).items()}
    found, limits = methods(str(BUNDLE / "models"), "network")
    inside, counted = structures(volumes["label"], 1)["together"]
    dice = {}
    for method in ("network", "bicubic"):
        output = found[method](volumes["clinical"])
        level = LEVELS_HU.tolist().index(run["thresholds_hu"][method]["together"])
        dice[method] = dice_by_level(output, inside, counted)[level]
        if method == "network":
            assert measure(output, volumes["clinical"], limits=limits)["consistency_largest_hu"] < 15
    assert dice["network"] > dice["bicubic"] + 0.01  # of the page's patients the least is 0.02


@pytest.mark.slow
def test_outputs_of_real_chests_are_consistent_with_them():
    originals = require_shared("data", "chest_ct", next(iter(CHESTS))).parent
    found, limits = methods(str(BUNDLE / "models"), "network")
    for file in CHESTS:
        source = chest(str(originals), file)
        assert measure(found["network"](source), source, limits=limits)["consistency_largest_hu"] < 15
