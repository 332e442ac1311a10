"""Irreducible error and dose factor: right by hand, by numpy's least squares, and by drawing many patients."""

from __future__ import annotations

import numpy as np
import pytest

from common.metrics import dose_values, enhancement_spread, irreducible_values

NAMES = {1: "liver", 6: "aorta", 13: "cyst"}
BODY = np.ones((10, 10, 2), dtype=bool)


@pytest.fixture
def labels() -> np.ndarray:
    """50 voxels of liver, 20 of aorta, 10 of cyst, 120 of something else."""
    flat = np.zeros(200, dtype=np.uint8)
    flat[:50], flat[50:70], flat[70:80] = 1, 6, 13
    return flat.reshape(10, 10, 2)


def patients(labels: np.ndarray, enhancements: list[tuple[float, float]]) -> list[tuple[np.ndarray, ...]]:
    nect = np.where(labels == 0, -100.0, 40.0)
    return [(nect, nect + liver * (labels == 1) + aorta * (labels == 6), labels) for liver, aorta in enhancements]


def test_the_spread_is_mean_and_sample_sd_over_patients(labels: np.ndarray) -> None:
    spread = enhancement_spread(patients(labels, [(40.0, 90.0), (60.0, 120.0), (50.0, 90.0)]), NAMES)
    assert spread["liver"] == {"mean_hu": 50.0, "sd_hu": 10.0, "patients": 3}
    assert spread["aorta"]["mean_hu"] == 100.0
    assert spread["aorta"]["sd_hu"] == pytest.approx(np.sqrt(300.0))
    assert spread["cyst"]["sd_hu"] == 0.0


def test_one_patient_has_no_spread(labels: np.ndarray) -> None:
    assert enhancement_spread(patients(labels, [(40.0, 90.0)]), NAMES) == {}
    assert enhancement_spread([]) == {}


def test_the_irreducible_error_weighs_variances_by_volume(labels: np.ndarray) -> None:
    spread = {"liver": {"sd_hu": 6.0}, "aorta": {"sd_hu": 10.0}, "spleen": {"sd_hu": 99.0}}
    values = irreducible_values(labels, spread, body=BODY, label_names=NAMES)
    assert values["irreducible_rmse_hu"] == pytest.approx(np.sqrt((50 * 36 + 20 * 100) / 200))
    assert (values["irreducible_liver_hu"], values["irreducible_aorta_hu"]) == (6.0, 10.0)
    assert "irreducible_spleen_hu" not in values


def test_it_is_the_error_of_the_perfect_predictor_of_the_mean(labels: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    drawn = [(float(a), float(b)) for a, b in zip(rng.normal(50, 6, 2000), rng.normal(110, 15, 2000))]
    cases = patients(labels, drawn)
    spread = enhancement_spread(cases, NAMES)
    mean = sum(cect for _, cect, _ in cases) / len(cases)
    measured = np.sqrt(np.mean([np.mean((mean - cect) ** 2) for _, cect, _ in cases]))
    stated = irreducible_values(labels, spread, body=BODY, label_names=NAMES)["irreducible_rmse_hu"]
    assert stated == pytest.approx(measured, rel=1e-3)


def test_one_factor_undoes_a_wrong_dose() -> None:
    rng = np.random.default_rng(1)
    nect, change = rng.normal(40, 20, BODY.shape), rng.uniform(0, 100, BODY.shape)
    values = dose_values(nect + 0.8 * change, nect + change, nect, body=BODY)
    assert values["dose_factor"] == pytest.approx(1.25)
    assert values["rmse_dose_hu"] == pytest.approx(0.0, abs=1e-9)
    assert values["rmse_body_hu"] == pytest.approx(0.2 * np.sqrt(np.mean(change**2)))
    assert values["psnr_body"] == pytest.approx(20 * np.log10(300 / values["rmse_body_hu"]))


def test_the_factor_is_numpys_least_squares_inside_the_body() -> None:
    rng = np.random.default_rng(2)
    nect, cect, prediction = (rng.normal(40, 30, BODY.shape) for _ in range(3))
    body = rng.uniform(size=BODY.shape) > 0.4
    predicted, true = (prediction - nect)[body], (cect - nect)[body]
    solution, residual, *_ = np.linalg.lstsq(predicted[:, None], true, rcond=None)
    values = dose_values(prediction, cect, nect, body=body)
    assert values["dose_factor"] == pytest.approx(solution[0])
    assert values["rmse_dose_hu"] == pytest.approx(np.sqrt(residual[0] / body.sum()))
    assert values["rmse_dose_hu"] < values["rmse_body_hu"]


def test_a_change_in_the_wrong_direction_is_scaled_to_nothing_and_no_change_stays() -> None:
    nect = np.zeros(BODY.shape)
    wrong = dose_values(nect - 30.0, nect + 40.0, nect, body=BODY)
    assert (wrong["dose_factor"], wrong["rmse_dose_hu"], wrong["rmse_body_hu"]) == (0.0, 40.0, 70.0)
    unchanged = dose_values(nect, nect + 40.0, nect, body=BODY)
    assert "dose_factor" not in unchanged
    assert unchanged["rmse_dose_hu"] == 40.0
    assert dose_values(nect, nect, nect, body=BODY)["psnr_body"] == 100.0


def test_errors(labels: np.ndarray) -> None:
    nowhere = ~BODY
    with pytest.raises(ValueError, match="`body` must cover at least one voxel, got an empty mask"):
        dose_values(labels, labels, labels, body=nowhere)
    with pytest.raises(ValueError, match="`body` must cover at least one voxel"):
        irreducible_values(labels, {}, body=nowhere)
    with pytest.raises(ValueError, match=r"`spread` of aorta must have an `sd_hu` >= 0, got -1\.0; measure"):
        irreducible_values(labels, {"aorta": {"sd_hu": -1.0}}, body=BODY, label_names=NAMES)
    with pytest.raises(ValueError, match=r"`nect` must have the shape \(10, 10, 2\) of the other volumes"):
        enhancement_spread([(labels[:5], labels, labels)])
