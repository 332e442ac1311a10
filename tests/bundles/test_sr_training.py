"""The super-resolution bundle as a user runs it: train, evaluate, report; at factor 2, on a tiny phantom."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from scipy.ndimage import map_coordinates

from common.phantoms import generate_phantom
from common.reports import write_report
from tests.helpers.bundles import done, run

from .test_sr_configs import BUNDLE, CONFIGS

TINY = """
factor: 2
max_epochs: 1
samples_per_epoch: 4
batch_size: 2
patch_size: 12
channels: 8
num_res_blocks: 1
discriminator_channels: 4
target_discriminator_layers: 2
source_discriminator_layers: 1
phantom: {patients: 4, slices: 4, size: 64, factor: 2}
"""
METHODS = {"network", "bicubic", "nearest"}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 patients of 4 micro slices of 64 x 64 pixels, 2 clinical ones of 32 x 32."""
    folder = tmp_path_factory.mktemp("lung")
    generate_phantom("lung", folder, patients=4, slices=4, size=64, factor=2, workers=1)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("overlay") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, phantom: Path, tiny: Path) -> Path:
    """A folder with `training/` and `models/`, one epoch old."""
    folder = tmp_path_factory.mktemp("trained")
    places = ["--dataset_dir", phantom, "--output_dir", folder / "training", "--models_dir", folder / "models"]
    done(run(BUNDLE, "training", ["train", "demo", tiny], *places, cwd=folder))
    return folder


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, trained: Path, phantom: Path) -> Path:
    out = tmp_path_factory.mktemp("evaluated")
    places = ["--dataset_dir", phantom, "--output_dir", out, "--models_dir", trained / "models"]
    places += ["--training_dir", trained / "training"]
    done(run(BUNDLE, "evaluating", ["inference", "evaluate"], *places, cwd=out))
    return out


def tiny_parser(phantom: Path, tiny: Path, folder: Path, *overlays: str, **changes: object) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([*(str(CONFIGS / f"{name}.yaml") for name in ("train", *overlays, "demo")), str(tiny)])
    places = {"dataset_dir": str(phantom), "output_dir": str(folder / "training"), "models_dir": str(folder / "models")}
    parser.update({"bundle_root": str(BUNDLE), **places, **changes})
    return parser


