"""Restoring clipped noise: moments of a censored normal distribution, and what must stay as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.testing import assert_close

from common.networks import (
    AttGANGenerator,
    CompactGenerator,
    DownSamplingGenerator,
    NECGenerator,
    PhysicsGenerator,
    ResNetGenerator,
    SPADEGenerator,
    SRUNITBackGenerator,
    SRUNITGenerator,
    StarGANGenerator,
    SuperResolutionGenerator,
    UNITBackGenerator,
    UNITGenerator,
)
from common.networks.layers import (
    FullPrecisionConv2d,
    RestoreClipped,
    crop_like,
    depth_by_share,
    in_full_precision,
    pad_to_multiple,
    without_autocast,
)


@pytest.mark.parametrize(
    ("multiple", "size"),
    [
        *[(multiple, size) for multiple in (2, 8, 128) for size in [(1, 2), (16, 17), (124, 160), (24, 256), (257, 1)]],
        *[(multiple, (3, 9, 30)) for multiple in (2, 8, 16)],
    ],
)
def test_pads_like_numpy_and_crops_back(size, multiple):
    image = torch.randn(2, 3, *size)
    padded = pad_to_multiple(image, multiple, -1.0)
    widths = [(0, 0), (0, 0)]
    for side in size:
        target = max(2, -(-side // multiple)) * multiple  # a whole number of blocks, two at least
        widths.append(((target - side) // 2, target - side - (target - side) // 2))
    assert_close(padded, torch.from_numpy(np.pad(image.numpy(), widths, constant_values=-1.0)))
    assert_close(crop_like(padded, image), image, rtol=0, atol=0)


def test_fitting_image_is_left_alone():
    image = torch.randn(1, 1, 16, 24)
    assert_close(pad_to_multiple(image, 8, -1.0), image, rtol=0, atol=0)


def test_crop_keeps_the_channels_of_the_output():
    assert crop_like(torch.zeros(1, 5, 16, 16), torch.zeros(1, 1, 13, 16)).shape == (1, 5, 13, 16)


def test_gradient_of_padding_and_cropping():
    image = torch.randn(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: crop_like(pad_to_multiple(x, 4, -1.0) ** 2, x), (image,))


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


TO_SECOND = torch.tensor([[0.0, 1.0, 0.0]])
GENERATORS = {
    "stargan": lambda: (StarGANGenerator(3, channels=8, num_res_blocks=1), TO_SECOND),
    "stargan_transposed": lambda: (StarGANGenerator(3, channels=8, num_res_blocks=1, upsample="transposed"), TO_SECOND),
    "attgan": lambda: (AttGANGenerator(3, channels=8, num_layers=3), TO_SECOND),
    "physics": lambda: (
        PhysicsGenerator(3, channels=8, num_res_blocks=1),
        torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.7]]),
    ),
    "resnet": lambda: (ResNetGenerator(channels=8, num_res_blocks=1),),
    "unit": lambda: (UNITGenerator(channels=8, num_res_blocks=1),),
    "unit_back": lambda: (UNITBackGenerator(channels=8, num_res_blocks=1), UNITGenerator(channels=8, num_res_blocks=1)),
    "nec": lambda: (NECGenerator(channels=(8, 8, 8), num_res_units=1),),
    "nec_plain": lambda: (NECGenerator(channels=(8, 8), num_res_units=0),),
    "nec_3d": lambda: (NECGenerator(3, channels=(8, 8), num_res_units=1),),
    "compact": lambda: (CompactGenerator(channels=(8, 8)),),
    "compact_3d": lambda: (CompactGenerator(3, channels=(8, 8)),),
    "spade": lambda: (SPADEGenerator(1, out_channels=1, channels=(8, 8), spade_channels=8),),
    "super_resolution": lambda: (SuperResolutionGenerator(channels=8, num_res_blocks=1),),
    "down_sampling": lambda: (DownSamplingGenerator(channels=8, num_res_blocks=1),),
    "sr_unit": lambda: (SRUNITGenerator(channels=8, num_res_blocks=1),),
    "sr_unit_back": lambda: (
        SRUNITBackGenerator(channels=8, num_res_blocks=1),
        SRUNITGenerator(channels=8, num_res_blocks=1),
    ),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_the_last_layer_of_each_generator_is_computed_in_float32_under_autocast(name):
    torch.manual_seed(0)
    network, *others = GENERATORS[name]()
    image = torch.rand(1, 1, *[16] * (3 if name.endswith("3d") else 2)) * 2 - 1
    with torch.no_grad():
        expected = network(image, *others)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = network(image, *others)
    assert output.dtype == torch.float32
    rounded = output.bfloat16().float()
    assert (rounded != output).float().mean() > 0.5, "the values are those of bfloat16"
    assert_close(output, expected, rtol=0.1, atol=0.1)


def test_a_layer_kept_in_float32_loses_nothing_but_what_its_input_lost():
    torch.manual_seed(0)
    layer, feature = FullPrecisionConv2d(4, 1, 3), torch.randn(1, 4, 8, 8).bfloat16()
    expected = layer(feature.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(layer(feature), expected, rtol=0, atol=0)
        assert_close(in_full_precision(layer, feature), expected, rtol=0, atol=0)


def test_without_autocast_the_precision_is_that_of_the_weights():
    layer, feature = FullPrecisionConv2d(1, 1, 1).double(), torch.ones(1, 1, 2, 2).double()
    assert layer(feature).dtype == torch.float64


def test_a_device_without_autocast_needs_none_of_it():
    with without_autocast(torch.device("meta")):
        assert FullPrecisionConv2d(1, 2, 1).to("meta")(torch.empty(1, 1, 4, 4, device="meta")).shape == (1, 2, 4, 4)
