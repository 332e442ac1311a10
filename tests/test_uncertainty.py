"""Half-widths that keep their promise, are bound to the weights, and are written on the grid of the output."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import LoadImage
from pydicom import dcmread

from common.bundles import BUNDLES
from common.data import find_images
from common.dicom import image_readers
from common.inference import OutputCheck, RunRecord, SaveOutputd, outputs
from common.inference.shards import is_finished
from common.uncertainty import (
    Novelty,
    Scale,
    Uncertainty,
    binomial_interval,
    conformal_quantile,
    local_features,
    paired,
    patient_score,
    risk_factor,
)
from tests.helpers.dicom_series import write_source_series
from tests.helpers.uncertainty import NOVELTY, document


@pytest.mark.parametrize(
    ("n", "confidence", "rank"),
    [(9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (99, 0.9, 90), (4, 0.5, 3), (3, 0.75, 3)],
)
def test_the_quantile_has_the_rank_of_split_conformal_prediction(n, confidence, rank):
    """The rank is ceil((n + 1) x confidence), worked out by hand."""
    scores = np.random.default_rng(n).permutation(np.arange(1, n + 1))
    assert conformal_quantile(scores, confidence) == rank


def test_too_few_patients_are_refused_with_the_number_that_is_needed():
    with pytest.raises(ValueError, match=r"8 patients are too few.*at least 9 are needed"):
        conformal_quantile(range(8), 0.9)


def test_a_patients_score_is_the_smallest_factor_that_covers_its_share():
    error, scale = np.array([-4.0, 1.0, 9.0, 100.0, 0.0]), np.array([2.0, 1.0, 3.0, 10.0, 1.0])  # ratios 2, 1, 3, 10, 0
    assert patient_score(error, scale, 0.8) == 3.0
    assert patient_score(error, scale, 0.81) == 10.0
    assert np.mean(np.abs(error) <= 3.0 * scale) == 0.8


@pytest.mark.parametrize(("successes", "trials", "expected"), [(0, 10, (0.0, 0.3085)), (10, 10, (0.6915, 1.0))])
def test_the_binomial_interval_is_that_of_clopper_and_pearson(successes, trials, expected):
    """At the ends it is 1 - (alpha / 2)^(1 / n): 0.025^(1/10) is 0.6915."""
    assert binomial_interval(successes, trials) == pytest.approx(expected, abs=1e-4)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(9, 20),
    spread=st.floats(0.0, 1.5),
    heavy=st.booleans(),
)
def test_the_promise_holds_for_exchangeable_patients_whatever_their_errors(seed, n, spread, heavy):
    """Of 200 draws of calibration patients and a new one, it is covered in as many as promised (but for 4 SDs)."""
    rng = np.random.default_rng(seed)
    draws, voxels = 200, 40
    sizes = np.exp(rng.normal(0, spread, (draws, n + 1, 1)))
    errors = (rng.standard_t(2, (draws, n + 1, voxels)) if heavy else rng.normal(size=(draws, n + 1, voxels))) * sizes
    scale = 1 + np.arange(voxels) % 3
    covered = 0
    for patients in errors:
        scores = [patient_score(error, scale, 0.9) for error in patients[:-1]]
        half = conformal_quantile(scores, 0.9) * scale
        covered += np.mean(np.abs(patients[-1]) <= half) >= 0.9
    assert covered / draws >= 0.9 - 4 * np.sqrt(0.9 * 0.1 / draws)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(12, 30))
def test_the_mean_coverage_holds_and_is_not_much_more(seed, n):
    """Conformal risk control: at least `coverage`, at most 2 / (n + 1) more (Angelopoulos et al., theorems 1 and 2)."""
    rng = np.random.default_rng(seed)
    shares = []
    for _ in range(60):
        sizes = np.exp(rng.normal(0, 0.3, (n + 1, 1)))
        ratios = np.abs(rng.normal(size=(n + 1, 50))) * sizes
        shares.append(np.mean(ratios[-1] <= risk_factor(list(ratios[:-1]), 0.9)))
    error = 4 * np.std(shares) / np.sqrt(len(shares))
    assert 0.9 - error <= np.mean(shares) <= 0.9 + 2 / (n + 1) + error


def test_no_mean_coverage_is_promised_by_too_few_patients():
    assert np.isinf(risk_factor([np.arange(1.0, 11.0)] * 8, 0.9))
    assert risk_factor([np.arange(1.0, 11.0)] * 9, 0.9) == 10.0


def test_strata_and_network_give_the_scale_that_is_written_in_their_numbers():
    features = np.zeros((9, 3), np.float32)
    features[0] = [-5.0, 0.5, 7.0]
    strata = Scale("strata", {"features": [0, 1], "edges": [[0.0, 1.0], []], "values": [[1.0], [2.0], [3.0]]})
    assert strata(features).tolist() == [1.0, 2.0, 3.0]
    # one layer: log scale = 0.5 x feature 0 in SDs of 2
    one = {"mean": [0.0] * 9, "sd": [2.0] + [1.0] * 8, "layers": [[[[0.5] + [0.0] * 8], [0.0]]]}
    assert Scale("network", one)(features) == pytest.approx(np.exp([-1.25, 0.125, 1.75]), rel=1e-5)


def test_a_local_feature_tells_values_gradients_and_texture_apart():
    flat, ramp = np.full((32, 32), 40.0), np.arange(32.0)[:, None] * 3 + np.zeros((32, 32))
    noise = np.random.default_rng(0).normal(0, 10, (32, 32))
    of_flat, of_ramp, of_noise = (local_features(each, each, (1.0, 1.0))[:, 16, 16] for each in (flat, ramp, noise))
    assert of_flat == pytest.approx([40, 0, 0, 40, 0, 40, 0, 0, 0], abs=1e-4)
    assert of_ramp[1] == pytest.approx(3.0, abs=1e-3)
    assert 5 < of_noise[2] < 15


def test_novelty_is_zero_for_what_was_seen_and_grows_with_the_distance():
    novelty = Novelty(NOVELTY)
    features = np.zeros((9, 4), np.float32)
    features[0] = [0.0, 100.0, 300.0, -1000.0]
    assert novelty.distances(features) == pytest.approx([0, 1, 3, 10], abs=1e-6)
    assert novelty.p_value(0.5) == 1.0
    assert novelty.p_value(2.0) == 1 / 20


def test_a_coarser_source_is_brought_to_the_grid_of_its_output():
    source = np.arange(4.0)[:, None, None] * np.ones((4, 4, 2))
    fine = np.diag([0.5, 0.5, 1.0, 1.0])
    fine[:2, 3] = -0.25
    pair = paired(source, np.eye(4), np.zeros((8, 8, 2)), fine, hu=True)
    assert pair.source[:, 3, 1].tolist() == [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]
    assert pair.mask.all()


def test_another_training_is_refused_by_name(tmp_path):
    models = document(tmp_path / "models")
    assert Uncertainty(models).unit == "HU"
    (models / "model.pt").write_bytes(b"trained further")
    with pytest.raises(ValueError, match=r"measured with other weights than .*model.pt.*python -m common calibrate"):
        Uncertainty(models)
    (models / "uncertainty.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"does not exist.*python -m common calibrate"):
        Uncertainty(models)


@pytest.mark.parametrize("damage", [{"directions": {"NECT->CECT": {"scale": {}}}}, {"data": None}, {"directions": []}])
def test_a_damaged_file_is_named(damage, tmp_path):
    with pytest.raises(ValueError, match=r"uncertainty\.json is damaged"):
        Uncertainty(document(tmp_path / "models", **damage))


def test_a_direction_that_was_not_calibrated_is_refused(tmp_path):
    known = Uncertainty(document(tmp_path / "models"))
    assert known.of(None, "CECT") is known.of("NECT", "CECT")
    with pytest.raises(ValueError, match=r"B30f to B70f was not calibrated.*has NECT->CECT"):
        known.of("B30f", "B70f")


def scan(folder: Path, codes: str = "RAS") -> MetaTensor:
    """A volume of -1000, -50 and 100 HU, stored along the given axes."""
    values = np.full((24, 20, 6), -1000.0)
    values[4:20, 4:16] = -50.0
    values[12:20, 4:16] = 100.0
    upright = nib.Nifti1Image(values.astype(np.int16), np.diag([1.0, 2.0, 3.0, 1.0]))
    change = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    (folder / "in").mkdir()
    nib.save(upright.as_reoriented(change), folder / "in" / "scan.nii.gz")
    return LoadImage(ensure_channel_first=True)(folder / "in" / "scan.nii.gz")


def saver(folder: Path) -> SaveOutputd:
    record = RunRecord(
        folder, document(folder / "models"), network=torch.nn.Identity(), target="CECT", guards="off", uncertainty=True
    )
    places = {"output_dir": folder / "out", "data_root_dir": folder / "in"}
    return SaveOutputd("pred", record, OutputCheck("CT", (-100, 200)), dtype="int16", **places)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_the_map_has_the_grid_and_the_unit_of_the_output(codes, tmp_path, caplog):
    """Half-widths are 20 where the source is below 0 HU and 60 above, along whatever axes the file is stored."""
    image, save = scan(tmp_path, codes), saver(tmp_path)
    with caplog.at_level(logging.INFO):
        save({"original": image, "pred": MetaTensor(image.clone() + 5, meta=dict(image.meta))})
    output = nib.load(tmp_path / "out" / "scan_synthetic_CECT.nii.gz")
    found = nib.load(tmp_path / "out" / "scan_synthetic_CECT_uncertainty.nii.gz")
    assert found.shape == output.shape
    assert np.allclose(found.affine, output.affine)
    assert found.get_data_dtype() == np.float32
    stored = nib.as_closest_canonical(found).get_fdata()
    assert set(np.unique(stored[~np.isnan(stored)])) == {20.0, 60.0}
    assert np.all(stored[6:10, 6:14] == 20.0)
    assert np.all(stored[14:18, 6:14] == 60.0)
    assert np.isnan(stored[:2]).all()
    facts = json.loads((tmp_path / "out" / "scan_synthetic_CECT.json").read_text())
    assert [entry["file"] for entry in facts["output"]] == [
        Path(output.get_filename()).name,
        Path(found.get_filename()).name,
    ]
    told = facts["uncertainty"]
    assert (told["unit"], told["promise"]["coverage"], told["locates_errors"]) == ("HU", 0.9, False)
    assert "measured on digital phantoms (test)" in told["promise"]["sentence"]
    assert told["novelty"]["flagged"]  # a score far above the 19 of 1.0: p is 1 / 20
    assert any("ends where they end" in line for line in caplog.messages)
    assert any("looks unlike the patients" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("output_format", "maps"),
    [("dicom", ["scan_synthetic_CECT_uncertainty"]), ("both", ["{}.nii.gz", "scan_synthetic_CECT_uncertainty"])],
)
def test_dicom_output_has_its_map_as_a_parametric_map(output_format, maps, tmp_path):
    pytest.importorskip("highdicom", reason="the extra `dicom` brings it")
    values = np.asarray(scan(tmp_path)[0])
    shutil.rmtree(tmp_path / "in")
    series = write_source_series(tmp_path / "in" / "scan", values, np.diag([-1.0, -2.0, 3.0, 1.0]))
    image = LoadImage(reader=image_readers(), ensure_channel_first=True)(series)
    models = document(tmp_path / "models")
    record = RunRecord(
        BUNDLES / "nect2cect", models, network=torch.nn.Identity(), target="CECT", guards="off", uncertainty=True
    )
    places = {"output_dir": tmp_path / "out", "data_root_dir": tmp_path / "in", "output_format": output_format}
    save = SaveOutputd("pred", record, OutputCheck("CT", (-100, 200)), dtype="int16", **places)
    save({"original": image, "pred": MetaTensor(image.clone() + 5, meta=dict(image.meta))})
    facts = json.loads((tmp_path / "out" / "scan_synthetic_CECT.json").read_text())
    named = [entry.get("file") or entry["folder"] for entry in facts["output"]]
    wanted = [name.format("scan_synthetic_CECT_uncertainty") for name in maps]
    assert [name for name in named if "uncertainty" in name] == wanted
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*named, "scan_synthetic_CECT.json"])
    found = dcmread(tmp_path / "out" / "scan_synthetic_CECT_uncertainty" / "00001.dcm")
    assert set(np.unique(found.pixel_array)) == {-1.0, 20.0, 60.0}
    words = "at least 90% of the foreground lie within output +/- half-width"
    assert words in found.DerivationDescription
    assert "measured on digital phantoms (test)" in found.DerivationDescription
    assert "does not mean that a voxel is right" in found.DerivationDescription  # as the gate failed
    sidecar = tmp_path / "out" / "scan_synthetic_CECT.json"
    assert is_finished(sidecar, str(series), record, output_format=output_format)


def test_a_map_for_which_there_is_no_memory_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    image, save = scan(tmp_path), saver(tmp_path)
    monkeypatch.setattr(outputs, "available_memory", lambda: 24 * 24 * 20 * 6 - 1)
    with pytest.raises(ValueError, match=r"scan\.nii\.gz.*of memory.*leave `--uncertainty` out"):
        save({"original": image, "pred": MetaTensor(image.clone(), meta=dict(image.meta))})
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_map_is_not_taken_for_a_scan(tmp_path):
    (tmp_path / "scan.nii.gz").touch()
    (tmp_path / "scan_synthetic_T2.nii.gz").touch()
    (tmp_path / "scan_synthetic_T2_uncertainty.nii.gz").touch()
    names = ("scan_synthetic_T2.nii.gz", "scan_synthetic_T2_uncertainty.nii.gz")
    (tmp_path / "scan_synthetic_T2.json").write_text(json.dumps({"output": [{"file": name} for name in names]}))
    assert find_images(tmp_path) == [{"image": str(tmp_path / "scan.nii.gz")}]
