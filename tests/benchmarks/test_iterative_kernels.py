"""The numbers of the page on iterative reconstructions, on images whose numbers are known."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from benchmarks.iterative_kernels import compare, network_converter, prepare_pair, psnr
from common.data import load_datalist
from common.networks import PhysicsGenerator, save_definition
from tests.helpers.bundles import ROOT

PAGE = ROOT / "docs" / "real_scans_kernels.md"
RESULTS = ROOT / "benchmarks" / "results"
SHIPPED = ROOT / "bundles" / "ggcl" / "models" / "iterative"


def test_psnr_has_the_range_of_a_scanner():
    assert psnr(np.zeros((4, 4, 1)), np.full((4, 4, 1), 40.95)) == pytest.approx(40)


def test_a_converter_works_on_whole_hu_and_without_residual_it_is_the_filter(tmp_path):
    network = PhysicsGenerator(2, channels=4, num_res_blocks=1, residual_scale=0.1)
    network.filters.set(0, 1, lambda f: np.exp(-2 * (np.pi * 0.5 * f) ** 2))
    torch.nn.init.normal_(network.refine.head.weight, std=0.1)
    save_definition(tmp_path / "network.json", network, domains=["sharp", "soft"], codec={"hu": [-1024, 3071]})
    torch.save(network.state_dict(), tmp_path / "model.pt")
    volume = np.random.default_rng(0).normal(0, 60, (40, 32, 2)).round().astype(np.float32)
    whole, bare = (network_converter(tmp_path, residual=residual) for residual in (True, False))
    soft = bare(volume, (0.7, 0.7), "sharp", "soft")
    assert (soft == soft.round()).all()
    expected = ndimage.gaussian_filter(volume, (0.5 / 0.7, 0.5 / 0.7, 0), truncate=6)
    assert np.abs(soft - expected)[8:-8, 8:-8].mean() < 0.03 * volume.std()
    assert np.abs(whole(volume, (0.7, 0.7), "sharp", "soft") - soft).max() > 1
    np.testing.assert_array_equal(bare(volume, (0.7, 0.7), "soft", "soft"), volume)


def test_a_true_pair_is_cut_into_slices_to_adapt_on_and_others_to_score_on(tmp_path):
    volume = np.arange(40, dtype=np.int16) * np.ones((4, 4, 1), np.int16)
    for name in ("soft", "sharp"):
        nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / f"{name}.nii.gz")
    prepare_pair(str(tmp_path / "soft.nii.gz"), str(tmp_path / "sharp.nii.gz"), output_dir=str(tmp_path / "out"))
    found = {}
    for key in ("training_paired", "test"):
        (entry,) = load_datalist(tmp_path / "out", key)
        found[key] = {tuple(np.unique(np.asarray(nib.load(entry[domain]).dataobj))) for domain in ("UB", "YA")}
    assert found == {"training_paired": {tuple(range(32))}, "test": {tuple(range(32, 40))}}


def test_the_numbers_without_a_truth_follow_what_was_done():
    rng = np.random.default_rng(0)
    x, y = np.mgrid[-80:80, -80:80]
    body = np.where(np.hypot(x / 75, y / 60) < 1, 40.0, -1000.0)[..., None] * np.ones(3)
    for side in (-1, 1):
        body[np.hypot((x - side * 35) / 22, y / 35) < 1] = -900.0
    noise = ndimage.gaussian_filter(rng.normal(size=body.shape), (0.6, 0.6, 0))
    source = body + 30 * noise / noise.std()
    halved = body + 15 * noise / noise.std()
    same, less = (compare(source, output, (1.0, 1.0, 3.0)) for output in (source, halved))
    assert same["low_change"] == 0
    for name in ("noise", "frequency", "edge", "emphysema"):
        assert same[f"{name}_before"] == same[f"{name}_after"]
    assert less["noise_after"] == pytest.approx(0.5 * less["noise_before"], rel=0.02)
    assert less["frequency_after"] == pytest.approx(less["frequency_before"], rel=0.01)
    assert less["emphysema_after"] < 0.2 * less["emphysema_before"]
    assert compare(source, source + 7, (1.0, 1.0, 3.0))["low_change"] == pytest.approx(7, abs=0.01)


def test_the_committed_numbers_are_on_the_page():
    """Every table, as its command prints it."""
    page = PAGE.read_text(encoding="utf-8")
    start = "python benchmarks/iterative_kernels.py "
    commands = [line.removeprefix(start).split() for line in page.splitlines() if line.startswith(start)]
    tables = [command for command in commands if command[0].endswith("table")]
    assert len(tables) >= 3
    for command in tables:
        line = [sys.executable, "benchmarks/iterative_kernels.py", *command]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
        rows = [row.strip() for row in done.stdout.splitlines() if row.startswith("|")]
        assert len(rows) > 3
        assert [row for row in rows if row not in page] == []


def test_the_scored_weights_are_the_shipped_ones():
    shipped = json.loads((SHIPPED / "network.json").read_text())["checksum"]
    runs = json.loads((RESULTS / "iterative_kernels.json").read_text())["runs"]
    found = {run["phantom"] for run in runs if run["weights_sha256"] == shipped}
    assert {"chest_iterative", "chest"} <= found
    assert json.loads((RESULTS / "iterative_chests.json").read_text())["weights_sha256"] == shipped
