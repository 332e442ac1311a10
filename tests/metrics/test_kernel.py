"""The physicist's numbers of a converted kernel: right on a simple chest, left out where undefined.

The emphysema index counts what lies below the threshold inside the lung, and nothing else.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats

from common.metrics.kernel import emphysema_index, kernel_curves, kernel_metrics, lung_metrics, perc15

SPACING = (0.7, 0.7, 5.0)
NAMES = {"1": "lung_parenchyma", "2": "emphysema", "4": "blood_pool"}


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """Lungs (a fifth of them emphysema) beside a heart."""
    result = np.zeros((240, 200, 2), dtype=np.uint8)
    result[40:110, 50:150], result[40:54, 50:150], result[130:200, 50:150] = 1, 2, 4
    return result


@pytest.fixture(scope="module")
def sharp(labels: np.ndarray) -> np.ndarray:
    x, y = np.meshgrid(np.arange(240) - 119.5, np.arange(200) - 99.5, indexing="ij")
    body = (np.hypot(x / 110, y / 90) < 1)[..., None]
    clean = np.where(body, np.select([labels == 1, labels == 2], [-860.0, -975.0], 40.0), -1000.0)
    blurred = ndimage.gaussian_filter(clean, [0.6, 0.6, 0])
    return blurred + np.random.default_rng(0).normal(0, 20, labels.shape)


def soften(volume: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(volume, [1.0, 1.0, 0])


def test_the_target_itself_is_without_error(sharp: np.ndarray, labels: np.ndarray) -> None:
    values = kernel_metrics(sharp, sharp, labels=labels, spacing_mm=SPACING, label_names=NAMES)
    assert [values[name] for name in ("noise_sd_error", "nps_error", "edge_error")] == [0.0, 0.0, 0.0]
    assert values["noise_sd"] == pytest.approx(20.0, rel=0.03)
    assert values["emphysema_true"] == pytest.approx(20.0)
    assert values["emphysema_index"] == values["emphysema_index_target"]
    assert values["emphysema_error"] == pytest.approx(abs(values["emphysema_index"] - 20.0))


def test_a_soft_image_lacks_noise_and_edges(sharp: np.ndarray, labels: np.ndarray) -> None:
    values = kernel_metrics(soften(sharp), sharp, labels=labels, spacing_mm=SPACING, label_names=NAMES)
    # A Gaussian of s = 1 pixel leaves white noise 1 / (2 sqrt(pi) s) of its SD, up to sampling.
    assert values["noise_sd"] == pytest.approx(20.0 / (2 * np.sqrt(np.pi)), rel=0.05)
    assert values["noise_sd_error"] == pytest.approx(1 - values["noise_sd"] / values["noise_sd_target"])
    assert 0.7 < values["nps_error"] < 1.0
    assert 0.1 < values["edge_error"] < 0.6


def test_what_is_undefined_is_left_out(sharp: np.ndarray, labels: np.ndarray) -> None:
    assert set(kernel_metrics(sharp, sharp, spacing_mm=SPACING)) == {"nps_error", "edge_error"}
    air = np.full(sharp.shape, -1000.0)
    assert kernel_metrics(air, air, spacing_mm=SPACING) == {}
    only_lung = np.where(labels == 4, 0, labels)
    assert "noise_sd" not in kernel_metrics(sharp, sharp, labels=only_lung, spacing_mm=SPACING)
    # A blank prediction has no edge, and all the spectrum is missing.
    blank = kernel_metrics(air, sharp, labels=labels, spacing_mm=SPACING)
    assert "edge_error" not in blank
    assert blank["nps_error"] == pytest.approx(1.0)
    assert all(np.isfinite(value) for value in blank.values())


def test_the_curves_are_plain_lists_up_to_nyquist(sharp: np.ndarray) -> None:
    curves = kernel_curves(soften(sharp), SPACING, reference_hu=sharp)
    assert set(curves) == {"nps_lp_mm", "nps", "edge_lp_mm", "edge"}
    assert all(type(value) is float for values in curves.values() for value in values)
    assert max(curves["nps_lp_mm"] + curves["edge_lp_mm"]) <= 0.5 / 0.7


def test_unequal_shapes_are_refused(sharp: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="`prediction` must have the shape of `truth`"):
        kernel_metrics(sharp[:-1], sharp, spacing_mm=SPACING)
    with pytest.raises(ValueError, match="`labels` must have the shape of `truth`"):
        kernel_metrics(sharp, sharp, labels=labels[:-1], spacing_mm=SPACING)


def test_the_share_of_a_known_mask() -> None:
    volume = np.full((10, 10, 2), 40.0)
    lung = np.zeros(volume.shape, dtype=bool)
    lung[:8] = True
    volume[lung] = -870.0
    volume[:2, :, 0] = -980.0  # 20 of 160 voxels
    volume[9] = -1000.0  # air outside the lung
    assert emphysema_index(volume, lung) == pytest.approx(12.5)
    assert emphysema_index(volume, lung, threshold_hu=-860.0) == 100.0


def test_noise_raises_the_index_by_the_normal_tail() -> None:
    volume = np.random.default_rng(0).normal(-870.0, 60.0, (60, 60, 20))
    expected = 100 * stats.norm.cdf((-950.0 + 870.0) / 60.0)
    assert emphysema_index(volume, np.ones(volume.shape)) == pytest.approx(expected, abs=0.5)


def test_wrong_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="`lung_mask` must hold at least one voxel, got none"):
        emphysema_index(np.zeros((4, 4, 1)), np.zeros((4, 4, 1)))
    with pytest.raises(ValueError, match=r"`lung_mask` must have the shape of `volume_hu` \(4, 4, 1\), got \(4, 4\)"):
        emphysema_index(np.zeros((4, 4, 1)), np.ones((4, 4)))


def test_perc15_is_the_percentile_of_the_lung_alone_and_noise_lowers_it():
    rng = np.random.default_rng(0)
    lung = np.zeros((40, 40, 4), dtype=bool)
    lung[10:30] = True
    volume = np.where(lung, -860.0, 40.0)
    assert perc15(volume, lung) == -860
    noisy = volume + rng.normal(0, 40, volume.shape)
    assert perc15(noisy, lung) == pytest.approx(-860 - 1.0364 * 40, abs=2.5)  # the normal distribution's quantile


def test_the_error_of_perc15_is_against_the_target():
    labels = np.ones((20, 20, 2), dtype=np.uint8)
    truth = np.random.default_rng(1).normal(-870, 30, labels.shape)
    values = kernel_metrics(truth - 12, truth, labels=labels, spacing_mm=(1, 1, 1), label_names=NAMES)
    assert values["perc15_error"] == pytest.approx(12)
    assert values["perc15"] == pytest.approx(values["perc15_target"] - 12)
    lung = lung_metrics(truth - 12, truth, labels=labels, spacing_mm=(1, 1, 1), label_names=NAMES)
    assert lung == {name: value for name, value in values.items() if name.startswith(("emphysema", "perc15"))}
    assert lung_metrics(truth, truth, spacing_mm=(1, 1, 1)) == {}
