"""What StarGAN's and GGCL's discriminators promise alike; the U-Net's own is in `test_unet_discriminator.py`."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from common.networks import (
    SemanticDiscriminator,
    StarGANDiscriminator,
    StarGANGenerator,
    load_definition,
)
from common.networks import (
    save_definition as save,
)

CLASSES = [StarGANDiscriminator, SemanticDiscriminator]


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def build(network_class, image_size=32, num_domains=3, **arguments):
    torch.manual_seed(0)
    return network_class(image_size, num_domains, **{"channels": 4, "num_layers": 3, **arguments})


def random_image(batch, size=32, channels=1):
    return torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    ("network_class", "parameters", "upsample", "with_generator"),
    [
        (StarGANDiscriminator, 44_849_632, "pixelshuffle", 54_080_544),
        (SemanticDiscriminator, 58_874_336, "pixelshuffle", 68_105_248),
        (StarGANDiscriminator, 44_849_632, "transposed", 53_261_344),
    ],
)
def test_paper_size(network_class, parameters, upsample, with_generator):
    """The numbers that the released code prints; 54.1M and 68.1M in table 7 of the KCGAN thesis."""
    with torch.device("meta"):
        discriminator, generator = network_class(), StarGANGenerator(upsample=upsample)
    assert count(discriminator) == parameters
    assert count(generator) + count(discriminator) == with_generator
    assert f"{parameters:,}" in network_class.__doc__


def test_stargans_own_size():
    """Six layers for 128x128, counted layer by layer: kernels and biases, and the two heads without bias."""
    widths = [1, 64, 128, 256, 512, 1024, 2048]
    layers = sum(16 * narrow * wide + wide for narrow, wide in pairwise(widths))
    with torch.device("meta"):
        discriminator = StarGANDiscriminator(128, 5, channels=64, num_layers=6)
    assert count(discriminator) == layers + 9 * 2048 + 5 * 4 * 2048


@pytest.mark.parametrize("network_class", CLASSES)
@pytest.mark.parametrize(("image_size", "num_layers"), [(32, 3), (16, 2), (48, 4), (8, 3)])
@pytest.mark.parametrize(("batch", "channels", "num_domains"), [(1, 1, 3), (2, 3, 1), (3, 2, 6)])
def test_shapes(network_class, image_size, num_layers, batch, channels, num_domains):
    discriminator = build(network_class, image_size, num_domains, in_channels=channels, num_layers=num_layers)
    source_map, domain_logits = discriminator(random_image(batch, image_size, channels))
    side = image_size // 2**num_layers
    assert source_map.shape == (batch, 1, side, side)
    assert domain_logits.shape == (batch, num_domains)


@pytest.mark.parametrize("network_class", CLASSES)
def test_heads_have_no_activation_and_are_linear_in_the_feature(network_class):
    discriminator, image = build(network_class).eval(), random_image(2)
    source_map, domain_logits = discriminator(image)
    with torch.no_grad():
        for head in (discriminator.heads.source, discriminator.heads.domain):
            head.weight.mul_(-1000.0)
    assert_close(discriminator(image), (-1000.0 * source_map, -1000.0 * domain_logits), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network_class", CLASSES)
def test_images_of_a_batch_do_not_see_each_other(network_class):
    """The gradient penalty takes each image's gradient from the batch's sum."""
    discriminator, images = build(network_class).eval(), random_image(3)
    source_maps, logits = zip(*(discriminator(image[None]) for image in images))
    assert_close(discriminator(images), (torch.cat(source_maps), torch.cat(logits)))


@pytest.mark.parametrize("network_class", CLASSES)
def test_definition_round_trip(network_class, tmp_path):
    network = build(network_class).eval()
    save(tmp_path / "network.json", network)
    again = load_definition(tmp_path, {})
    again.load_state_dict(network.state_dict())
    assert_close(again.eval()(random_image(2)), network(random_image(2)), rtol=0, atol=0)
    assert_close(copy.deepcopy(network)(random_image(2)), network(random_image(2)), rtol=0, atol=0)


@pytest.mark.parametrize("network_class", CLASSES)
@pytest.mark.parametrize("size", [(16, 16), (32, 24), (64, 32)])
def test_images_of_another_size_are_refused(network_class, size):
    message = (
        rf"`image` must be 32 x 32 pixels, .*, got {size[0]} x {size[1]}: crop or pad it, .* "
        r"\(any multiple of 8, with `num_layers` = 3\)\."
    )
    with pytest.raises(ValueError, match=message):
        build(network_class)(torch.zeros(1, 1, *size))


@pytest.mark.parametrize("network_class", CLASSES)
def test_wrong_number_of_axes_is_refused(network_class):
    with pytest.raises(ValueError, match=r"`image` must have 4 dimensions .*, got 3\."):
        build(network_class)(torch.zeros(1, 32, 32))


@pytest.mark.parametrize("network_class", CLASSES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 500}, r"`image_size` must be a multiple of 2\*\*num_layers = 128 pixels, got 500: choose"),
        ({"image_size": 0}, r"`image_size` must be a multiple .*, got 0"),
        ({"num_domains": 0}, r"`num_domains` must be >= 1, got 0\."),
        ({"in_channels": 0}, r"`in_channels` must be >= 1, got 0\."),
        ({"channels": -2}, r"`channels` must be >= 1, got -2\."),
        ({"num_layers": 0}, r"`num_layers` must be >= [12], got 0\."),
    ],
)
def test_arguments_out_of_range(network_class, arguments, message):
    with pytest.raises(ValueError, match=message):
        network_class(**arguments)


def test_the_unet_needs_two_layers():
    with pytest.raises(ValueError, match=r"`num_layers` must be >= 2, got 1\."):
        SemanticDiscriminator(32, num_layers=1)


def build_unet(image_size=32, **arguments):
    torch.manual_seed(0)
    return SemanticDiscriminator(image_size, 3, **{"channels": 4, "num_layers": 3, **arguments})


def test_cost_and_semantic_map_at_the_papers_image_size():
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        discriminator = SemanticDiscriminator()
        source_map, domain_logits, semantic_map = discriminator.features(torch.empty(1, 1, 512, 512))
    assert source_map.shape == (1, 1, 4, 4)
    assert domain_logits.shape == (1, 3)
    assert semantic_map.shape == (1, 128, 256, 256)
    # Two operations a multiply-add: outputs * inputs * kernel * places of each convolution.
    widths, sides = [1, 32, 64, 128, 256, 512, 1024, 2048], [512 // 2**layer for layer in range(8)]
    multiply_adds = sum(16 * widths[n] * widths[n + 1] * sides[n + 1] ** 2 for n in range(7))
    multiply_adds += 2048 * 4096 * sides[7] ** 2 + sum(widths[n] ** 2 * sides[n - 1] ** 2 for n in range(4, 8))
    multiply_adds += 128 * 512 * sides[2] ** 2 + 2048 * 9 * sides[7] ** 2 + 3 * 2048 * sides[7] ** 2
    assert counter.get_total_flops() == 2 * multiply_adds
    assert f"{2 * multiply_adds / 1e9:.1f} GFLOP" in SemanticDiscriminator.__doc__


@pytest.mark.parametrize(("image_size", "num_layers"), [(32, 3), (16, 2), (48, 4), (64, 5), (8, 3)])
@pytest.mark.parametrize(("batch", "channels"), [(1, 1), (3, 2)])
def test_semantic_map_fits_the_generators_feature(image_size, num_layers, batch, channels):
    """At any depth, when the generator has twice the discriminator's channels."""
    discriminator = build_unet(image_size, in_channels=channels, num_layers=num_layers)
    generator = StarGANGenerator(3, in_channels=channels, out_channels=channels, channels=8, num_res_blocks=0)
    image = random_image(batch, image_size, channels)
    translated, feature = generator.features(image, torch.eye(3)[:batch])
    source_map, domain_logits, semantic_map = discriminator.eval().features(translated)
    assert semantic_map.shape == feature.shape
    assert discriminator.feature_channels == generator.feature_channels == 16
    assert_close(discriminator(translated), (source_map, domain_logits), rtol=0, atol=0)


