"""The numbers of the page on real scans, on images whose numbers are known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.real_scans import FOLDS, SETS, SHORT, extract_brain, measure
from tests.helpers.bundles import ROOT

RESULT = ROOT / "benchmarks" / "results" / "nec_t1t2_real_scans.json"


def pair():
    """A T2-like brain of three tissues with texture, its T1, and where the brain is."""
    x, y = np.mgrid[-32:32, -32:32]
    distance = np.hypot(x, y)[..., None] + np.zeros((1, 1, 24))
    noise = np.random.default_rng(0).normal(0, 8, distance.shape)
    truth = np.select([distance < 8, distance < 18, distance < 26], [900.0, 300, 400], 0)
    truth = np.where(truth > 0, truth + noise, 0).astype(np.float32)
    source = np.where(truth > 0, 1000 - truth, 0).astype(np.float32)
    return truth, source, distance < 26


def test_the_truth_scores_best_whatever_its_unit():
    truth, source, brain = pair()
    row = measure(3 * truth, truth, source, brain)
    assert row["psnr"] > 100
    assert (row["ssim"], row["sharpness"]) == pytest.approx((1, 1))
    assert row["psnr_volume"] > 60
    assert row["csf_to_white"] > 2
    assert row["checkerboard"] < 10  # hundreds where there is one


def test_matching_forgives_a_curve_and_nothing_else():
    truth, source, brain = pair()
    curved = measure(truth**1.5, truth, source, brain)
    assert curved["psnr"] > 100
    assert curved["psnr_unmatched"] < 40
    assert measure(source, truth, source, brain)["psnr"] < 15  # not inverted
    assert measure(np.where(brain, 1000 - source, 0), truth, source, brain)["psnr"] > 60


def test_a_halo_in_the_background_is_counted_in_the_volume_only():
    truth, source, brain = pair()
    halo = np.where(brain, truth, 100)
    clean, painted = (measure(volume, truth, source, brain) for volume in (truth, halo))
    assert painted["psnr"] == clean["psnr"]
    assert painted["psnr_volume"] < clean["psnr_volume"] - 20
    assert painted["mae_volume"] > 0.05


def test_black_fluid_is_seen():
    truth, source, brain = pair()
    black = np.where(truth > 700, 10, truth)
    assert measure(black, truth, source, brain)["csf_to_white"] < 1


def test_a_brain_is_found_within_its_scalp():
    x, y, z = np.mgrid[-60:60, -60:60, -20:20] * np.array([1.0, 1.0, 3.0])[:, None, None, None]
    radius = np.sqrt(x**2 + y**2 + (z / 1.5) ** 2)
    head = np.select([radius < 40, radius < 45, radius < 54], [500.0, 20, 1200], 0)
    found = extract_brain(head.astype(np.float32), [1.0, 1.0, 3.0])
    overlap = 2 * (found & (radius < 40)).sum() / (found.sum() + (radius < 40).sum())
    assert overlap > 0.8
    assert not found[radius > 45].any()


def test_no_fold_trains_on_what_it_is_scored_on():
    for fold, names in FOLDS.items():
        assert not set(names) & set(fold.removeprefix("not_").split("_"))
    patients = [{scan.split("_")[0] for scan in SETS[name]} for name in SHORT.values()]
    assert sum(map(len, patients)) == len(set().union(*patients))


def test_the_committed_numbers_are_on_the_page():
    """Every table of docs/real_scans.md, as its command prints it."""
    page = (ROOT / "docs" / "real_scans.md").read_text(encoding="utf-8")
    commands = [line.split()[2:] for line in page.splitlines() if line.startswith("python benchmarks/real_scans.py")]
    tables = [command for command in commands if command[0] in ("table", "details")]
    assert len(tables) >= 4
    for command in tables:
        line = [sys.executable, str(Path("benchmarks", "real_scans.py")), *command]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
        rows = [row.strip() for row in done.stdout.splitlines() if row.startswith("|")]
        assert len(rows) > 3
        assert [row for row in rows if row not in page] == []


def test_the_scored_weights_are_the_shipped_ones():
    shipped = json.loads((ROOT / "bundles" / "nec_t1t2" / "models" / "network.json").read_text())["checksum"]
    runs = json.loads(RESULT.read_text())["runs"]
    (run,) = [run for run in runs if run["name"] == "network" and run["facts"]["weights_sha256"] == shipped]
    assert run["scans"] == ["stroke", "glioma"]
