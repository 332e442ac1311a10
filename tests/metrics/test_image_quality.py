"""PSNR, SSIM, RMSE, MAE against closed forms, scikit-image and MONAI."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import SSIMMetric
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from common.metrics import mae, psnr, rmse, slice_quality, ssim_map


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.uniform(-100, 300, (41, 32))
    return truth + rng.normal(0, 40, truth.shape), truth


def test_closed_forms() -> None:
    truth = np.zeros((12, 12))
    prediction = truth.copy()
    prediction[0, 0], prediction[0, 1] = 3.0, -4.0
    assert rmse(prediction, truth) == pytest.approx((25 / 144) ** 0.5)
    assert mae(prediction, truth) == pytest.approx(7 / 144)
    assert psnr(prediction, truth, data_range=50.0) == pytest.approx(10 * np.log10(2500 * 144 / 25))


def test_psnr_equals_skimage(pair: tuple[np.ndarray, np.ndarray]) -> None:
    expected = peak_signal_noise_ratio(pair[1], pair[0], data_range=400.0)
    assert psnr(*pair, data_range=400.0) == pytest.approx(expected)


def test_ssim_equals_monai_and_skimage(pair: tuple[np.ndarray, np.ndarray]) -> None:
    mine = slice_quality(*pair, data_range=400.0)["ssim"]
    prediction, truth = (torch.as_tensor(image)[None, None].float() for image in pair)
    monai = SSIMMetric(spatial_dims=2, data_range=400.0, win_size=11, kernel_sigma=1.5)(prediction, truth)
    assert mine == pytest.approx(float(monai), abs=2e-4)  # MONAI computes in float32
    skimage = structural_similarity(
        pair[1], pair[0], data_range=400.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert mine == pytest.approx(skimage, abs=1e-12)


def test_the_mask_limits_every_measure(pair: tuple[np.ndarray, np.ndarray]) -> None:
    mask = np.zeros(pair[0].shape, dtype=bool)
    mask[10:25, 8:20] = True
    values = slice_quality(*pair, data_range=400.0, mask=mask)
    error = (pair[0] - pair[1])[10:25, 8:20]
    assert values["rmse_mask"] == pytest.approx(np.sqrt((error**2).mean()))
    assert values["mae_mask"] == pytest.approx(np.abs(error).mean())
    assert values["psnr_mask"] == pytest.approx(20 * np.log10(400 / np.sqrt((error**2).mean())))
    assert values["ssim_mask"] == pytest.approx(ssim_map(*pair, data_range=400.0)[10:25, 8:20].mean())
    assert values["mae"] == pytest.approx(np.abs(pair[0] - pair[1]).mean())


def test_an_exact_prediction_is_finite() -> None:
    image = np.random.default_rng(0).uniform(size=(16, 16))
    assert slice_quality(image, image, data_range=1.0) == {
        "psnr": 100.0,
        "ssim": pytest.approx(1.0),
        "rmse": 0.0,
        "mae": 0.0,
    }


def test_integers_do_not_wrap_around() -> None:
    prediction, truth = np.full((12, 12), 10, np.uint8), np.full((12, 12), 250, np.uint8)
    assert mae(prediction, truth) == 240.0


def test_error_messages() -> None:
    image = np.zeros((16, 16))
    with pytest.raises(ValueError, match=r"shape of `truth` \(16, 16\), got \(16, 15\)"):
        mae(np.zeros((16, 15)), image)
    with pytest.raises(ValueError, match=r"at least 11x11 pixels for SSIM, got shape \(10, 30\)"):
        ssim_map(np.zeros((10, 30)), np.zeros((10, 30)), data_range=1.0)
    with pytest.raises(ValueError, match=r"`data_range` must be a positive number .* got 0"):
        psnr(image, image, data_range=0)
    with pytest.raises(ValueError, match="`mask` must cover at least one pixel"):
        rmse(image, image, mask=np.zeros((16, 16), dtype=bool))
    with pytest.raises(ValueError, match=r"`mask` must have the shape of the images \(16, 16\), got \(4, 4\)"):
        rmse(image, image, mask=np.ones((4, 4), dtype=bool))
