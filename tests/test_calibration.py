"""`python -m common calibrate`: fits on some patients, tests on others, and inference uses what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.data import MetaTensor

from common.calibration import Case, Cases, Fit, auc, calibrate_trained, fit_network, fit_strata, gate
from common.files import checksum
from common.phantoms import generate_phantom
from common.uncertainty import Pair, Uncertainty
from tests.helpers.bundles import bundle, done
from tests.helpers.commands import ROOT, python_m


def patients(count: int, seed: int, size: float = 1.0) -> list[Case]:
    """Patients whose errors have the SD 10 x (1 + feature 0), times a size of their own."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        features = rng.uniform(0, 4, (9, 3000)).astype(np.float32)
        own = size * np.exp(rng.normal(0, 0.1))
        error = (10 * (1 + features[0]) * own * rng.normal(size=3000)).astype(np.float32)
        labels = (features[0] > 3).astype(np.int16)
        made.append(Case(f"p{number}", "a->b", features, error, labels, features[:, ::10]))
    return made


@pytest.fixture(scope="module")
def fitted() -> Fit:
    fit = Fit(patients(16, 0), 0.9)
    for case in patients(30, 1):
        fit.add(case)
    fit.finish(0.9)
    return fit


def test_scales_follow_the_errors():
    """The 0.9 quantile of |N(0, s)| is 1.645 s."""
    (case,) = patients(1, 3)
    features, errors = np.tile(case.features, 6), np.abs(np.tile(case.error, 6))
    at = np.full((9, 2), 2.0, np.float32)
    at[0] = [0.5, 3.5]
    for scale in (fit_strata(features, errors, (0, 1), 0.9), fit_network(features, errors, 0.9)):
        low, high = scale(at)
        assert 1.645 * 15 * 0.6 < low < 1.645 * 15 * 1.6
        assert 2 < high / low < 4.2  # 3 without noise


def test_what_is_promised_is_measured_on_other_patients(fitted):
    rows = [{**fitted.measure(case, {1: "lesion"}, ["lesion"]), "counted": True} for case in patients(60, 2)]
    found = gate(rows, 0.9, 0.9)
    assert found["patients_covered"] >= 46  # of 60: 54 are expected, 4 SDs less
    assert found["promise_kept"]
    assert 0.88 < found["voxel_coverage"] < 0.97
    assert 0.88 < found["voxel_coverage_by_mean_factor"] < 0.9 + 2 / 31 + 0.01  # for 30 patients of the factor
    assert found["kind"] != "constant"
    assert found["half_width"] < found["half_widths"]["constant"]
    assert found["lesion_auc"][found["kind"]] > 0.95  # where the error is largest by construction
    assert found["structures"]["lesion"]["half_width"] > found["half_width"]
    assert found["false_novelty"] < 0.2


def test_larger_errors_than_promised_are_seen(fitted):
    rows = [{**fitted.measure(case, {}, []), "counted": True} for case in patients(20, 2, size=3.0)]
    found = gate(rows, 0.9, 0.9)
    assert found["patients_covered"] == 0
    assert not found["promise_kept"]
    assert not found["passed"]


@pytest.mark.parametrize(
    ("values", "inside", "expected"),
    [
        ([3, 1, 2], [True, False, False], 1.0),
        ([1, 1], [True, False], 0.5),
        ([1, 2, 3, 4], [True, False, True, False], 0.25),
    ],
)
def test_auc_is_the_share_of_pairs_in_order(values, inside, expected):
    assert auc(np.array(values, float), np.array(inside)) == expected


def cases_of(directions: list[list[str]], network) -> Cases:
    """Cases without a bundle: what `_cycle` looks at."""
    made = Cases.__new__(Cases)
    made.items = [{"direction": direction} for direction in directions]
    made.evaluator = SimpleNamespace(translators={"network": network})
    return made


def volume(values: np.ndarray) -> MetaTensor:
    return MetaTensor(torch.as_tensor(values, dtype=torch.float32)[None], affine=torch.eye(4))


