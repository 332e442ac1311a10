"""NECT2CECT as a user runs it: three stages, inference, evaluation and report, one epoch each."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from common.data import load_datalist
from common.phantoms import generate_phantom
from common.reports import write_report
from tests.helpers.bundles import ROOT, done, run

BUNDLE = ROOT / "bundles" / "nect2cect"
STAGES = [["train_classifier"], ["train_contrast_removal"], []]
TINY = """
phantom: {patients: 5, slices: 4, size: 64}
max_epochs: 1
classifier_epochs: 1
image_size: 64
spacing_mm: [5.3333, 5.3333]
channels: [8, 8]
spade_channels: 4
classifier_width: 2
discriminator_channels: [8, 8]
"""


@pytest.fixture(scope="module")
def abdomen(tmp_path_factory) -> Path:
    """5 patients of 4 slices of 64 x 64 pixels."""
    folder = tmp_path_factory.mktemp("abdomen")
    generate_phantom("abdomen", folder, patients=5, slices=4, size=64)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("overlay") / "tiny.yaml"
    path.write_text(TINY)
    return path


def train(folder: Path, abdomen: Path, tiny: Path, *overlays: str, options: tuple[object, ...] = ()):
    places = ["--dataset_dir", abdomen, "--output_dir", folder / "training", "--models_dir", folder / "models"]
    return run(BUNDLE, "training", ["train", "demo", tiny, *overlays], *places, *options, cwd=folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, abdomen, tiny) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for overlays in STAGES:
        done(train(folder, abdomen, tiny, *overlays))
    return folder


@pytest.fixture(scope="module")
def evaluated(trained, abdomen, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("evaluated")
    places = ["--dataset_dir", abdomen, "--output_dir", out, "--models_dir", trained / "models"]
    files = ["inference", "evaluate", "evaluate_removal"]
    done(run(BUNDLE, "evaluating", files, *places, "--training_dir", trained / "training", cwd=out))
    return out


def test_each_stage_leaves_its_weights_and_says_what_they_are(trained):
    for stage, domains in {".": ("NECT", "CECT"), "contrast_removal": ("CECT", "NECT")}.items():
        definition = json.loads((trained / "models" / stage / "network.json").read_text())
        assert definition["class"] == "common.networks.SPADEGenerator"
        assert (definition["domains"]["source"], definition["domains"]["target"]) == domains
        assert definition["codec"] == {"hu": [-100, 200]}
    assert json.loads((trained / "models" / "classifier" / "network.json").read_text())["class"].endswith("VGG16BN")
    for stage, losses in {
        "classifier": {"classification", "accuracy"},
        "contrast_removal": {"adversarial", "discriminator"},
        ".": {"l1", "perceptual", "reconstruction"},
    }.items():
        with (trained / "training" / stage / "losses.csv").open(newline="") as file:
            assert losses <= set(csv.DictReader(file).fieldnames)


def test_a_stage_without_the_one_before_stops_and_names_the_command(abdomen, tiny, tmp_path):
    stopped = train(tmp_path, abdomen, tiny)
    assert stopped.returncode != 0
    assert "train_contrast_removal.yaml" in stopped.stderr + stopped.stdout
    assert not (tmp_path / "models" / "model.pt").exists()


def test_a_stage_goes_on_where_it_stopped(trained, abdomen, tiny, tmp_path):
    again = done(train(trained, abdomen, tiny, "train_contrast_removal"))
    assert "training is complete: 1 of 1 epochs" in again.stderr + again.stdout


def test_the_joint_training_needs_the_classifier_alone(trained, abdomen, tiny, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "classifier").symlink_to(trained / "models" / "classifier")
    done(train(tmp_path, abdomen, tiny, "train_joint"))
    assert (tmp_path / "models" / "model.pt").is_file()


def test_evaluation_scores_enhancement_against_both_truths_and_removal_beside_it(evaluated, abdomen):
    with (evaluated / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    tests = load_datalist(abdomen, "test")
    enhanced = [row for row in rows if row["direction"] == "NECT->CECT"]
    removed = [row for row in rows if row["direction"] == "truth->NECT"]
    assert {row["method"] for row in enhanced} == {"network", "identity", "intensity_curve"}
    assert {row["method"] for row in removed} == {"network", "identity"}
    assert len(enhanced) == 3 * len(tests)
    for row in enhanced:
        for name in ("mse_window", "psnr_window", "misaligned_mse_window", "enhancement_bias_liver_hu"):
            assert np.isfinite(float(row[name]))
    for row in removed:
        assert float(row["removal_true_hu"]) > 20
    untouched = next(row for row in removed if row["method"] == "identity")
    assert float(untouched["removal_correct_hu"]) == float(untouched["removal_false_hu"]) == 0


def test_the_score_of_the_identity_is_that_of_the_files(evaluated, abdomen):
    """MSE in the window on [0, 1], from the NIfTI files alone."""
    case = load_datalist(abdomen, "test")[0]
    with (evaluated / "metrics.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["method"] == "identity" and r["direction"] == "NECT->CECT"]
    row = next(row for row in rows if row["patient"] == case["patient"])
    scaled = {
        key: (np.clip(np.asarray(nib.load(case[key]).dataobj, float), -100, 200) + 100) / 300
        for key in ("NECT", "CECT", "truth")
    }
    for name, key in {"mse_window": "truth", "misaligned_mse_window": "CECT"}.items():
        assert float(row[name]) == pytest.approx(np.mean((scaled["NECT"] - scaled[key]) ** 2), rel=1e-4)


def test_the_report_shows_synthetic_nect_and_predicted_cect(evaluated):
    page = write_report(evaluated).read_text()
    pictures = {path.name.split("_abdomen")[0] for path in (evaluated / "pictures").glob("case_1_*")}
    assert pictures == {"case_1_NECT_to_CECT", "case_1_truth_to_NECT"}
    assert "False enhancement" in page
    assert "research use only" in page.lower()
