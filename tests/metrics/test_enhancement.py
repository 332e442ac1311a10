"""Errors of a predicted enhancement on ellipses of known HU: every expected number is written down beforehand.

Figure 5 in numbers: what is removed where contrast was is correct, what is changed elsewhere is false.
"""

from __future__ import annotations

import numpy as np
import pytest

from common.metrics import (
    contrast_metrics,
    enhancement_errors,
    false_enhancement,
    removal_maps,
    removal_metrics,
    share_above,
)
from common.metrics.enhancement_regions import ORGANS, label_values, organ_masks, quiet_region, smooth_change

SPACING = (4 / 3, 4 / 3, 3.0)
NAMES = {"1": "liver", "6": "aorta", "16": "fat"}
# Centre (x, y), half axes and HU before and after contrast, in the order in which they are painted.
SHAPES = {
    "fat": ((64, 64), (56, 46), -100.0, -100.0),
    "liver": ((44, 62), (24, 20), 60.0, 110.0),
    "aorta": ((80, 70), (8, 8), 40.0, 150.0),
}


def ellipse(centre: tuple[int, int], axes: tuple[int, int]) -> np.ndarray:
    x, y = np.ogrid[:128, :128]
    inside = ((x - centre[0]) / axes[0]) ** 2 + ((y - centre[1]) / axes[1]) ** 2 <= 1.0
    return np.broadcast_to(inside[:, :, None], (128, 128, 3))


@pytest.fixture(scope="module")
def patient() -> dict[str, np.ndarray]:
    nect = np.full((128, 128, 3), -1000.0)
    truth, labels = nect.copy(), np.zeros(nect.shape, dtype=np.uint8)
    for name, (centre, axes, before, after) in SHAPES.items():
        inside = ellipse(centre, axes)
        nect[inside], truth[inside] = before, after
        labels[inside] = {v: int(k) for k, v in NAMES.items()}[name]
    return {"nect": nect, "truth": truth, "labels": labels}


def call(patient: dict[str, np.ndarray], prediction: np.ndarray, **more: object) -> dict[str, float]:
    options = {"labels": patient["labels"], "label_names": NAMES, "source": patient["nect"], "spacing_mm": SPACING}
    return contrast_metrics(prediction, patient["truth"], **{**options, **more})  # type: ignore[arg-type]


def test_the_truth_itself_is_without_error(patient: dict[str, np.ndarray]) -> None:
    values = call(patient, patient["truth"])
    for organ in ("liver", "aorta"):
        assert values[f"enhancement_bias_{organ}_hu"] == values[f"enhancement_mae_{organ}_hu"] == 0.0
    assert (values["mse_window"], values["psnr_window"], values["rmse_body_hu"]) == (0.0, 100.0, 0.0)
    assert values["false_enhancement_hu"] == 0.0
    assert values["dose_factor"] == pytest.approx(1.0)


def test_the_source_misses_the_whole_enhancement(patient: dict[str, np.ndarray]) -> None:
    values = call(patient, patient["nect"])
    assert values["enhancement_bias_liver_hu"] == -50.0
    assert values["enhancement_bias_aorta_hu"] == -110.0
    assert values["enhancement_true_liver_hu"] == 50.0
    assert values["enhancement_mae_aorta_hu"] == 110.0
    assert values["false_enhancement_hu"] == 0.0
    assert "dose_factor" not in values  # nothing was changed
    assert values["rmse_dose_hu"] == values["rmse_body_hu"]


def test_signed_and_absolute_errors_differ_where_errors_cancel() -> None:
    masks = {"aorta": np.ones((1, 2, 2), dtype=bool)}
    prediction = np.array([[[90.0, 110.0], [80.0, 100.0]]])
    assert enhancement_errors(prediction, np.full((1, 2, 2), 100.0), masks) == {"aorta": (-5.0, 10.0)}


def test_enhancement_in_fat_is_false_and_is_averaged_over_what_stays_dark(patient: dict[str, np.ndarray]) -> None:
    fat = patient["labels"] == 16
    values = call(patient, patient["truth"] + 30.0 * fat)
    # All of the fat that counts was raised by 30 HU; noise-free volumes have no other quiet place.
    assert values["false_enhancement_hu"] == pytest.approx(30.0, rel=0.05)
    lowered = call(patient, patient["truth"] - 30.0 * fat)
    assert lowered["false_enhancement_hu"] == pytest.approx(values["false_enhancement_hu"])


