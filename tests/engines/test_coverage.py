"""Coverage of shipped half-widths in an evaluation: measured per patient, never fitted."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from common.engines import TranslationEvaluator
from common.engines.coverage import CoverageRows, covered_patients
from common.reports.sections import coverage_section
from common.uncertainty import Uncertainty, shipped
from tests.helpers.bundles import ROOT
from tests.helpers.uncertainty import document

NAMES = {"patient": "p", "direction": "NECT->CECT"}


def volume(values: np.ndarray) -> MetaTensor:
    return MetaTensor(
        torch.as_tensor(values, dtype=torch.float32)[None], affine=torch.diag(torch.tensor([1, 1, 3, 1.0]))
    )


def half() -> np.ndarray:
    """A body in air whose left half has -50 HU and a half-width of 20, the other 100 HU and 60 (see `document`)."""
    values = np.full((64, 44, 2), -1000.0)
    values[2:32, 2:42] = -50.0
    values[32:62, 2:42] = 100.0
    return values


@pytest.fixture
def known(tmp_path: Path) -> Uncertainty:
    return Uncertainty(document(tmp_path / "models"))


@pytest.mark.parametrize(("error", "covered"), [(19.0, 1.0), (-19.0, 1.0), (40.0, 0.5), (61.0, 0.0)])
def test_the_share_of_voxels_within_the_half_width_is_that_of_the_known_halves(known, error, covered):
    rows = CoverageRows(known)
    source = half()
    rows.add(NAMES, volume(source), volume(source + error), source)
    (row,) = rows.rows
    # the source is smoothed before it is compared with 0: the 98 of 30 x 40 pixels beside air have the smaller one
    assert row["covered"] == pytest.approx(covered, abs=98 / 2400 + 0.005)
    assert row["error"] == pytest.approx(abs(error))
    assert row["half_width"] == pytest.approx(40.0, abs=40 * 98 / 2400 + 0.5)


def test_patients_are_counted_with_their_binomial_interval_and_the_promise_is_told(known, caplog):
    rows = CoverageRows(known)
    for number, error in enumerate([1.0] * 9 + [70.0]):
        rows.add({**NAMES, "patient": f"p{number}"}, volume(half()), volume(half() + error), half())
    with caplog.at_level(logging.INFO):
        facts = rows.summary()
    assert facts is not None
    found = facts["directions"]["NECT->CECT"]
    assert (found["patients"], found["covered"]) == (10, 9)
    assert found["interval"] == [0.555, 0.9975]  # Clopper and Pearson's table for 9 of 10
    assert found["voxels"] == pytest.approx(0.9, abs=0.01)
    assert "ends where they end" in facts["promise"]["sentence"]
    assert "9 of 10 patients" in caplog.text


def test_a_direction_that_was_not_calibrated_is_named_and_a_case_without_truth_left_out(known):
    rows = CoverageRows(known)
    rows.add({**NAMES, "direction": "B30f->B70f"}, volume(half()), volume(half()), half())
    rows.add(NAMES, volume(half()), volume(half()), None)
    facts = rows.summary()
    assert facts is not None
    assert facts["patients"] == []
    assert "was not calibrated" in facts["left_out"]["B30f->B70f"]


def test_without_a_calibration_nothing_is_measured_and_the_log_says_why(tmp_path, caplog):
    models = document(tmp_path / "models")
    (models / "model.pt").write_bytes(b"trained further")
    with caplog.at_level(logging.INFO):
        known = shipped(models)
    assert known is None
    assert "was measured with other weights" in caplog.text
    rows = CoverageRows(known)
    rows.add(NAMES, volume(half()), volume(half()), half())
    assert rows.summary() is None


def test_covered_means_at_least_the_promised_share():
    rows: list[dict[str, Any]] = [{"covered": share, "half_width": 1.0, "error": 1.0} for share in (0.9, 0.8999)]
    assert covered_patients(rows, 0.9)["covered"] == 1


def test_evaluation_measures_and_fits_nothing_and_the_report_tells(tmp_path, known):
    before = known.path.read_bytes()
    for name, values in {"NECT": half(), "CECT": half() + 70.0}.items():
        nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([1.0, 1.0, 3.0, 1.0])), tmp_path / f"{name}.nii")
    case = {"patient": "p", "NECT": str(tmp_path / "NECT.nii"), "CECT": str(tmp_path / "CECT.nii")}
    load = LoadImage(image_only=True, ensure_channel_first=True)

    def save(item: dict[str, Any]) -> dict[str, Any]:
        item["pred"].meta["saved_to"] = str(tmp_path / "out" / "p.nii")
        return item

    TranslationEvaluator(
        "cpu",
        [case],
        lambda item: {"image": load(item["image"])},
        {"network": lambda image, target: image.clone(), "identity": lambda image, target: image},
        directions=[["NECT", "CECT"]],
        save=save,
        output_dir=tmp_path / "out",
        bundle_root=tmp_path,
        network=torch.nn.Identity(),
        intervals=known,
    ).run()
    facts = json.loads((tmp_path / "out" / "coverage.json").read_text())
    (row,) = facts["patients"]  # of the network alone
    assert row["covered"] == 0.0
    assert row["error"] == pytest.approx(70.0)
    assert known.path.read_bytes() == before
    page = str(coverage_section(tmp_path / "out"))
    assert "0 of 1 patients" in page
    assert "measured on digital phantoms (test)" in page
    assert "covered" not in (tmp_path / "out" / "metrics.csv").read_text()
    assert str(coverage_section(tmp_path)) == ""


@pytest.mark.parametrize("bundle", sorted(path.name for path in (ROOT / "bundles").iterdir()))
def test_every_bundle_measures_its_shipped_half_widths(bundle):
    text = (ROOT / "bundles" / bundle / "configs" / "evaluate.yaml").read_text()
    assert "\nintervals: $common.uncertainty.shipped(@models_dir)" in text
    assert '\n  intervals: "@intervals"\n' in text
