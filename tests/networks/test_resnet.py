"""CycleGAN's generator: its size, what CUT reads from its encoder, and the filters of the antialiased one."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, convolve1d
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from common.networks import ResNetGenerator, WithTarget, load_definition, save_definition
from common.networks.resnet import BlurPool, upsampling

# Multiples of 4, odd, and the smallest.
SIZES = [(1, (32, 24)), (2, (17, 40)), (3, (1, 3))]
ANTIALIAS = pytest.mark.parametrize("antialias", [False, True])


def build(**arguments):
    torch.manual_seed(0)
    return ResNetGenerator(**{"channels": 4, "num_res_blocks": 6, **arguments})


def random_image(batch, size, channels=1):
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@ANTIALIAS
def test_number_of_parameters(antialias):
    """With three channels the released code prints 11.378 M."""

    def convolution(inputs, outputs, kernel):
        return outputs * (inputs * kernel**2 + 1)

    def expected(channels):
        ends = convolution(channels, 64, 7) + convolution(64, channels, 7)
        scales = convolution(64, 128, 3) + convolution(128, 256, 3) + convolution(256, 128, 3) + convolution(128, 64, 3)
        return ends + scales + 9 * 2 * convolution(256, 256, 3)

    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in ResNetGenerator(c, out_channels=c, antialias=antialias).parameters()) for c in (1, 3)
        ]
    assert counts == [expected(1), expected(3)]
    assert round(counts[1], -3) == 11_378_000
    assert f"{counts[0]:,}" in ResNetGenerator.__doc__


@ANTIALIAS
def test_cost_at_the_papers_image_size(antialias):
    """Two operations a multiply-add: inputs * outputs * kernel * places, those of a transposed convolution at 1/2."""
    full, half, quarter = (512 / scale for scale in (1, 2, 4))
    ends = 2 * 64 * 49 * full**2
    blocks = 18 * 256**2 * 9 * quarter**2
    fine, coarse = 64 * 128 * 9, 128 * 256 * 9
    if antialias:  # the convolutions are at the finer resolution; the blur has one kernel a feature
        scales = 2 * (fine * full**2 + coarse * half**2) + 9 * (128 * half**2 + 256 * quarter**2)
    else:
        scales = 2 * (fine * half**2 + coarse * quarter**2)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        ResNetGenerator(antialias=antialias)(torch.empty(1, 1, 512, 512))
    assert counter.get_total_flops() == pytest.approx(2 * (ends + blocks + scales), rel=1e-6)
    assert f"{counter.get_total_flops() / 1e9:.1f}" in ResNetGenerator.__doc__


@ANTIALIAS
@pytest.mark.parametrize(("batch", "size"), SIZES, ids=str)
def test_any_size_comes_back_in_minus_1_to_1_and_alike_in_train_and_eval(batch, size, antialias):
    network, image = build(antialias=antialias), random_image(batch, size)
    output = network.train()(image)
    assert output.shape == image.shape
    assert float(output.detach().abs().max()) < 1
    assert_close(network.eval()(image), output, rtol=0, atol=0)


def test_images_of_several_channels_keep_their_own():
    assert build(in_channels=3, out_channels=2)(random_image(1, (8, 8), channels=3)).shape == (1, 2, 8, 8)


@ANTIALIAS
@pytest.mark.parametrize(("blocks", "levels"), [(9, [1, 5]), (5, [1, 5]), (3, [1, 3]), (1, [1])])
def test_the_encoder_gives_image_both_convolutions_and_two_blocks(blocks, levels, antialias):
    network, image = build(num_res_blocks=blocks, antialias=antialias), random_image(2, (16, 24))
    seen = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output))
    network(image)
    expected = [image, seen["downs.0"], seen["downs.1"], *(seen[f"blocks.{level - 1}"] for level in levels)]
    features = network.encode(image)
    assert len(features) == len(expected)
    for feature, value in zip(features, expected):
        assert_close(feature, value, rtol=0, atol=0)
    assert [feature.shape[1] for feature in features] == network.encode_channels


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_the_blur_before_down_sampling_is_binomial(size):
    image = random_image(2, size, channels=3)
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = np.stack(
        [[convolve(plane, kernel, mode="mirror")[::2, ::2] for plane in item] for item in image.numpy()]
    )
    assert_close(BlurPool()(image), torch.from_numpy(expected).float())


def test_the_antialiased_up_sampling_starts_with_the_1_3_3_1_filter():
    image = random_image(1, (5, 6))
    expected = image[0, 0].numpy()
    for axis in (0, 1):
        repeated = np.repeat(expected, 2, axis=axis)
        expected = convolve1d(repeated, np.array([1, 2, 1]) / 4, axis=axis, mode="nearest")
    assert_close(upsampling(2, antialias=True)[0](image)[0, 0], torch.from_numpy(expected))


def test_weights_start_normal_with_a_standard_deviation_of_0_02():
    weights = torch.cat([p.flatten() for p in build(channels=16).parameters() if p.dim() > 1])
    assert_close(weights.std(), torch.tensor(0.02), rtol=0.02, atol=0)


@ANTIALIAS
def test_one_direction_is_bound_saved_and_scripted(antialias, tmp_path):
    network, image = build(antialias=antialias).eval(), random_image(1, (18, 20))
    bound = WithTarget(network, [1.0])
    assert_close(bound(image), network(image), rtol=0, atol=0)
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(bound), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for shown in (image, random_image(2, (9, 13))):
        assert_close(loaded(shown), network(shown))
    save_definition(tmp_path / "network.json", network)
    assert load_definition(tmp_path, {}).arguments == network.arguments


@pytest.mark.parametrize("name", ["in_channels", "out_channels", "channels", "num_res_blocks"])
def test_wrong_sizes_are_named(name):
    with pytest.raises(ValueError, match=rf"`{name}` must be >= 1, got 0\."):
        ResNetGenerator(**{name: 0})


def test_an_image_without_batch_is_refused():
    with pytest.raises(ValueError, match="`image` must have 4 dimensions"):
        build()(torch.zeros(1, 16, 16))
