"""MMSR against numpy and scipy, and what gets gradient from which term."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.testing import assert_close

from common.losses import MultiModalitySRLoss, ssim_loss

FACTOR = 4


def images(batch=2, size=(16, 20)):
    """x, G1(x), y, G2(y) in [-1, 1], smooth enough to have a structure."""
    rng = np.random.default_rng(0)

    def image(height, width):
        noise = rng.uniform(-1, 1, (batch, 1, height, width))
        return torch.tensor(np.clip(3 * gaussian_filter(noise, (0, 0, 1.2, 1.2)) - 0.2, -1, 1), dtype=torch.float32)

    height, width = size
    large = FACTOR * height, FACTOR * width
    return image(height, width), image(*large), image(*large), image(height, width)


def numpy_ssim(first, second, c1=0.02, c2=0.06, window=11):
    """Wang et al., 2004, equation (13), in scipy's Gaussian window, where it lies inside of the image."""
    half = window // 2

    def local(values):
        inner = [slice(None), slice(None), slice(half, -half), slice(half, -half)]
        return gaussian_filter(values, (0, 0, 1.5, 1.5), radius=(0, 0, half, half))[tuple(inner)]

    first, second = first.double().numpy(), second.double().numpy()
    means = local(first), local(second)
    variances = local(first**2) - means[0] ** 2, local(second**2) - means[1] ** 2
    covariance = local(first * second) - means[0] * means[1]
    luminance = (2 * means[0] * means[1] + c1) / (means[0] ** 2 + means[1] ** 2 + c1)
    return float(np.mean(luminance * (2 * covariance + c2) / (variances[0] + variances[1] + c2)))


def numpy_terms(x, x_sr, y, y_lr):
    """Equations (1) to (3) with f and g written as reshapes."""
    x, x_sr, y, y_lr = (image.double() for image in (x, x_sr, y, y_lr))
    batch, _, height, width = x.shape
    pooled = x_sr.numpy().reshape(batch, 1, height, FACTOR, width, FACTOR).mean(axis=(3, 5))
    repeated = y_lr.numpy().repeat(FACTOR, axis=2).repeat(FACTOR, axis=3)
    return {
        "source_ssim": 1 - numpy_ssim(x, torch.tensor(pooled)),
        "target_ssim": 1 - numpy_ssim(y, torch.tensor(repeated)),
        "downsample": np.mean((x.numpy() - pooled) ** 2),
        "upsample": np.mean((y.numpy() - repeated) ** 2),
    }


def test_terms_and_total_are_the_papers():
    terms = MultiModalitySRLoss(FACTOR).terms(*images())
    expected = numpy_terms(*images())
    for name, value in expected.items():
        assert_close(terms[name], torch.tensor(value).float(), rtol=1e-5, atol=1e-6)
    total = 2 * expected["source_ssim"] + expected["target_ssim"] + expected["downsample"] + expected["upsample"]
    assert_close(terms["mmsr"], torch.tensor(total).float(), rtol=1e-5, atol=1e-6)
    assert_close(MultiModalitySRLoss(FACTOR)(*images()), terms["mmsr"], rtol=0, atol=0)


