"""The SPADE generator: its size, what it does to any image size, and where the image goes in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from common.networks import SPADEGenerator
from common.networks.spade import _Modulation


def build(in_channels=3, *, seed=0, **arguments):
    torch.manual_seed(seed)
    return SPADEGenerator(in_channels, **{"channels": (8, 8, 4), "num_groups": 2, "spade_channels": 4, **arguments})


def random_image(batch=1, channels=3, size=(32, 24)):
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def number_of_parameters(channels, image, hidden, outputs):
    """Counted by hand, convolution by convolution; group norm has no parameters."""

    def convolution(inputs, outputs, kernel=9, bias=1):
        return outputs * (inputs * kernel + bias)

    def modulation(width):
        return convolution(image, hidden) + 2 * convolution(hidden, width)

    total = convolution(image, channels[0]) + convolution(channels[-1] + image, outputs)
    for level, width in enumerate(channels):
        previous, beside = (channels[level - 1], image) if level else (width, 0)
        total += modulation(previous) + convolution(previous + beside, width)
        total += modulation(width) + convolution(width, width)
        if level:
            total += modulation(previous) + convolution(previous + image, width, kernel=1, bias=0)
    return total


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, number_of_parameters((512, 512, 256, 128, 64, 32), 3, 128, 3)),
        ({"channels": (16, 8), "spade_channels": 6, "in_channels": 1}, number_of_parameters((16, 8), 1, 6, 3)),
    ],
)
def test_number_of_parameters(arguments, expected):
    with torch.device("meta"):
        network = SPADEGenerator(**arguments)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected
    assert arguments or expected == 23_770_228  # what the docstring says


@pytest.mark.parametrize(("batch", "size"), [(1, (32, 32)), (2, (17, 40)), (3, (5, 33)), (1, (1, 16))], ids=str)
@pytest.mark.parametrize(("in_channels", "out_channels"), [(1, 1), (3, 2)])
def test_output_has_the_images_size(batch, size, in_channels, out_channels):
    network = build(in_channels, out_channels=out_channels)
    output = network(random_image(batch, in_channels, size))
    assert output.shape == (batch, out_channels, *size)
    assert output.isfinite().all()


def test_six_levels_take_sizes_that_are_no_multiples_of_64():
    network = build(channels=(8, 8, 8, 4, 4, 4))
    assert network.multiple == 64
    assert network(random_image(1, 3, (130, 65))).shape == (1, 3, 130, 65)


def test_padding_continues_the_background():
    """A frame of background that completes the size changes nothing, and `pad_value` says what background is."""
    network, image = build(pad_value=-0.5), random_image(size=(19, 24))
    framed = F.pad(image, (0, 0, 2, 3), value=-0.5)  # 24 x 24
    assert_close(network(framed)[:, :, 2:21], network(image))
    assert not torch.allclose(build(pad_value=-1.0)(image), network(image))


def test_train_equals_eval_and_images_of_a_batch_do_not_see_each_other():
    network, images = build(), random_image(3)
    in_training = network.train()(images)
    assert_close(network.eval()(images), in_training, rtol=0, atol=0)
    assert list(network.buffers()) == []
    assert_close(torch.cat([network(image[None]) for image in images]), in_training, rtol=1e-4, atol=1e-5)


def test_every_parameter_learns():
    network = build()
    network(random_image(2)).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_residual_network_starts_as_the_identity_and_learns():
    network, image = build(residual=True), random_image(2, size=(17, 24))
    assert_close(network(image), image, rtol=0, atol=0)
    assert_close(network(3 * image), 3 * image, rtol=0, atol=0)  # nothing is clamped
    F.l1_loss(network(image), torch.zeros_like(image)).backward()
    assert network.head.weight.grad.abs().sum() > 0
    with torch.no_grad():
        network.head.weight.add_(0.1)
    assert not torch.allclose(network(image), image)


def test_output_is_unbounded():
    network = build()
    with torch.no_grad():
        network.head.bias.fill_(50.0)
    assert network(random_image()).mean() > 40


def test_each_block_sees_the_area_average_of_the_image():
    network, image = build(), random_image(2, 3, (32, 24))
    seen = {}
    for level, block in enumerate(network.blocks):
        block.register_forward_hook(lambda _, inputs, __, level=level: seen.update({level: inputs}))
    network(image)
    for level, factor in enumerate((8, 4, 2)):
        feature, averaged = seen[level]
        cells = image.numpy().reshape(2, 3, 32 // factor, factor, 24 // factor, factor)
        assert_close(averaged, torch.from_numpy(cells.mean((3, 5), dtype=np.float64).astype(np.float32)))
        assert feature.shape[2:] == averaged.shape[2:]


def test_the_image_is_concatenated_after_each_up_sampling():
    """Its pixels reach the last convolution as they are; those of a block reach its convolution beside the features."""
    network, image = build(), random_image()
    seen = {}
    network.head.register_forward_hook(lambda _, inputs, __: seen.update(head=inputs[0]))
    network.blocks[2].first.register_forward_hook(lambda _, inputs, __: seen.update(block=inputs[0]))
    network.blocks[2].shortcut.register_forward_hook(lambda _, inputs, __: seen.update(shortcut=inputs[0]))
    network(image)
    assert_close(seen["head"][:, 4:], image, rtol=0, atol=0)
    for name in ("block", "shortcut"):
        assert seen[name].shape == (1, 8 + 3, 16, 12)
        assert_close(seen[name][:, 8:], F.avg_pool2d(image, 2), rtol=0, atol=0)


def test_modulation_is_group_norm_scaled_and_shifted_by_convolutions_of_the_image():
    """Park et al., equation (1), in numpy's terms for 1x1 convolutions: the centres of kernels that are else zero."""
    torch.manual_seed(0)
    modulation = _Modulation(4, 3, 2, 5)
    for convolution in (modulation.mlp_shared.conv, modulation.mlp_gamma, modulation.mlp_beta):
        keep = torch.zeros_like(convolution.weight)
        keep[:, :, 1, 1] = 1
        convolution.weight.data *= keep
    feature, image = torch.randn(2, 4, 6, 7), random_image(2, 3, (6, 7))

    def pointwise(convolution, values):
        weight, bias = convolution.weight.detach().numpy()[:, :, 1, 1], convolution.bias.detach().numpy()
        return np.einsum("oc,bchw->bohw", weight, values) + bias[:, None, None]

    hidden = pointwise(modulation.mlp_shared.conv, image.numpy())
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    groups = feature.numpy().reshape(2, 2, -1)
    normalised = (groups - groups.mean(2, keepdims=True)) / np.sqrt(groups.var(2, keepdims=True) + 1e-5)
    normalised = normalised.reshape(2, 4, 6, 7)
    gamma, beta = pointwise(modulation.mlp_gamma, hidden), pointwise(modulation.mlp_beta, hidden)
    expected = torch.from_numpy(normalised * (1 + gamma) + beta)
    assert_close(modulation(feature, image), expected, rtol=1e-4, atol=1e-5, check_dtype=False)