def test_a_ring_around_an_enhancing_organ_does_not_count(patient: dict[str, np.ndarray]) -> None:
    change = smooth_change(patient["truth"], patient["nect"], SPACING)
    quiet = quiet_region(change, patient["labels"] > 0, patient["labels"], NAMES)
    assert not quiet[patient["labels"] != 16].any()
    # One pixel beside the aorta a step of 110 HU, smoothed by 2.5 mm, is more than 6 HU; 12 mm away it is not.
    assert not quiet[90, 70, 1]
    assert quiet[98, 70, 1]


def test_without_labels_the_true_change_tells_where_nothing_enhances(patient: dict[str, np.ndarray]) -> None:
    raised = patient["truth"] + 20.0
    without = false_enhancement(raised, patient["truth"], patient["nect"], spacing_mm=SPACING)
    assert without == pytest.approx(20.0, rel=1e-6)
    nowhere = np.zeros(raised.shape, dtype=bool)
    assert false_enhancement(raised, patient["truth"], patient["nect"], spacing_mm=SPACING, body=nowhere) is None


def test_noise_of_the_source_is_no_false_enhancement(patient: dict[str, np.ndarray]) -> None:
    noise = np.random.default_rng(0).normal(0.0, 20.0, patient["nect"].shape)
    noisy = patient["nect"] + noise
    change = patient["truth"] - patient["nect"]
    values = call(patient, noisy + change, source=noisy)
    assert values["false_enhancement_hu"] < 0.5
    assert abs(values["enhancement_bias_liver_hu"]) < 1.0
    assert values["enhancement_mae_liver_hu"] == pytest.approx(20.0 * np.sqrt(2 / np.pi), rel=0.05)


def test_the_share_above_the_window_is_the_truths() -> None:
    truth = np.linspace(101.0, 300.0, 200).reshape(1, 1, 200)
    masks = {"kidney_cortex": np.ones(truth.shape, dtype=bool)}
    assert share_above(truth, masks) == {"kidney_cortex": 50.0}
    assert share_above(truth, masks, level_hu=250.0) == {"kidney_cortex": 25.0}


def test_what_is_undefined_is_left_out(patient: dict[str, np.ndarray]) -> None:
    window = {"mse_window", "psnr_window", "ssim_window", "ms_ssim_window_kernel7"}
    assert set(call(patient, patient["nect"], labels=None, source=None)) == window
    unlabelled = call(patient, patient["truth"], labels=None)
    assert set(unlabelled) - window == {
        "false_enhancement_hu", "rmse_body_hu", "psnr_body", "dose_factor", "rmse_dose_hu", "psnr_dose",
    }  # fmt: skip
    assert not any("spleen" in name for name in call(patient, patient["truth"]))
    assert not any("irreducible" in name for name in call(patient, patient["truth"]))
    air = np.full(patient["nect"].shape, -1000.0)
    assert contrast_metrics(air, air, source=air, spacing_mm=SPACING) == {}


def test_the_irreducible_error_comes_from_saved_numbers_only(patient: dict[str, np.ndarray]) -> None:
    spread = {"liver": {"sd_hu": 8.0}, "aorta": {"sd_hu": 15.0}, "spleen": {"sd_hu": 9.0}}
    first, second = (call(patient, patient[name], spread=spread) for name in ("nect", "truth"))
    assert first["irreducible_aorta_hu"] == 15.0
    assert first["irreducible_rmse_hu"] == second["irreducible_rmse_hu"] > 0.0
    assert "irreducible_spleen_hu" not in first  # this patient's volume shows none


def test_labels_are_found_by_name() -> None:
    assert label_values({"3": "aorta"}) == {"aorta": 3}
    labels = np.array([[[3.0, 3.0, 1.0]]])
    assert {k: int(m.sum()) for k, m in organ_masks(labels, {3: "aorta", 9: "liver"}).items()} == {"aorta": 2}
    assert set(ORGANS) < set(label_values(None))