def test_the_cycle_is_the_difference_of_the_way_back_by_the_network_from_the_source():
    """Back from b to a the network halves: of source 10 and output 30 comes 15, which is 5 off."""

    def network(image, target):
        assert (image.meta["source_domain"], target) == ("b", "a")
        return image * 0.5

    source, output = np.full((4, 4, 2), 10.0), np.full((4, 4, 2), 30.0)
    pair = Pair(source, output, np.ones((4, 4, 2), bool), (1.0, 1.0))
    both, one = (cases_of(directions, network) for directions in ([["a", "b"], ["b", "a"]], [["a", "b"]]))
    assert np.all(both._cycle(pair, volume(output), "a", "b") == 5.0)
    assert one._cycle(pair, volume(output), "a", "b") is None  # there is no way back


def test_the_way_back_of_finer_pixels_is_their_mean():
    output = np.zeros((8, 8, 1), np.float32)
    output[::2] = 20.0  # the mean of two neighbours is 10
    pair = Pair(np.full((8, 8, 1), 4.0), output, np.ones((8, 8, 1), bool), (0.5, 0.5), 2)
    found = cases_of([["a", "b"]], None)._cycle(pair, volume(output), "a", "b")
    assert np.all(found[1:-1, 1:-1] == 6.0)


def test_each_predictor_goes_through_the_gate(fitted):
    (case,) = patients(1, 9)
    rivals = {"cycle": np.abs(case.error), "ensemble": -np.abs(case.error)}
    row = fitted.measure(case._replace(rivals=rivals), {1: "lesion"}, ["lesion"])
    assert set(row["spearman"]) == {"strata", "network", "novelty", "cycle", "ensemble"} == set(row["lesion_auc"])
    assert row["spearman"]["cycle"] == pytest.approx(1.0)
    assert row["spearman"]["ensemble"] == pytest.approx(-1.0)


@pytest.mark.slow
def test_a_bundle_is_calibrated_and_writes_a_map(tmp_path):
    """On brains of 64 pixels: the file is bound to the weights, and inference writes half-widths beside the output."""
    path = generate_phantom("brain", tmp_path / "data", patients=30, slices=1, size=64, seed=5, workers=1)
    lists = json.loads(path.read_text())
    everyone = [*lists["training_paired"], *lists["validation"], *lists["test"]]
    path.write_text(
        json.dumps({**lists, "training": [], "training_paired": [], "validation": everyone[:24], "test": everyone[24:]})
    )
    models = tmp_path / "models"
    models.mkdir()
    for file in (ROOT / "bundles" / "nec_t1t2" / "models").glob("*.*"):
        if file.name != "uncertainty.json":
            (models / file.name).write_bytes(file.read_bytes())
    arguments = [
        "calibrate",
        "nec_t1t2",
        "--dataset_dir",
        tmp_path / "data",
        "--models_dir",
        models,
        "--lesions",
        "tumour",
        "--ensemble",
        ROOT / "bundles" / "nec_t1t2" / "models" / "unpaired",
    ]
    printed = done(python_m("common", [*arguments, "--device", "cpu"], cwd=tmp_path)).stdout
    assert "T1->T2: half-width" in printed
    assert "of 6 test patients" in printed
    content = json.loads((models / "uncertainty.json").read_text())
    assert content["weights_sha256"] == checksum(models / "model.pt")
    assert content["data"]["patients"] == {"scale": 6, "factor": 18, "test": 6}
    assert 0 < content["gate"]["directions"]["T1->T2"]["spearman"]["ensemble"] < 1
    assert Uncertainty(models).of(None, "T2").factor > 0
    scan = tmp_path / "data" / everyone[-1]["T1"]
    options = ["--models_dir", models, "--dataset_dir", scan, "--output_dir", tmp_path / "out", "--uncertainty", "True"]
    done(bundle("inference", ["inference"], *options, cwd=tmp_path))
    names = sorted(file.name for file in (tmp_path / "out").rglob("*.*"))
    stem = Path(scan).name.removesuffix(".nii.gz")
    assert names == [
        f"{stem}_synthetic_T2.json",
        f"{stem}_synthetic_T2.nii.gz",
        f"{stem}_synthetic_T2_uncertainty.nii.gz",
    ]
    told = json.loads((tmp_path / "out" / names[0]).read_text())["uncertainty"]
    assert told["mean_half_width"] > 0
    (models / "model.pt").write_bytes((models / "model.pt").read_bytes() + b" ")
    refused = bundle("inference", ["inference"], *options, cwd=tmp_path)
    assert refused.returncode != 0
    assert "was measured with other weights" in refused.stdout + refused.stderr