def test_modulation_depends_on_the_level_of_a_flat_image():
    """An instance norm behind scale and shift, which MONAI's block has, would make these equal."""
    modulation, feature = _Modulation(4, 3, 2, 5), torch.randn(1, 4, 6, 6)
    inner = (..., slice(2, 4), slice(2, 4))  # away from the zeros that the convolutions pad with
    low, high = (modulation(feature, torch.full((1, 3, 6, 6), level))[inner] for level in (-0.2, 0.6))
    assert (low - high).abs().max() > 0.05


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 3, 16, 16, 16)])
def test_wrong_number_of_axes_is_refused(shape):
    message = rf"`image` must have 4 dimensions \(batch, channel, and 2 spatial ones\), got {len(shape)}\."
    with pytest.raises(ValueError, match=message):
        build()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, r"`in_channels` must be >= 1, got 0\."),
        ({"spade_channels": -1}, r"`spade_channels` must be >= 1, got -1\."),
        ({"num_groups": 0}, r"`num_groups` must be >= 1, got 0\."),
        ({"channels": ()}, r"`channels` must hold the features of at least 1 block, .*, got \[\]\."),
        ({"channels": (16, 12)}, r"each a multiple of `num_groups` \(8\), got \[16, 12\]\."),
        (
            {"residual": True, "out_channels": 1},
            r"needs the same number of channels .* `in_channels` = 3 and `out_channels` = 1\.",
        ),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        SPADEGenerator(**arguments)
