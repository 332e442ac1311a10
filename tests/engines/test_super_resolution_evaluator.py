"""Evaluation of outputs on a finer grid than their source's: grids, scores, and what the report needs."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from common.engines import InterpolationTranslator, SuperResolutionEvaluator
from common.engines.super_resolution_evaluator import most_frequent
from common.images import save_volume
from common.metrics import read_rows
from common.phantoms.lung.imaging import coarser_affine
from common.transforms import DownSampleSlicesd

LOAD = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])
FACTOR = 4
MICRO = np.diag([-0.1, -0.1, 0.1, 1.0])  # to the patient's left and back, as the phantom


def make_case(folder: Path, *, seed: int = 0) -> dict[str, str]:
    """A clinical volume (16, 12, 2), and a truth and labels in micro voxels (64, 48, 8)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((64, 48, 8), dtype=np.uint8)
    labels[16:40, 12:36], labels[16:20, 12:36, :3] = 1, 5
    truth = np.rint(np.where(labels == 1, 40.0, -900.0) + rng.normal(0, 20, labels.shape)).astype(np.int16)
    clinical = truth.reshape(16, 4, 12, 4, 2, 4).mean(axis=(1, 3, 5)).astype(np.float32)
    case = {"patient": f"p{seed}"}
    volumes = {"clinical": (clinical, coarser_affine(MICRO, FACTOR)), "truth": (truth, MICRO), "label": (labels, MICRO)}
    for key, (volume, affine) in volumes.items():
        case[key] = str(folder / f"p{seed}_{key}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(volume, affine), case[key])
    return case


def evaluate(folder: Path, cases: list[dict[str, str]], **options: Any) -> SuperResolutionEvaluator:
    out = folder / "out"
    bicubic = InterpolationTranslator("bicubic", FACTOR)
    translators = {"network": InterpolationTranslator("nearest", FACTOR), "bicubic": bicubic}
    evaluator = SuperResolutionEvaluator(
        "cpu", cases, LOAD, options.pop("translators", translators), directions=[["clinical", "micro"]],
        truth_key="truth", save_as=functools.partial(save_volume, str(out), data_root_dir=str(folder)),
        data_range=1600.0, output_dir=out, bundle_root=folder, network=torch.nn.Identity(), label_names={1: "vessel"},
        **options,
    )  # fmt: skip
    evaluator.run()
    return evaluator


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate(folder, [make_case(folder), make_case(folder, seed=1)])
    return folder


def test_every_method_is_scored_against_the_mean_of_the_micro_slices(evaluated: Path):
    rows = read_rows(evaluated / "out" / "metrics.csv")
    assert {(row["patient"], row["method"]) for row in rows} == {
        (p, m) for p in ("p0", "p1") for m in ("network", "bicubic")
    }
    nearest = rows[0]
    clinical, truth = (
        np.asarray(nibabel.load(evaluated / f"p0_{key}.nii.gz").dataobj) for key in ("clinical", "truth")
    )
    error = clinical.repeat(4, axis=0).repeat(4, axis=1) - truth.reshape(64, 48, 2, 4).mean(axis=3)
    assert nearest["rmse"] == pytest.approx(np.sqrt((error**2).mean(axis=(0, 1))).mean(), rel=1e-5)
    assert nearest["consistency_mse"] == pytest.approx(0.0, abs=1e-6)
    assert nearest["contrast_vessel"] == pytest.approx(1.0, abs=0.02)  # its border is one of clinical pixels
    assert 0 < nearest["edge_width_true_vessel_mm"] < 0.1  # a step at the border: less than a pixel


def test_what_the_report_shows_lies_on_the_outputs_grid(evaluated: Path):
    (listed, _) = json.loads((evaluated / "out" / "cases.json").read_text())["cases"]
    volumes = {
        key: nibabel.load(evaluated / "out" / listed[key]) for key in ("prediction", "bicubic", "target", "label")
    }
    thick = MICRO @ np.diag([1.0, 1.0, 4.0, 1.0])
    thick[2, 3] = 1.5 * 0.1
    for key, image in volumes.items():
        assert image.shape == (64, 48, 2), key
        stored = nibabel.as_closest_canonical(image)
        expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(np.zeros((64, 48, 2), np.uint8), thick))
        np.testing.assert_allclose(stored.affine, expected.affine, atol=1e-5)
    truth = np.asarray(nibabel.load(evaluated / "p0_truth.nii.gz").dataobj)[::-1, ::-1]  # to right and front
    shown = np.asarray(nibabel.as_closest_canonical(volumes["target"]).dataobj)
    np.testing.assert_allclose(shown, truth.reshape(64, 48, 2, 4).mean(axis=3), atol=0.51)
    assert set(np.unique(np.asarray(volumes["label"].dataobj))) == {0, 1, 5}
    assert listed["source"].endswith("p0_clinical.nii.gz")