def test_unequal_shapes_and_bad_numbers_are_refused(patient: dict[str, np.ndarray]) -> None:
    truth = patient["truth"]
    with pytest.raises(ValueError, match=r"`prediction` must have the shape \(128, 128, 3\) of the other volumes"):
        call(patient, truth[:-1])
    with pytest.raises(ValueError, match="`labels` must have the shape"):
        call(patient, truth, labels=patient["labels"][:, 1:])
    with pytest.raises(ValueError, match="`source` must be finite, got 49152 NaN"):
        call(patient, truth, source=truth * np.nan)
    with pytest.raises(ValueError, match="`spacing_mm` must be 2 or 3 positive numbers"):
        call(patient, truth, spacing_mm=(0, 1))
    with pytest.raises(ValueError, match=r"`window_hu` must be \(lowest, highest\) in HU, got \(200.0, -100.0\)"):
        call(patient, truth, window_hu=(200.0, -100.0))


REMOVAL_SPACING = (2.0, 2.0, 5.0)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """(NECT, CECT): a body of 40 HU in which a square of 40 pixels per side is 100 HU brighter after contrast."""
    nect = np.full((120, 120, 2), -1000.0)
    nect[10:110, 10:110] = 40.0
    cect = nect.copy()
    cect[40:80, 40:80] = 140.0
    return nect, cect


def test_a_perfect_remover_removes_all_and_changes_nothing_else(pair: tuple[np.ndarray, np.ndarray]) -> None:
    nect, cect = pair
    values = removal_metrics(nect, nect, source=cect, spacing_mm=REMOVAL_SPACING)
    assert values["removal_correct_hu"] == values["removal_true_hu"]
    # The region is the square and a rim of 2 pixels, where the smoothed step still exceeds 6 HU.
    assert values["removal_true_hu"] == pytest.approx(100.0 * 40**2 / 44**2, rel=0.05)
    assert values["removal_false_hu"] == 0.0


def test_half_of_the_removal_is_half_of_the_number(pair: tuple[np.ndarray, np.ndarray]) -> None:
    nect, cect = pair
    values = removal_metrics((nect + cect) / 2, nect, source=cect, spacing_mm=REMOVAL_SPACING)
    assert values["removal_correct_hu"] == pytest.approx(values["removal_true_hu"] / 2)


def test_change_elsewhere_is_false_whatever_its_sign(pair: tuple[np.ndarray, np.ndarray]) -> None:
    nect, cect = pair
    synthetic = nect.copy()
    synthetic[12:22, 12:108] += 25.0
    synthetic[96:106, 12:108] -= 25.0
    maps = removal_maps(synthetic, nect, cect, spacing_mm=REMOVAL_SPACING)
    assert np.abs(maps.correct).sum() == pytest.approx(100.0 * 40**2 * 2)
    assert np.abs(maps.false).sum() == pytest.approx(25.0 * 2 * 10 * 96 * 2)
    assert set(np.unique(maps.false)) == {-25.0, 0.0, 25.0}
    assert not (maps.correct * maps.false).any()
    np.testing.assert_array_equal(maps.correct + maps.false, cect - synthetic)


def test_the_maps_end_with_the_body(pair: tuple[np.ndarray, np.ndarray]) -> None:
    nect, cect = pair
    synthetic = nect.copy()
    synthetic[:5] += 500.0
    maps = removal_maps(synthetic, nect, cect, spacing_mm=REMOVAL_SPACING)
    assert not maps.false.any()
    body = np.zeros(nect.shape, dtype=bool)
    body[:, :, 0] = True
    assert not removal_maps(nect, nect, cect, spacing_mm=REMOVAL_SPACING, body=body).correct[:, :, 1].any()


def test_what_is_undefined_of_a_removal_is_left_out(pair: tuple[np.ndarray, np.ndarray]) -> None:
    nect, _ = pair
    assert removal_metrics(nect, nect, spacing_mm=REMOVAL_SPACING) == {}
    assert removal_metrics(nect, nect, source=nect, spacing_mm=REMOVAL_SPACING) == {"removal_false_hu": 0.0}


def test_unequal_shapes_are_refused(pair: tuple[np.ndarray, np.ndarray]) -> None:
    nect, cect = pair
    with pytest.raises(ValueError, match=r"`synthetic_nect` must have the shape \(120, 120, 2\)"):
        removal_maps(nect[1:], nect, cect, spacing_mm=REMOVAL_SPACING)