def test_skips_join_equal_sizes():
    """The map without the skip of a level is another one: each encoder feature but the first takes part."""
    discriminator, image = build_unet(64, num_layers=5).eval(), random_image(1, 64)
    complete = discriminator.features(image)[2]
    for level in range(1, 4):
        handle = discriminator.ups[4 - level].register_forward_pre_hook(
            lambda _, inputs: (torch.cat([inputs[0][:, : inputs[0].shape[1] // 2], 0 * inputs[0].chunk(2, 1)[1]], 1),)
        )
        assert not torch.allclose(discriminator.features(image)[2], complete)
        handle.remove()
    assert_close(discriminator.features(image)[2], complete, rtol=0, atol=0)


def test_spectral_norm_is_on_all_but_the_heads():
    discriminator, image = build_unet(), random_image(1)
    for _ in range(30):  # the power iteration converges
        discriminator.train().features(image)
    convolutions = {name: m for name, m in discriminator.eval().named_modules() if isinstance(m, nn.Conv2d)}
    assert len(convolutions) == 3 + 2 + 2
    for name, convolution in convolutions.items():
        if name.startswith("heads."):
            assert not hasattr(convolution, "parametrizations")
            assert convolution.bias is None
        else:
            largest = torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)
            assert_close(largest, torch.tensor(1.0), rtol=0, atol=0.02)
            assert (convolution.bias is None) == name.startswith("ups.")


def test_power_iteration_advances_in_train_and_rests_in_eval():
    discriminator, image = build_unet(), random_image(1)
    vectors = {name: b.clone() for name, b in discriminator.named_buffers()}
    discriminator.eval().features(image)
    assert all(torch.equal(b, vectors[name]) for name, b in discriminator.named_buffers())
    discriminator.train().features(image)
    assert not all(torch.equal(b, vectors[name]) for name, b in discriminator.named_buffers())


def test_who_learns_from_what():
    """Judging does not reach the decoder; the semantic map does not reach the heads."""
    image = random_image(2)

    def learning(output):
        discriminator.zero_grad()
        output.square().mean().backward()
        return {name.split(".")[0] for name, p in discriminator.named_parameters() if p.grad is not None}

    discriminator = build_unet()
    assert learning(torch.cat([part.flatten() for part in discriminator(image)])) == {"downs", "heads"}
    discriminator = build_unet()
    assert learning(discriminator.features(image)[2]) == {"downs", "ups"}


def test_every_parameter_learns():
    discriminator = build_unet()
    sum(part.square().mean() for part in discriminator.features(random_image(2))).backward()
    assert [name for name, p in discriminator.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("number", [1, 3])
def test_real_and_fake_in_one_pass_are_judged_as_one_after_the_other(training, number):
    torch.manual_seed(0)
    together = SemanticDiscriminator(32, 3, channels=2, num_layers=3).double().train(training)
    apart = copy.deepcopy(together)
    real, fake = torch.randn(2, number, 1, 32, 32, dtype=torch.float64)
    for _ in range(2):
        real_map, real_logits = apart(real)
        fake_map, _, semantic_map = apart.features(fake)
        assert_close(together.compare(real, fake), (real_map, real_logits, fake_map, semantic_map))
        assert_close(dict(together.named_buffers()), dict(apart.named_buffers()))