def test_a_patient_without_truth_is_scored_by_its_consistency(tmp_path: Path):
    case = {key: value for key, value in make_case(tmp_path).items() if key in ("patient", "clinical")}
    evaluator = evaluate(tmp_path, [case])
    assert set(evaluator.rows[0]) == {"patient", "direction", "method", "consistency_mse", "consistency_psnr"}
    (alarm,) = evaluator.alarms
    assert alarm["text"] == "p0: no truth 'truth'; only its consistency with the source counts."
    (listed,) = evaluator.cases
    assert "target" not in listed


def test_a_source_may_be_made_of_its_truth(tmp_path: Path):
    """The released code's test on micro CT: thin slices, down-sampled in plane; the file of a source is not read."""
    case = make_case(tmp_path) | {"clinical": "no/such/file.nii.gz"}
    case.pop("label")
    evaluator = evaluate(tmp_path, [case], reduce=DownSampleSlicesd("image", FACTOR))
    truth = np.asarray(nibabel.load(case["truth"]).dataobj, dtype=float)
    means = truth.reshape(16, 4, 12, 4, 8).mean(axis=(1, 3))
    row = evaluator.rows[0]
    error = means.repeat(4, axis=0).repeat(4, axis=1) - truth
    assert row["rmse"] == pytest.approx(np.sqrt((error**2).mean(axis=(0, 1))).mean(), rel=1e-5)
    assert row["consistency_mse"] == pytest.approx(0.0, abs=1e-6)
    (listed,) = evaluator.cases
    source = nibabel.load(tmp_path / "out" / listed["source"])
    np.testing.assert_allclose(np.asarray(source.dataobj), np.rint(means), atol=1.0)
    corner = MICRO @ [1.5, 1.5, 0, 1]
    np.testing.assert_allclose(source.affine @ [0, 0, 0, 1], corner, atol=1e-6)


def test_a_case_without_the_truth_that_its_source_is_made_of_is_refused(tmp_path: Path):
    case = {key: value for key, value in make_case(tmp_path).items() if key != "truth"}
    with pytest.raises(ValueError, match=r"must name its volumes 'truth', .* it lacks \['truth'\]"):
        evaluate(tmp_path, [case], reduce=DownSampleSlicesd("image", FACTOR))


def test_the_order_of_translators_does_not_matter(tmp_path: Path):
    """No translator changes the volume that the next one is given."""
    case = make_case(tmp_path)
    kinds = {
        "network": InterpolationTranslator("nearest", FACTOR),
        "bicubic": InterpolationTranslator("bicubic", FACTOR),
    }
    first = evaluate(tmp_path, [case], translators=kinds).rows
    second = evaluate(tmp_path, [case], translators=dict(reversed(kinds.items()))).rows
    assert first == second[::-1]


@pytest.mark.parametrize("wrong", ["factor", "place", "slices"])
def test_a_truth_on_another_grid_is_refused(tmp_path: Path, wrong: str):
    case = make_case(tmp_path)
    image = nibabel.load(case["truth"])
    data, affine = np.asarray(image.dataobj), image.affine.copy()
    if wrong == "factor":
        data, affine = data[::2, ::2], affine @ np.diag([2, 2, 1, 1])
    if wrong == "place":
        affine[0, 3] += 0.1
    if wrong == "slices":
        data = data[:, :, :7]
    nibabel.save(nibabel.Nifti1Image(data, affine), case["truth"])
    with pytest.raises(
        ValueError, match=r"p0_truth.nii.gz.*is not on the grid of .*p0_clinical.nii.gz' super-resolved"
    ):
        evaluate(tmp_path, [case])


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PSR", "AIL"])
def test_an_interpolation_keeps_world_positions_in_any_orientation(axes: str):
    rng = np.random.default_rng(0)
    canonical = nibabel.Nifti1Image(rng.normal(size=(6, 5, 4)).astype(np.float32), np.diag([0.6, 0.7, 2.0, 1.0]))
    change = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(canonical.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    stored = canonical.as_reoriented(change)
    volume = MetaTensor(
        torch.as_tensor(np.ascontiguousarray(stored.dataobj))[None], affine=torch.as_tensor(stored.affine)
    )
    finer = InterpolationTranslator("nearest", 2)(volume, "micro")
    expected = np.asarray(canonical.dataobj).repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(np.asarray(finer[0]), expected)
    corner = np.asarray(finer.affine) @ [-0.5, -0.5, 0.0, 1.0]
    np.testing.assert_allclose(corner, canonical.affine @ [-0.5, -0.5, 0.0, 1.0], atol=1e-6)
    np.testing.assert_array_equal(np.asarray(volume.affine), stored.affine)


def test_the_lowest_of_equally_frequent_labels_is_taken():
    assert most_frequent(np.array([[[3, 3, 1, 1]]]), 1).tolist() == [[[1]]]
