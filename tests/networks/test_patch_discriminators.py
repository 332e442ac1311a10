"""The patch discriminators: sizes, receptive fields, scales and padding."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from common.networks import DCGANDiscriminator, PatchDiscriminatorPyramid


def map_size(side, num_layers):
    """Side of the logit map: `num_layers` convolutions of stride 2, then two of stride 1; all kernel 4, padding 1."""
    for stride in [2] * num_layers + [1, 1]:
        side = (side + 2 - 4) // stride + 1
    return side


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("num_scales", [1, 2, 3])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize(
    ("batch", "channels", "size"), [(1, 1, (48, 61)), (2, 3, (64, 50)), (3, 2, (49, 48)), (1, 1, (48, 50, 48))]
)
def test_one_map_a_scale(num_scales, num_layers, batch, channels, size):
    discriminator = PatchDiscriminatorPyramid(
        len(size), channels, num_scales=num_scales, channels=2, num_layers=num_layers
    )
    logits = discriminator(torch.randn(batch, channels, *size))
    expected = [(batch, 1, *[map_size(side // 2**scale, num_layers) for side in size]) for scale in range(num_scales)]
    assert [tuple(scale.shape) for scale in logits] == expected


def test_paper_size():
    def convolution(inputs, outputs, bias):
        return 16 * inputs * outputs + (outputs if bias else 0)

    one = (
        convolution(1, 64, True)
        + convolution(64, 128, False)
        + convolution(128, 256, False)
        + convolution(256, 512, False)
        + convolution(512, 1, True)
    )
    discriminator = PatchDiscriminatorPyramid()
    assert count(discriminator) == 3 * one
    assert f"{3 * one:,} parameters" in PatchDiscriminatorPyramid.__doc__
    assert [scale.shape[2] for scale in discriminator(torch.zeros(1, 1, 256, 256))] == [30, 14, 6]


def test_scales_see_the_pooled_image_and_share_no_weight():
    discriminator, image = PatchDiscriminatorPyramid(channels=4, num_layers=1), torch.randn(2, 1, 48, 48)
    logits = discriminator(image)
    for index, scale in enumerate(discriminator.scales):
        pooled = F.avg_pool2d(image, 2**index)
        assert_close(logits[index], scale(pooled)[-1])
    logits[1].sum().backward()
    learning = {name.split(".")[1] for name, p in discriminator.named_parameters() if p.grad is not None}
    assert learning == {"1"}


def test_overlapping_scales_average_what_is_inside_of_the_image():
    discriminator = PatchDiscriminatorPyramid(channels=4, num_layers=1, num_scales=3, pool_size=3)
    image = torch.randn(1, 1, 25, 31)  # 13 x 16, then 7 x 8
    logits = discriminator(image)
    for scale, judged in zip(discriminator.scales, logits):
        assert_close(judged, scale(image)[-1])
        height, width = image.shape[2:]
        image = torch.stack(
            [
                image[0, 0, max(2 * i - 1, 0) : 2 * i + 2, max(2 * j - 1, 0) : 2 * j + 2].mean()
                for i in range((height + 1) // 2)
                for j in range((width + 1) // 2)
            ]
        ).reshape(1, 1, (height + 1) // 2, (width + 1) // 2)


def test_logits_have_no_activation():
    discriminator = PatchDiscriminatorPyramid(channels=4, num_layers=1, num_scales=1)
    with torch.no_grad():
        discriminator.scales[0].final_conv.conv.bias.fill_(-30.0)
    assert discriminator(torch.randn(1, 1, 32, 32))[0].mean() < -25


@pytest.mark.parametrize("norm", ["INSTANCE", None, ("GROUP", {"num_groups": 2})])
def test_train_equals_eval(norm):
    discriminator, image = PatchDiscriminatorPyramid(channels=4, num_layers=2, norm=norm), torch.randn(2, 1, 64, 64)
    assert_close(discriminator.train()(image), discriminator.eval()(image), rtol=0, atol=0)


@pytest.mark.parametrize("norm", ["BATCH", ("INSTANCE", {"track_running_stats": True})])
def test_running_statistics_are_refused(norm):
    with pytest.raises(ValueError, match=r"`norm` must keep no running statistics .*, got .*(BATCH|INSTANCE)"):
        PatchDiscriminatorPyramid(channels=4, norm=norm)


@pytest.mark.parametrize("dims", [2, 3])
def test_spectral_norm_bounds_every_convolution(dims):
    torch.manual_seed(0)
    discriminator = PatchDiscriminatorPyramid(
        dims, channels=4, num_layers=1, num_scales=2, norm=None, spectral_norm=True
    )
    image = torch.randn(1, 1, *[24] * dims)
    for _ in range(20):  # the power iteration converges
        discriminator.train()(image)
    convolutions = [m for m in discriminator.eval().modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    assert len(convolutions) == 2 * 3
    assert all(convolution.bias is not None for convolution in convolutions)  # no norm that would cancel it
    for convolution in convolutions:
        largest = torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)
        assert_close(largest, torch.tensor(1.0), rtol=0, atol=0.02)
    assert_close(discriminator(image), copy.deepcopy(discriminator)(image), rtol=0, atol=0)


def test_every_parameter_learns():
    discriminator = PatchDiscriminatorPyramid(channels=4, num_layers=1)
    sum(scale.square().mean() for scale in discriminator(torch.randn(2, 1, 48, 48))).backward()
    silent = [name for name, p in discriminator.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_smallest_image(num_layers):
    """At the limit each map has one logit; one pixel less is refused, with the cure."""
    least = 3 * 2**num_layers
    discriminator = PatchDiscriminatorPyramid(channels=2, num_scales=2, num_layers=num_layers)
    assert discriminator(torch.randn(2, 1, 2 * least, 2 * least))[1].shape == (2, 1, 1, 1)
    message = (
        rf"scale 1 \(of 2, from 0\) must see at least {least} pixels per side with `num_layers` = {num_layers}, but "
        rf"there the image \[{2 * least}, {2 * least - 1}\] is \[{least}, {least - 1}\]: use fewer `num_layers` or "
        "`num_scales`, or a larger image"
    )
    with pytest.raises(ValueError, match=message):
        discriminator(torch.randn(1, 1, 2 * least, 2 * least - 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, r"`spatial_dims` must be 2 or 3, got 1\."),
        ({"num_scales": 0}, r"`num_scales` must be >= 1, got 0\."),
        ({"channels": -4}, r"`channels` must be >= 1, got -4\."),
        ({"num_layers": 0}, r"`num_layers` must be >= 1, got 0\."),
        ({"pool_size": 4}, r"`pool_size` must be 2 or 3, got 4\."),
        ({"init": "zeros"}, r"`init` must be one of \('normal', 'torch'\), got 'zeros'\."),
        ({"spectral_norm": True}, r"`norm` must be None when `spectral_norm` is on, .*, got 'INSTANCE'\."),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        PatchDiscriminatorPyramid(**arguments)


def test_wrong_number_of_axes_is_refused():
    with pytest.raises(ValueError, match=r"`image` must have 4 dimensions .*, got 3\."):
        PatchDiscriminatorPyramid(channels=2)(torch.zeros(1, 64, 64))


def build(**arguments):
    torch.manual_seed(0)
    return DCGANDiscriminator(**{"channels": (4, 8), "num_groups": 2, **arguments})


def test_number_of_parameters():
    """Counted by hand: 3x3 convolutions without bias, two weights a feature for the norm, the head on 4x4 voxels."""
    widths = [3, 64, 128, 256, 512, 1024, 2048]
    expected = sum(9 * inputs * outputs + 2 * outputs for inputs, outputs in pairwise(widths))
    expected += 3 * (2048 * 16 + 1)
    with torch.device("meta"):
        discriminator = DCGANDiscriminator()
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == expected == 25_249_347


@pytest.mark.parametrize(("batch", "size"), [(1, (32, 32)), (2, (17, 40)), (3, (4, 7))], ids=str)
@pytest.mark.parametrize(("in_channels", "num_classes"), [(1, 1), (3, 3)])
def test_one_logit_a_class_for_any_image_size(batch, size, in_channels, num_classes):
    discriminator = build(in_channels=in_channels, num_classes=num_classes)
    images = torch.randn(batch, in_channels, *size)
    logits = discriminator(images)
    assert logits.shape == (batch, num_classes)
    assert_close(torch.cat([discriminator(image[None]) for image in images]), logits, rtol=1e-4, atol=1e-5)
    assert_close(discriminator.eval()(images), logits, rtol=0, atol=0)


def test_the_papers_image_size_ends_at_four_by_four_which_the_pooling_leaves_alone():
    discriminator = build(channels=(2, 2, 2, 2, 2, 2)).eval()
    seen = {}
    discriminator.pool.register_forward_hook(lambda _, inputs, output: seen.update(before=inputs[0], after=output))
    discriminator(torch.randn(1, 3, 256, 256))
    assert seen["before"].shape == (1, 2, 4, 4)
    assert_close(seen["after"], seen["before"], rtol=0, atol=0)


@pytest.mark.parametrize("size", [(8, 8), (9, 14)])
def test_down_sampling_is_torchs_bilinear_interpolation(size):
    discriminator, image = build(channels=(4,)), torch.randn(2, 3, *size)
    convolution, norm, _, _ = discriminator.layers[0]
    feature = F.leaky_relu(norm(convolution(image)), 0.2)
    expected = F.interpolate(feature, scale_factor=0.5, mode="bilinear", align_corners=False)
    assert_close(discriminator.layers(image), expected)


def test_every_parameter_of_the_dcgan_learns():
    discriminator = build()
    discriminator(torch.randn(2, 3, 16, 16)).square().sum().backward()
    assert [name for name, p in discriminator.named_parameters() if not p.grad.abs().sum() > 0] == []


def test_torchscript():
    discriminator, image = build(), torch.randn(2, 3, 17, 20)
    assert_close(torch.jit.script(discriminator)(image), discriminator(image))


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"`image` must have 4 dimensions .*, got 3\."):
        build()(torch.zeros(3, 16, 16))
    message = r"at least 4 pixels per side, which 2 layers halve to 1, got 3 x 16: use fewer `channels`"
    with pytest.raises(ValueError, match=message):
        build()(torch.zeros(1, 3, 3, 16))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, r"`in_channels` must be >= 1, got 0\."),
        ({"num_classes": 0}, r"`num_classes` must be >= 1, got 0\."),
        ({"num_groups": -1}, r"`num_groups` must be >= 1, got -1\."),
        ({"channels": ()}, r"`channels` must hold the features of at least 1 layer, .*, got \[\]\."),
        ({"channels": (4, 7)}, r"each a multiple of `num_groups` \(2\), got \[4, 7\]\."),
    ],
)
def test_dcgan_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)
