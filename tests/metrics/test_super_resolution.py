"""Scores of a super-resolved volume against numbers known by construction.

The radial power spectrum of slices and its distance.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.metrics import consistency, radial_power_spectrum, spectrum_distance, super_resolution_metrics, thick_slices

FACTOR = 4
NAMES = {1: "vessel", 4: "tumour"}


def case() -> dict[str, np.ndarray]:
    """A vessel in noise, in 4 micro slices that make one clinical slice."""
    rng = np.random.default_rng(0)
    labels = np.zeros((64, 64, 4), dtype=np.uint8)
    labels[20:44, 20:44] = 1
    micro = np.where(labels == 1, 45.0, -900.0) + rng.normal(0.0, 20.0, labels.shape)
    truth = micro.mean(axis=2, keepdims=True)
    source = truth.reshape(16, FACTOR, 16, FACTOR, 1).mean(axis=(1, 3))
    return {"labels": labels, "micro": micro, "truth": truth, "source": source}


def scores(prediction: np.ndarray, **changes: np.ndarray | None) -> dict[str, float]:
    data = case()
    options = {"truth": data["truth"], "labels": data["labels"], **changes}
    return super_resolution_metrics(
        prediction, data["source"], spacing_mm=(0.08, 0.08), label_names=NAMES, data_range=1600.0, **options
    )


def test_the_truth_itself_is_perfect():
    values = scores(case()["truth"])
    assert values["consistency_mse"] == pytest.approx(0.0, abs=1e-9)
    assert values["psnr"] == 100.0
    assert values["ssim"] == pytest.approx(1.0)
    assert values["spectrum_distance"] == values["mae"] == 0.0
    assert values["contrast_vessel"] == values["edge_ratio_vessel"] == 1.0
    assert values["edge_width_vessel_mm"] == values["edge_width_true_vessel_mm"]
    assert not any("tumour" in name for name in values)


def test_halved_contrast_is_half_and_a_blurred_edge_wider():
    truth = case()["truth"]
    assert scores(-400.0 + 0.5 * truth)["contrast_vessel"] == pytest.approx(0.5)
    blurred = scores(ndimage.gaussian_filter(truth, (2.0, 2.0, 0.0)))
    assert blurred["edge_ratio_vessel"] > 3.0
    assert blurred["contrast_vessel"] < 1.0
    assert blurred["spectrum_distance"] > 0.5


def test_a_shift_of_level_is_measured_as_such():
    values = scores(case()["truth"] + 16.0)
    assert values["consistency_mse"] == pytest.approx(256.0)
    assert values["consistency_psnr"] == values["psnr"] == pytest.approx(40.0)  # 20 log10(1600 / 16)
    assert values["rmse"] == values["mae"] == pytest.approx(16.0)
    assert values["contrast_vessel"] == pytest.approx(1.0)


def test_without_a_truth_only_the_consistency_is_measured():
    assert set(scores(case()["truth"], truth=None)) == {"consistency_mse", "consistency_psnr"}
    assert not any("vessel" in name for name in scores(case()["truth"], labels=None))


def test_nearest_neighbour_is_consistent_and_a_permutation_within_pixels_is_too():
    source = case()["source"]
    nearest = source.repeat(FACTOR, axis=0).repeat(FACTOR, axis=1)
    assert consistency(nearest, source, data_range=1600.0)["consistency_psnr"] == 100.0
    shuffled = nearest + np.tile([[3.0, -3.0], [-3.0, 3.0]], (32, 32))[:, :, None]
    assert consistency(shuffled, source, data_range=1600.0)["consistency_mse"] == pytest.approx(0.0)


def test_the_truth_of_a_clinical_slice_is_the_mean_of_its_micro_slices():
    micro = case()["micro"]
    np.testing.assert_allclose(thick_slices(micro, 2)[:, :, 1], (micro[:, :, 2] + micro[:, :, 3]) / 2)
    np.testing.assert_allclose(thick_slices(micro, 1), case()["truth"])


def test_sizes_that_do_not_fit_are_refused():
    truth = case()["truth"]
    with pytest.raises(ValueError, match=r"a whole number of times as large as `source` \(16, 16, 1\)"):
        scores(truth[:63])
    with pytest.raises(
        ValueError, match=r"`prediction` must have the shape of `truth` \(64, 64, 1\), got \(32, 32, 1\)"
    ):
        scores(truth[::2, ::2])
    with pytest.raises(ValueError, match="`volume` must have a multiple of 3 slices, got 4"):
        thick_slices(case()["micro"], 3)


SPACING = (0.1, 0.1)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 30.0, (96, 96, 6))


def test_white_noise_has_the_power_of_its_variance_at_every_frequency():
    frequency, power = radial_power_spectrum(noise(), SPACING)
    assert frequency[-1] <= 5.0
    assert np.all(np.diff(frequency) > 0)
    np.testing.assert_allclose(power[3:], 30.0**2 * 0.01, rtol=0.35)
    assert power.mean() == pytest.approx(9.0, rel=0.03)


def test_a_wave_has_its_power_at_its_frequency():
    x = np.arange(96) * 0.1
    wave = np.tile(np.sin(2 * np.pi * 2.5 * x)[:, None, None], (1, 96, 1))
    frequency, power = radial_power_spectrum(wave, SPACING)
    assert frequency[power.argmax()] == pytest.approx(2.5, abs=0.06)


def test_the_distance_is_in_decades_and_blind_to_position():
    first = noise()
    assert spectrum_distance(first, first, SPACING) == 0.0
    assert spectrum_distance(first * 10**0.5, first, SPACING) == pytest.approx(1.0)
    assert spectrum_distance(first / 10**0.5, first, SPACING) == pytest.approx(1.0)
    assert spectrum_distance(noise(1), first, SPACING) < 0.1


def test_an_image_without_structure_is_six_decades_off():
    assert spectrum_distance(np.zeros((96, 96, 6)), noise(), SPACING) == pytest.approx(6.0)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(
        ValueError, match=r"`prediction` must have the shape of `truth` \(96, 96, 6\), got \(96, 96, 5\)"
    ):
        spectrum_distance(noise()[:, :, :5], noise(), SPACING)
    with pytest.raises(ValueError, match="`truth` must vary from pixel to pixel"):
        spectrum_distance(noise(), np.zeros((96, 96, 6)), SPACING)