@pytest.mark.parametrize("window", [7, 11])
def test_with_zero_padding_there_is_a_window_around_each_pixel(window):
    first, second, _, _ = (image[..., :16, :16] for image in images(size=(16, 16)))
    value = ssim_loss(first, second, window=window, padding="zero")
    padded = [np.pad(image.numpy(), [(0, 0), (0, 0), *[(window // 2,) * 2] * 2]) for image in (first, second)]
    expected = 1 - numpy_ssim(*map(torch.tensor, padded), window=window)
    assert_close(value, torch.tensor(expected).float(), rtol=1e-5, atol=1e-6)
    tiny = torch.rand(1, 1, 4, 5)
    assert_close(ssim_loss(tiny, tiny, window=window, padding="zero"), torch.tensor(0.0), rtol=0, atol=1e-5)


def test_by_the_papers_words_the_statistics_are_the_whole_images():
    """Equation (1) in numpy; in windows the same two images are less alike."""
    x, x_sr, _, _ = images()
    x_sr = x_sr[..., :16, :20]
    expected = []
    for first, second in zip(x.double().numpy(), x_sr.double().numpy()):
        means, variances = (first.mean(), second.mean()), (first.var(), second.var())
        covariance = np.mean((first - means[0]) * (second - means[1]))
        top = (2 * means[0] * means[1] + 0.02) * (2 * covariance + 0.06)
        expected.append(1 - top / ((means[0] ** 2 + means[1] ** 2 + 0.02) * (variances[0] + variances[1] + 0.06)))
    assert_close(ssim_loss(x, x_sr, window=None), torch.tensor(np.mean(expected)).float(), rtol=1e-5, atol=1e-6)
    assert ssim_loss(x, x, window=None).abs() < 1e-6
    assert abs(ssim_loss(x, x_sr, window=None) - ssim_loss(x, x_sr)) > 0.01


def test_weights_constants_and_distance():
    weights = {"source_ssim": 0.3, "target_ssim": 0.5, "downsample": 7.0, "upsample": 11.0}
    loss = MultiModalitySRLoss(
        FACTOR, **{f"{name}_weight": value for name, value in weights.items()}, distance="l1", window=7, c1=0.1, c2=0.2
    )
    x, x_sr, y, y_lr = images()
    terms = loss.terms(x, x_sr, y, y_lr)
    assert_close(terms["mmsr"], sum(weights[name] * terms[name] for name in weights))
    repeated = y_lr.repeat_interleave(FACTOR, 2).repeat_interleave(FACTOR, 3)
    assert_close(terms["upsample"], (y - repeated).abs().mean())
    expected = 1 - numpy_ssim(y, repeated, c1=0.1, c2=0.2, window=7)
    assert_close(terms["target_ssim"], torch.tensor(expected).float(), rtol=1e-5, atol=1e-6)


def test_constant_images_differ_by_their_luminance_alone():
    """Closed form: (2 ab + C1) / (a^2 + b^2 + C1) with the standard 2, which equation (1) misprints."""
    a, b = 0.5, -0.25
    loss = ssim_loss(torch.full((1, 1, 16, 16), a), torch.full((1, 1, 16, 16), b))
    assert_close(loss, torch.tensor(1 - (2 * a * b + 0.02) / (a**2 + b**2 + 0.02)), rtol=1e-4, atol=1e-5)


def test_equal_images_have_no_loss_and_an_opposite_contrast_has_much():
    x = images()[0]
    x = x - x.mean()
    assert_close(ssim_loss(x, x), torch.tensor(0.0), rtol=0, atol=1e-6)
    assert ssim_loss(x, -x) > ssim_loss(x, torch.zeros_like(x)) > 0.1


def test_each_side_of_the_cycle_learns_from_its_own_terms():
    x, x_sr, y, y_lr = images()
    x_sr.requires_grad_()
    y_lr.requires_grad_()
    terms = MultiModalitySRLoss(FACTOR).terms(x, x_sr, y, y_lr)
    for name, learns, rests in (
        ("source_ssim", x_sr, y_lr),
        ("downsample", x_sr, y_lr),
        ("target_ssim", y_lr, x_sr),
        ("upsample", y_lr, x_sr),
    ):
        (gradient,) = torch.autograd.grad(terms[name], learns, retain_graph=True)
        assert gradient.abs().sum() > 0
        assert torch.autograd.grad(terms[name], rests, retain_graph=True, allow_unused=True) == (None,)


def test_descent_brings_the_average_of_the_output_to_the_input():
    x, x_sr, y, y_lr = images(1)
    x_sr.requires_grad_()
    loss = MultiModalitySRLoss(FACTOR)
    before = loss.terms(x, x_sr, y, y_lr)
    (step,) = torch.autograd.grad(before["mmsr"], x_sr)
    after = loss.terms(x, (x_sr - 20 * step).detach(), y, y_lr)
    assert after["source_ssim"] < before["source_ssim"]
    assert after["downsample"] < before["downsample"]


def test_flat_images_have_finite_gradients():
    x, x_sr, y, y_lr = (torch.full_like(image, -0.75) for image in images())
    x_sr.requires_grad_()
    MultiModalitySRLoss(FACTOR)(x, x_sr, y, y_lr).backward()
    assert x_sr.grad.isfinite().all()


def test_half_precision_is_compared_in_float32():
    batch = [image.bfloat16() for image in images()]
    loss = MultiModalitySRLoss(FACTOR)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*batch)
    assert value.dtype == torch.float32
    assert_close(value, loss(*(image.float() for image in batch)), rtol=0, atol=0)


def test_errors():
    for name in ("source_ssim", "target_ssim", "downsample", "upsample"):
        with pytest.raises(ValueError, match=rf"`{name}_weight` must be >= 0, got -1\."):
            MultiModalitySRLoss(**{f"{name}_weight": -1})
    with pytest.raises(ValueError, match=r"`factor` must be >= 2, got 1\."):
        MultiModalitySRLoss(1)
    with pytest.raises(ValueError, match=r"`c1` and `c2` must be > 0, got 0 and 0.06\."):
        MultiModalitySRLoss(c1=0)
    with pytest.raises(ValueError, match=r"`window` must be an odd number of pixels >= 1, or None, got 8\."):
        MultiModalitySRLoss(window=8)
    with pytest.raises(ValueError, match=r"`padding` must be one of \('valid', 'zero'\), got 'same'\."):
        MultiModalitySRLoss(padding="same")
    with pytest.raises(ValueError, match=r"`distance` must be one of \('mse', 'l1'\), got 'huber'\."):
        MultiModalitySRLoss(distance="huber")
    x, x_sr, y, y_lr = images(1)
    loss = MultiModalitySRLoss(FACTOR)
    with pytest.raises(
        ValueError, match=r"`fake_target` must be `factor` = 4 times .* \[1, 1, 64, 80\], got \[1, 1, 16"
    ):
        loss(x, x, y, y_lr)
    with pytest.raises(ValueError, match=r"`real_target` must be `factor` = 4 times .* got \[1, 1, 63, 80\]"):
        loss(x, x_sr, y[:, :, :-1], y_lr)
    with pytest.raises(ValueError, match=r"at least `window` = 11 pixels per side, got \[8, 20\]: use larger patches"):
        loss(x[:, :, :8], x_sr[:, :, :32], y, y_lr)
    with pytest.raises(ValueError, match=r"`first` and `second` must have the same shape"):
        ssim_loss(x, y)
