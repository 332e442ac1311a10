"""Restoring clipped noise: moments of a censored normal distribution, and what must stay as it is."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import norm
from torch.testing import assert_close

from common.networks.layers import RestoreClipped, depth_by_share

HU = 2 / 4095  # a unit of [-1, 1] in HU


def air(mean_hu, sd_hu, seed=0, size=256):
    """White noise in units of [-1, 1], before a scanner clips it at -1024 HU, which is -1."""
    noise = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(seed))
    return -1 + (mean_hu + 1024 + sd_hu * noise) * HU


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.93])
def test_the_depth_is_that_of_a_censored_normal_distribution(share):
    t = -norm.ppf(share)  # the limit is 0, the SD 1, the mean t; expectations by scipy's integration
    depth = -norm(t, 1).expect(lambda y: y, ub=0, conditional=True)
    excess = norm(t, 1).expect(lambda y: y, lb=0)
    assert_close(depth_by_share(torch.tensor([share], dtype=torch.float64)).item(), depth / excess, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("mean_hu", "sd_hu"), [(-1000, 10), (-1000, 40), (-1000, 100), (-950, 90)])
def test_the_mean_of_clipped_air_comes_back(mean_hu, sd_hu):
    latent = air(mean_hu, sd_hu)
    stored = latent.clamp(min=-1)
    bias = (stored - latent).mean() / HU
    left = (RestoreClipped(below=1.0)(stored) - latent).mean() / HU
    assert abs(left) < 0.03 * bias + 0.05


def test_it_serves_the_mean_squared_error_of_a_softer_image():
    latent = air(-1000, 60)
    stored = latent.clamp(min=-1)
    soften = torch.nn.AvgPool2d(5, stride=1)
    error = lambda image: (soften(image) - soften(latent)).square().mean()  # noqa: E731
    assert error(RestoreClipped()(stored)) < 0.35 * error(stored)


def test_values_above_the_limit_and_images_without_air_stay_as_they_are():
    image = torch.rand(2, 1, 40, 33) * 1.8 - 0.8
    assert torch.equal(RestoreClipped()(image), image)
    stored = air(-1000, 40, size=32).clamp(min=-1)
    above = stored > -1
    assert torch.equal(RestoreClipped()(stored)[above], stored[above])


def test_padding_that_holds_no_noise_stays_at_the_limit():
    padding = torch.full((1, 1, 48, 48), -1.0)
    assert torch.equal(RestoreClipped()(padding), padding)


def test_tissue_beside_air_does_not_deepen_it():
    stored = air(-1000, 40, size=64).clamp(min=-1)
    alone = RestoreClipped()(stored)[..., :24]
    stored[..., 32:] = 0.0
    beside = RestoreClipped()(stored)[..., :24]
    assert_close(beside, alone)


def test_images_of_a_batch_do_not_touch_each_other():
    images = torch.cat([air(-1000, sd, seed=sd, size=33) for sd in (10, 40, 90)]).clamp(min=-1)
    restored = RestoreClipped()(images)
    for index in range(3):
        assert_close(restored[index : index + 1], RestoreClipped()(images[index : index + 1]))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`size` must be odd and >= 3, got 4"):
        RestoreClipped(size=4)
    with pytest.raises(ValueError, match=r"`below` must be above `limit` \(-1\), got -2"):
        RestoreClipped(below=-2.0)
    with pytest.raises(ValueError, match="4 dimensions"):
        RestoreClipped()(torch.zeros(4, 4))