def test_training_leaves_what_inference_needs(trained: Path):
    assert {p.name for p in (trained / "models").iterdir()} == {"model.pt", "network.json"}
    definition = json.loads((trained / "models" / "network.json").read_text())
    assert definition["class"] == "common.networks.SuperResolutionGenerator"
    assert definition["arguments"]["factor"] == definition["factor"] == 2
    assert definition["codec"] == {"hu": [-1200, 400]}
    assert definition["spacing_mm"] == [0.15625, 0.15625]
    assert definition["ema"] is True
    with (trained / "training" / "losses.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert {"adversarial", "cycle", "mmsr", "source_ssim", "upsample", "discriminator", "learning_rate"} <= set(row)
    # Equation (4) with the paper's weights, and the identity losses.
    parts = {"adversarial": 1, "cycle": 1, "target_identity": 0.2, "source_identity": 0.02, "source_ssim": 2,
             "target_ssim": 1, "downsample": 1, "upsample": 1}  # fmt: skip
    assert float(row["generator"]) == pytest.approx(sum(w * float(row[name]) for name, w in parts.items()), rel=1e-5)


@pytest.mark.parametrize(
    ("overlays", "losses"),
    [
        (["baselines/cyclegan"], {"mmsr": False, "kl": False}),
        (["baselines/unit"], {"mmsr": False, "kl": True}),
        (["sr_unit"], {"mmsr": True, "kl": True}),
        (["official"], {"mmsr": True, "kl": False}),
    ],
    ids=lambda value: "+".join(value),
)
def test_other_methods_train_on_the_same_data(overlays, losses, phantom, tiny, tmp_path):
    parser = tiny_parser(phantom, tiny, tmp_path, *overlays, samples_per_epoch=2, ema_decay=None)
    trainer = parser.get_parsed_content("train#trainer")
    before = [p.detach().clone() for p in trainer.network.parameters()]
    trainer.run()
    assert {name: name in trainer.state.output for name in losses} == losses
    assert any(not torch.equal(p, q) for p, q in zip(trainer.network.parameters(), before))


def test_evaluation_scores_network_and_interpolations_on_every_patient(evaluated: Path, phantom: Path):
    patients = {entry["patient"] for entry in json.loads((phantom / "datalist.json").read_text())["test"]}
    with (evaluated / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = {(patient, "clinical->micro", method) for patient in patients for method in METHODS}
    assert {(row["patient"], row["direction"], row["method"]) for row in rows} == expected
    for row in rows:
        assert {"psnr", "ssim", "consistency_mse", "consistency_psnr", "spectrum_distance"} <= set(row)
        if row["method"] == "nearest":
            assert float(row["consistency_psnr"]) == 100.0


def test_scores_are_those_of_the_saved_volumes(evaluated: Path, phantom: Path):
    """PSNR and consistency again, from the files, with numpy alone."""
    cases = json.loads((evaluated / "cases.json").read_text())["cases"]
    entries = {entry["patient"]: entry for entry in json.loads((phantom / "datalist.json").read_text())["test"]}
    with (evaluated / "metrics.csv").open(newline="") as file:
        rows = {row["patient"]: row for row in csv.DictReader(file) if row["method"] == "network"}
    for case in cases:
        named = {"prediction": evaluated / case["prediction"], "source": evaluated / case["source"]}
        named["truth"] = phantom / entries[case["patient"]]["truth"]
        images = {key: nib.as_closest_canonical(nib.load(path)) for key, path in named.items()}
        output, source, truth = (np.asarray(image.dataobj, dtype=float) for image in images.values())
        truth = (truth[..., ::2] + truth[..., 1::2]) / 2
        errors = ((output - truth) ** 2).mean(axis=(0, 1))
        psnr = np.mean(10 * np.log10(1600.0**2 / errors))
        assert float(rows[case["patient"]]["psnr"]) == pytest.approx(psnr, abs=1e-3)
        pooled = (output[::2, ::2] + output[1::2, ::2] + output[::2, 1::2] + output[1::2, 1::2]) / 4
        mse = ((pooled - source) ** 2).mean()
        assert float(rows[case["patient"]]["consistency_mse"]) == pytest.approx(mse, rel=1e-5)


@pytest.mark.parametrize("downsampling", ["mean", "spline"])
def test_micro_ct_is_down_sampled_recovered_and_scored_against_itself(trained, phantom, tmp_path, downsampling):
    """Scores again, from the micro CT's file: with numpy, and for the spline with map_coordinates."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.yaml") for name in ("inference", "evaluate", "evaluate_micro")])
    places = {"dataset_dir": str(phantom), "output_dir": str(tmp_path), "models_dir": str(trained / "models")}
    changes = {"grey_levels": [9000, 26000], "size": [40, 48, -1], "downsampling": downsampling, "device": "cpu"}
    parser.update({"bundle_root": str(BUNDLE), **places, **changes})
    parser.get_parsed_content("run")
    (entry, *_) = json.loads((phantom / "datalist.json").read_text())["test"]
    grey = np.asarray(nib.as_closest_canonical(nib.load(phantom / entry["micro"])).dataobj, dtype=float)
    truth = ((grey - 9000) / 17000 * 1045 - 1000).clip(-1200, 400)[12:52, 8:56]
    if downsampling == "mean":
        source = truth.reshape(20, 2, 24, 2, 4).mean(axis=(1, 3))
    else:
        places = np.meshgrid(np.linspace(0, 39, 20), np.linspace(0, 47, 24), indexing="ij")
        source = np.stack([map_coordinates(truth[..., z], places, order=3) for z in range(4)], axis=2)
    error = source.clip(-1200, 400).repeat(2, axis=0).repeat(2, axis=1) - truth
    expected = np.mean(10 * np.log10(1600.0**2 / (error**2).mean(axis=(0, 1))))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file) if row["patient"] == entry["patient"]}
    assert set(rows) == METHODS
    assert float(rows["nearest"]["psnr"]) == pytest.approx(expected, abs=1e-2)
    case = json.loads((tmp_path / "cases.json").read_text())["cases"][0]
    shown, output = (nib.as_closest_canonical(nib.load(tmp_path / case[key])) for key in ("source", "prediction"))
    np.testing.assert_allclose(np.asarray(shown.dataobj), source, atol=0.6)
    network = np.asarray(output.dataobj, dtype=float) - truth
    psnr = np.mean(10 * np.log10(1600.0**2 / (network**2).mean(axis=(0, 1))))
    assert float(rows["network"]["psnr"]) == pytest.approx(psnr, abs=1e-2)


def test_the_report_is_made_from_what_evaluation_left(evaluated: Path):
    page = write_report(evaluated, cases=1).read_text()
    assert "Consistency and texture" in page
    assert ">Clinical<" in page
    assert ">Truth<" in page


@pytest.mark.parametrize(
    ("changes", "part", "messages"),
    [
        (
            {"factor": 8, "spacing_mm": [0.15625, 0.15625]},
            "train#target_volumes",
            ["micro.nii.gz' has axial pixels of 0.0781 x 0.0781 mm, expected are 0.0195", "it is of another scale"],
        ),
        (
            {"mask_key": "lung"},
            "train#source_volumes",
            [
                "clinical.nii.gz' has no lung: no region enclosed by the body",
                "where all of the volume is lung, no mask",
            ],
        ),
        (
            {"patch_size": 40},
            "train#dataset",
            ["clinical.nii.gz' must be at least as large as a patch, 40 x 40 voxels, got 32 x 32: choose smaller"],
        ),
    ],
    ids=["another factor", "no lung", "smaller than a patch"],
)
def test_volumes_that_cannot_be_trained_with_stop_the_training_at_its_start(
    changes, part, messages, phantom: Path, tiny: Path, tmp_path: Path
):
    parser = tiny_parser(phantom, tiny, tmp_path, **changes)
    with pytest.raises((RuntimeError, ValueError)) as raised:
        parser.get_parsed_content(part)
    found, error = [], raised.value
    while error is not None:
        found.append(str(error))
        error = error.__cause__
    assert [message for message in messages if message not in "\n".join(found)] == []
    assert not (tmp_path / "training").exists()
