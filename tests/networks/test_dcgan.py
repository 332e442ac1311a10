from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from common.networks import DCGANDiscriminator


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


def test_every_parameter_learns():
    discriminator = build()
    discriminator(torch.randn(2, 3, 16, 16)).square().sum().backward()
    assert [name for name, p in discriminator.named_parameters() if not p.grad.abs().sum() > 0] == []


def test_torchscript():
    discriminator, image = build(), torch.randn(2, 3, 17, 20)
    assert_close(torch.jit.script(discriminator)(image), discriminator(image))


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"`image` must have 4 dimensions .*, got 3\."):
        build()(torch.zeros(3, 16, 16))
    message = r"at least 4 pixels a side, which 2 layers halve to 1, got 3 x 16: use fewer `channels`"
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
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)
