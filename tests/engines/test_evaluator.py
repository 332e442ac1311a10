"""Scoring against an aligned truth that lies under a key of its own, and against the misaligned scan beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from common.engines import TranslationEvaluator
from common.images import save_volume
from common.metrics import contrast_metrics, read_rows, removal_metrics

LOAD = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])
RMSE = {"truth": 50.0, "CECT": 80.0, "NECT": 0.0}  # of the NECT against each, in a body that fills the field


def make_case(folder: Path, *, truth: bool = True) -> dict[str, str]:
    rng = np.random.default_rng(0)
    nect = rng.integers(-500, 500, (40, 40, 2))
    case = {"patient": "p"}
    for key, change in RMSE.items():
        if truth or key != "truth":
            volume = (nect + change).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(volume, np.diag([2.0, 2.0, 3.0, 1.0])), folder / f"p_{key}.nii.gz")
            case[key] = str(folder / f"p_{key}.nii.gz")
    labels = np.ones(nect.shape, dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([2.0, 2.0, 3.0, 1.0])), folder / "p_label.nii.gz")
    return {**case, "label": str(folder / "p_label.nii.gz")}


def evaluate(folder: Path, case: dict[str, str], **options: Any) -> TranslationEvaluator:
    def copy(volume: MetaTensor, target: str) -> MetaTensor:
        return volume

    out = folder / "out"
    directions = options.pop("directions", [["NECT", "CECT"]])
    save = {t: save_volume(str(out), t, data_root_dir=str(folder), dtype="int16") for _, t in directions}
    evaluator = TranslationEvaluator(
        "cpu", [case], LOAD, {"network": copy}, directions=directions, save=save, output_dir=out, bundle_root=folder,
        network=torch.nn.Identity(), label_names={1: "liver"}, data_range=300.0, matched=False, **options,
    )  # fmt: skip
    evaluator.run()
    return evaluator


def test_the_aligned_truth_counts_and_the_misaligned_scan_stands_beside_it(tmp_path: Path) -> None:
    evaluate(tmp_path, make_case(tmp_path), truth_keys={"CECT": "truth"}, more_metrics=contrast_metrics)
    (row,) = read_rows(tmp_path / "out" / "metrics.csv")
    assert row["direction"] == "NECT->CECT"
    assert row["rmse"] == pytest.approx(50.0)
    assert row["misaligned_rmse"] == pytest.approx(80.0)
    assert row["enhancement_bias_liver_hu"] == pytest.approx(-50.0)
    assert row["enhancement_true_liver_hu"] == pytest.approx(50.0)
    assert row["misaligned_mse_window"] > row["mse_window"] > 0.0
    assert not any(name.startswith("misaligned_") and "liver" in name for name in row)  # labels lie on the NECT
    (listed,) = json.loads((tmp_path / "out" / "cases.json").read_text())["cases"]
    assert listed["target"].endswith("p_truth.nii.gz")
    assert listed["prediction"] == "p_NECT_synthetic_CECT.nii.gz"


def test_without_an_aligned_truth_the_other_scan_is_taken_with_a_warning(tmp_path: Path) -> None:
    evaluate(tmp_path, make_case(tmp_path, truth=False), truth_keys={"CECT": "truth"})
    (row,) = read_rows(tmp_path / "out" / "metrics.csv")
    assert row["rmse"] == pytest.approx(80.0)
    assert not any(name.startswith("misaligned_") for name in row)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert "p: no aligned truth 'truth'; scored against its CECT, which is another scan." in run["warnings"]
    assert [alarm["text"] for alarm in run["alarms"]] == run["warnings"]
    about = {"patient": "p", "direction": "NECT->CECT", "about": "truth"}
    assert about.items() <= run["alarms"][0].items()


def test_without_truth_keys_nothing_has_changed(tmp_path: Path) -> None:
    evaluator = evaluate(tmp_path, make_case(tmp_path))
    (row,) = read_rows(tmp_path / "out" / "metrics.csv")
    assert row["rmse"] == pytest.approx(80.0)
    assert not any(name.startswith(("misaligned_", "enhancement_")) for name in row)
    assert not any("aligned" in warning["text"] for warning in evaluator.alarms)


def test_each_target_may_have_its_own_metrics(tmp_path: Path) -> None:
    directions = [["NECT", "CECT"], ["truth", "NECT"]]
    more = {"CECT": contrast_metrics, "NECT": removal_metrics}
    case = make_case(tmp_path)
    evaluate(tmp_path, case, truth_keys={"CECT": "truth"}, more_metrics=more, directions=directions)
    enhanced, removed = read_rows(tmp_path / "out" / "metrics.csv")
    assert "mse_window" in enhanced
    assert "removal_false_hu" not in enhanced
    assert removed["direction"] == "truth->NECT"
    assert removed["removal_true_hu"] == pytest.approx(50.0)
    assert removed["removal_correct_hu"] == 0.0  # the source was handed through


def test_the_task_is_recorded_as_the_bundle_declares_it_unless_an_overlay_says_otherwise(tmp_path: Path) -> None:
    def recorded(**options: Any) -> str | None:
        evaluate(tmp_path, case, **options)
        return json.loads((tmp_path / "out" / "run.json").read_text())["task"]

    case = make_case(tmp_path)
    assert recorded() is None
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps({"translation_task": "contrast_enhancement"}))
    assert recorded() == "contrast_enhancement"
    assert recorded(task="sequence_translation") == "sequence_translation"


def test_cases_whose_outputs_would_overwrite_each_other_or_that_lack_a_volume_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    case = make_case(tmp_path)
    twin = {**case, "NECT": str(tmp_path / "p_NECT.nii")}
    options = {"directions": [["NECT", "CECT"]], "save": {}, "output_dir": tmp_path / "out", "bundle_root": tmp_path}
    for cases, words in (
        ([case, twin], "would have one output, and the second would overwrite the first"),
        (
            [{"patient": "p", "image": "a.nii", "domain": "NECT"}],
            "must name its volumes 'NECT' and 'CECT', on one grid",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            TranslationEvaluator("cpu", cases, LOAD, {}, network=torch.nn.Identity(), **options)
    assert not (tmp_path / "out").exists()
