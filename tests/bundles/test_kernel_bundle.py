"""A kernel-conversion bundle as a user runs it: train, convert, blend, evaluate; from another working directory."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from common.data import load_datalist
from common.phantoms import generate_phantom
from tests.helpers.bundles import ROOT, done, run
from tests.helpers.shared import needs_shared, shared

BUNDLE = ROOT / "bundles" / "ggcl"
DOMAINS = ["B30f", "B50f", "B70f"]
TINY = """
max_epochs: 1
samples_per_epoch: 12
batch_size: 2
image_size: 128
critic_steps: 2
channels: 8
num_res_blocks: 1
discriminator_channels: 4
val_interval: 1
"""


@pytest.fixture(scope="session")
def chest(tmp_path_factory) -> Path:
    """6 patients of 1 slice of 128 x 128 pixels."""
    folder = tmp_path_factory.mktemp("chest")
    generate_phantom("chest", folder, patients=6, slices=1, size=128)
    return folder


@pytest.fixture(scope="session")
def tiny_kernel(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("overlay") / "tiny.yaml"
    path.write_text(TINY)
    return path


def train(folder: Path, chest: Path, *files: str | Path) -> Path:
    places = ["--dataset_dir", chest, "--output_dir", folder / "training", "--models_dir", folder / "models"]
    done(run(BUNDLE, "training", ["train", *files], *places, cwd=folder))
    return folder


@pytest.fixture(scope="session")
def plain(tmp_path_factory, chest, tiny_kernel) -> Path:
    return train(tmp_path_factory.mktemp("plain"), chest, tiny_kernel)


@pytest.fixture(scope="session")
def physics(tmp_path_factory, chest, tiny_kernel) -> Path:
    return train(tmp_path_factory.mktemp("physics"), chest, "physics", tiny_kernel)


@pytest.fixture(params=["plain", "physics"])
def trained(request) -> Path:
    return request.getfixturevalue(request.param)


def convert(trained: Path, source: object, out: Path, *options: object):
    arguments = ["--dataset_dir", source, "--output_dir", out, "--models_dir", trained / "models", *options]
    return run(BUNDLE, "inference", ["inference"], *arguments, cwd=out.parent)


def converted(trained: Path, case: dict, out: Path, *options: object) -> nib.Nifti1Image:
    done(convert(trained, case["B30f"], out, *options))
    (path,) = sorted(out.rglob("*.nii.gz"))
    return nib.load(path)


def test_training_leaves_what_inference_needs(trained):
    assert {p.name for p in (trained / "models").iterdir()} == {"model.pt", "network.json", "filters.json"}
    definition = json.loads((trained / "models" / "network.json").read_text())
    assert definition["domains"] == DOMAINS
    assert definition["codec"] == {"hu": [-1024, 3071]}
    low, high = definition["spacing_mm"]
    assert 4 * 0.55 <= low <= high <= 4 * 0.85  # 128 pixels cover the field of 512
    state = torch.load(trained / "models" / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_training_shows_losses_and_both_kinds_of_validation(trained):
    with (trained / "training" / "validation.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert {"epoch", "unpaired_score", "spectrum_distance", "low_pass_change", "psnr"} == set(row)
    with (trained / "training" / "losses.csv").open(newline="") as file:
        columns = set(csv.DictReader(file).fieldnames)
    assert {"critic", "penalty", "guidance", "real_class", "fake_class", "cycle", "adversarial"} <= columns


def test_three_targets_give_three_outputs_on_the_grid_of_the_source_in_whole_hu(trained, chest, tmp_path):
    case = load_datalist(chest, "test")[0]
    source = nib.load(case["B30f"])
    images = {}
    for target in DOMAINS:
        output = converted(trained, case, tmp_path / target, "--target", target, "--source", "B30f")
        assert Path(output.get_filename()).name == f"{case['patient']}_B30f_synthetic_{target}.nii.gz"
        assert output.get_data_dtype() == np.int16
        assert output.shape == source.shape
        np.testing.assert_allclose(output.affine, source.affine, atol=1e-4)
        images[target] = output.get_fdata()
    for first, second in [("B30f", "B50f"), ("B50f", "B70f"), ("B30f", "B70f")]:
        assert np.abs(images[first] - images[second]).max() >= 1


def test_a_blend_of_two_kernels_is_a_target(physics, chest, tmp_path):
    case = load_datalist(chest, "test")[0]
    parts = [
        converted(physics, case, tmp_path / target, "--target", target, "--source", "B30f").get_fdata()
        for target in ("B50f", "B70f")
    ]
    blend = converted(physics, case, tmp_path / "blend", "--target", "{B50f: 0.5, B70f: 0.5}", "--source", "B30f")
    assert "0.5B50f+0.5B70f" in blend.get_filename()
    mean = (parts[0] + parts[1]) / 2
    assert np.abs(blend.get_fdata() - mean).mean() < 0.5 * np.abs(parts[0] - parts[1]).mean()


def test_the_physics_network_finds_its_source_by_itself_and_says_how(physics, chest, tmp_path):
    case = load_datalist(chest, "test")[0]
    process = done(convert(physics, case["B30f"], tmp_path / "out", "--target", "B70f"))
    assert "estimated from the noise, confidence" in process.stderr + process.stdout


def test_evaluation_scores_all_directions_with_all_methods(physics, chest, tmp_path):
    places = ["--dataset_dir", chest, "--output_dir", tmp_path, "--models_dir", physics / "models"]
    done(run(BUNDLE, "evaluating", ["inference", "evaluate"], *places, cwd=tmp_path))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary) == {f"{s}->{t}" for s in DOMAINS for t in DOMAINS if s != t}
    for methods in summary.values():
        assert set(methods) == {"network", "identity", "radial_filter", "radial_filter_unpaired", "band_energy"}
        for metrics in methods.values():
            assert {"psnr", "ssim", "rmse", "mae_lung_parenchyma"} <= set(metrics)
            assert "psnr_matched" not in metrics
    outputs = {path.name for path in tmp_path.rglob("*synthetic*.nii.gz")}
    assert len(outputs) == 6 * len(load_datalist(chest, "test"))
    ((blend, methods),) = json.loads((tmp_path / "blends.json").read_text()).items()
    assert blend == "B50f->0.5B30f+0.5B70f"
    assert set(methods) == {
        "network",
        "blend_of_outputs",
        "identity",
        "radial_filter",
        "radial_filter_unpaired",
        "band_energy",
    }
    # the filters are linear but for rounding and clipping, and an untrained physics network is one of them
    assert methods["network"]["psnr"]["mean"] == pytest.approx(methods["blend_of_outputs"]["psnr"]["mean"], abs=1.0)


def test_a_datalist_tells_the_kernels_and_all_but_the_target_are_converted(plain, chest, tmp_path):
    process = done(convert(plain, chest, tmp_path / "out", "--target", "B50f"))
    said = process.stderr + process.stdout
    assert "all of its test images with the kernels B30f, B70f are converted. Give `--source`" in said
    names = {path.name for path in (tmp_path / "out").rglob("*.nii.gz")}
    patients = [entry["patient"] for entry in load_datalist(chest, "test")]
    assert names == {f"{patient}_{source}_synthetic_B50f.nii.gz" for patient in patients for source in ("B30f", "B70f")}
    for patient in patients:
        assert f"{patient}_B70f.nii.gz': source kernel B70f (from the datalist)" in said


def test_the_filters_are_not_refitted_in_evaluation(physics, chest, tmp_path):
    """Evaluating with exchanged test targets leaves the fitted file as it is."""
    before = (physics / "models" / "filters.json").read_bytes()
    datalist = json.loads((chest / "datalist.json").read_text())
    for entry in datalist["test"]:
        entry["B50f"], entry["B70f"] = entry["B70f"], entry["B50f"]
    for name in ("images", "labels"):
        (tmp_path / name).symlink_to(chest / name)
    (tmp_path / "datalist.json").write_text(json.dumps(datalist))
    places = ["--dataset_dir", tmp_path, "--output_dir", tmp_path / "out", "--models_dir", physics / "models"]
    done(run(BUNDLE, "evaluating", ["inference", "evaluate"], *places, cwd=tmp_path))
    assert (physics / "models" / "filters.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "B71f"], "`target` must name one of the domains B30f, B50f, B70f, got 'B71f'. Did you mean"),
        (["--target", "{B30f: 0.5, B70f: 0.6}"], "the weights of `target` must sum to 1"),
        (["--source", "B31f"], "`source` must be one of the trained kernels"),
    ],
)
def test_wrong_targets_and_sources_end_in_one_line(plain, chest, tmp_path, options, message):
    case = load_datalist(chest, "test")[0]
    process = convert(plain, case["B30f"], tmp_path / "out", *options)
    assert process.returncode != 0
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not (tmp_path / "out").exists()


def test_what_is_not_in_hu_is_refused(plain, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "mr.nii.gz"
    nib.save(nib.Nifti1Image(rng.integers(0, 900, (64, 64, 1)).astype(np.int16), np.diag([0.7, 0.7, 1, 1])), path)
    process = convert(plain, path, tmp_path / "out")
    assert process.returncode != 0
    assert "is not a CT in HU" in process.stderr
    assert not (tmp_path / "out").exists()


def test_a_slice_size_that_the_discriminator_cannot_take_is_named(chest, tiny_kernel, tmp_path):
    places = ["--dataset_dir", chest, "--output_dir", tmp_path / "t", "--models_dir", tmp_path / "m"]
    process = run(BUNDLE, "training", ["train", tiny_kernel], *places, "--image_size", 100, cwd=tmp_path)
    assert process.returncode != 0
    assert "image_size" in process.stderr


@needs_shared("data", "kernel_pair_ct")
def test_a_real_scan_is_taken_as_it_is_and_warned_of(plain, tmp_path):
    (scan,) = shared("data", "kernel_pair_ct").glob("*soft*.nii.gz")
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.load(scan).slicer[:, :, 16:24], path)
    refused = convert(plain, path, tmp_path / "refused", "--target", "B70f")
    assert refused.returncode != 0
    assert "its kernel is probably none of ['B30f', 'B50f', 'B70f']" in refused.stderr
    assert "(--guards warn converts it from" in refused.stderr.replace("`", "")
    process = done(convert(plain, path, tmp_path / "out", "--target", "B70f", "--guards", "warn"))
    (output,) = (tmp_path / "out").rglob("*.nii.gz")
    source, image = nib.load(path), nib.load(output)
    assert image.shape == source.shape
    np.testing.assert_allclose(image.affine, source.affine, atol=1e-4)
    assert "Kernels live in lp/mm: the conversion may be wrong" in process.stderr + process.stdout
