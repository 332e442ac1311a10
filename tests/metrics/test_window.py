"""MSE, PSNR and MS-SSIM in a CT window against closed forms and MONAI's own loop over slices.

Image quality of MR scaled to [0, 1]; expected values are closed forms.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import MultiScaleSSIMMetric

from common.metrics import scaled_quality, window_quality
from common.metrics.window import ms_ssim_kernel


def body(size: int = 128, slices: int = 2) -> np.ndarray:
    """A square of 50 HU that covers a quarter of each slice, in air."""
    volume = np.full((size, size, slices), -1000.0)
    quarter = size // 4
    volume[quarter:-quarter, quarter:-quarter] = 50.0
    return volume


def test_the_error_is_measured_on_the_window_scaled_to_one() -> None:
    truth = body()
    values = window_quality(np.where(truth > 0, truth + 75.0, truth), truth)
    # 75 of 300 HU in a quarter of the field.
    assert values["mse_window"] == pytest.approx(0.25 * 0.25**2)
    assert values["psnr_window"] == pytest.approx(-10 * np.log10(0.25 * 0.25**2))


def test_what_lies_outside_the_window_does_not_count() -> None:
    truth = body()
    truth[60:64, 60:64] = 900.0
    other = truth.copy()
    other[60:64, 60:64], other[:8] = 400.0, -3000.0
    assert window_quality(other, truth)["mse_window"] == 0.0
    wide = window_quality(other, truth, window_hu=(-100.0, 1000.0))
    assert wide["mse_window"] == pytest.approx(16 / 128**2 * (500 / 1100) ** 2)


def test_slices_without_body_are_left_out() -> None:
    truth = body(slices=3)
    truth[:, :, 2] = -1000.0
    prediction = np.where(truth > 0, truth + 75.0, truth)
    prediction[:, :, 2] = 200.0
    assert window_quality(prediction, truth)["mse_window"] == pytest.approx(0.25**3)
    nothing = np.zeros(truth.shape, dtype=bool)
    assert window_quality(prediction, truth, body=nothing) == {}


@pytest.mark.parametrize(("size", "kernel"), [(176, 11), (128, 7), (112, 7)])
def test_ms_ssim_is_monais_mean_over_slices_and_names_its_kernel(size: int, kernel: int) -> None:
    rng = np.random.default_rng(0)
    truth = body(size)
    prediction = truth + rng.normal(0, 30, truth.shape)
    values = window_quality(prediction, truth)
    metric = MultiScaleSSIMMetric(2, data_range=300.0, kernel_size=kernel)
    expected = []
    for index in range(2):
        images = (np.clip(v[None, None, :, :, index], -100, 200) + 100 for v in (prediction, truth))
        expected.append(float(metric(*(torch.tensor(i, dtype=torch.float32) for i in images))))
    name = "ms_ssim_window" if kernel == 11 else "ms_ssim_window_kernel7"
    assert values[name] == pytest.approx(np.mean(expected), abs=1e-5)
    assert sum("ms_ssim" in key for key in values) == 1


def test_images_too_small_for_five_scales_have_no_ms_ssim() -> None:
    assert ms_ssim_kernel((111, 300)) is None
    assert set(window_quality(body(64), body(64))) == {"mse_window", "psnr_window", "ssim_window"}


def test_a_window_that_does_not_rise_and_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`window_hu` must be \(lowest, highest\) in HU, got \(5, 5\)"):
        window_quality(body(), body(), window_hu=(5, 5))
    with pytest.raises(ValueError, match=r"`prediction` must have the shape \(128, 128, 2\)"):
        window_quality(body(64), body())


REFERENCE = (100.0, 600.0)


def disc(size: int = 128) -> np.ndarray:
    """Tissue of 1000 on a quarter of the field of 0, two slices."""
    truth = np.zeros((size, size, 2))
    truth[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1000.0
    return truth


def decoded(scaled: np.ndarray) -> np.ndarray:
    return REFERENCE[0] + scaled * (REFERENCE[1] - REFERENCE[0])


def test_a_prediction_that_only_has_the_references_units_is_perfect():
    truth = disc()
    values = scaled_quality(decoded(truth / 1000), truth, reference=REFERENCE)
    assert values == pytest.approx({"mse_x100": 0, "psnr_scaled": 100, "ssim_scaled": 1, "ms_ssim_kernel7": 1})


def test_the_error_is_that_of_the_networks_output():
    truth = disc()
    values = scaled_quality(decoded(truth / 1000 * 0.8), truth, reference=REFERENCE)
    assert values["mse_x100"] == pytest.approx(100 * 0.2**2 / 4)  # 0.2 on a quarter of the pixels
    assert values["psnr_scaled"] == pytest.approx(20.0)  # -10 log10(0.01)
    assert 0 < values["ms_ssim_kernel7"] < 1


def test_values_beyond_the_range_are_clipped():
    truth = disc()
    scaled = np.where(truth > 0, 1.5, -0.5)
    assert scaled_quality(decoded(scaled), truth, reference=REFERENCE)["mse_x100"] == pytest.approx(0)


@pytest.mark.parametrize(("size", "names"), [(64, set()), (128, {"ms_ssim_kernel7"}), (192, {"ms_ssim"})])
def test_the_kernel_of_the_similarity_is_named_where_the_image_is_small(size, names):
    found = scaled_quality(decoded(disc(size) / 1000), disc(size), reference=REFERENCE)
    assert {name for name in found if name.startswith("ms_ssim")} == names


def test_wrong_references_and_flat_truths_are_refused():
    with pytest.raises(ValueError, match=r"`reference` must be \(lowest, highest\) .*, got \(1\.0, 1\.0\)\."):
        scaled_quality(disc(), disc(), reference=(1.0, 1.0))
    with pytest.raises(ValueError, match=r"`truth` must have contrast between its percentiles .*, got 0\.0 for both\."):
        scaled_quality(disc(), 0 * disc(), reference=REFERENCE)