def brains(folder: Path, validation: int, test: int) -> Path:
    """Brains of 64 pixels, and a datalist in which `validation` and `test` have both domains."""
    count = validation + test + 6
    path = generate_phantom("brain", folder, patients=count, slices=1, size=64, seed=5, workers=1)
    lists = json.loads(path.read_text())
    everyone = [*lists["training_paired"], *lists["validation"], *lists["test"]]
    rest = everyone[validation + test :]
    images = [("T1", "T2")[number % 2] for number in range(len(rest))]
    parts = {
        "training": [{"patient": e["patient"], "image": e[name], "domain": name} for e, name in zip(rest, images)],
        "training_paired": rest,
        "validation": everyone[:validation],
        "test": everyone[validation : validation + test],
    }
    path.write_text(json.dumps({**lists, **parts}))
    return folder


def test_a_training_with_too_few_patients_is_complete_and_says_that_the_calibration_was_left_out(tmp_path, caplog):
    data, models = brains(tmp_path / "data", 2, 1), tmp_path / "models"
    models.mkdir()
    assert not calibrate_trained(ROOT / "bundles" / "nec_t1t2", models, data)
    assert "was not calibrated" in caplog.text
    assert "2 patients are in `validation`, at least 13 are needed" in caplog.text
    assert not list(models.iterdir())


def test_a_training_without_pairs_to_validate_on_says_that_the_calibration_was_left_out(tmp_path, caplog):
    validation, test = ([{"patient": f"{name}{n}", "T1": "t1.nii.gz"} for n in range(14)] for name in "vt")
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 2), np.float32), np.eye(4)), tmp_path / "t1.nii.gz")
    lists = {"name": "brains", "training": [], "validation": validation, "test": test}
    (tmp_path / "datalist.json").write_text(json.dumps(lists))
    models = ROOT / "bundles" / "nec_t1t2" / "models"
    before = (models / "uncertainty.json").read_bytes()
    assert not calibrate_trained(ROOT / "bundles" / "nec_t1t2", models, tmp_path, device="cpu")
    assert "was not calibrated" in caplog.text
    assert "it lacks ['T2']" in caplog.text
    assert (models / "uncertainty.json").read_bytes() == before


def test_who_does_not_want_it_is_not_told_of_it(tmp_path, caplog):
    assert not calibrate_trained(ROOT / "bundles" / "nec_t1t2", tmp_path, tmp_path / "absent", wanted=False)
    assert caplog.text == ""


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "bundles").iterdir()))
def test_each_training_ends_with_the_calibration_of_its_weights(name):
    for path in (ROOT / "bundles" / name / "configs").glob("*.yaml"):
        steps = yaml.safe_load(path.read_text()).get("run", [])
        if any("train#trainer.run" in str(step) for step in steps):
            assert str(steps[-1]).startswith("$common.calibration.calibrate_trained(@bundle_root, @models_dir"), path


@pytest.mark.slow
def test_a_training_calibrates_the_weights_that_it_wrote(tmp_path):
    data, models = brains(tmp_path / "data", 13, 4), tmp_path / "models"
    options = ["--dataset_dir", data, "--models_dir", models, "--output_dir", tmp_path / "out", "--device", "cpu"]
    small = ["--max_epochs", "1", "--samples_per_epoch", "2", "--val_interval", "1", "--image_size", "64"]
    small += ["--batch_size", "2", "--discriminator_def#num_scales", "1", "--discriminator_def#num_layers", "2"]
    done(bundle("training", ["train", "compact"], *options, *small, cwd=tmp_path))
    content = json.loads((models / "uncertainty.json").read_text())
    assert content["weights_sha256"] == checksum(models / "model.pt")
    assert content["data"]["patients"] == {"scale": 4, "factor": 9, "test": 4}


def test_too_few_patients_are_named():
    with pytest.raises(ValueError, match="At least 4 patients"):
        Fit(patients(3, 0), 0.9)
    fit = Fit(patients(4, 0), 0.9)
    for case in patients(8, 1):
        fit.add(case)
    with pytest.raises(ValueError, match="8 patients are too few"):
        fit.finish(0.9)
    fit.add(patients(1, 2)[0])
    assert fit.finish(0.9)["factors"]["patients"] == max(fit.scores[fit.kind])  # the ninth smallest of nine
