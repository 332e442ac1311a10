"""What StarGAN's and GGCL's discriminators promise alike; the U-Net's own is in `test_unet_discriminator.py`."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from common.networks import SemanticDiscriminator, StarGANDiscriminator, StarGANGenerator, load_definition
from common.networks import save_definition as save

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
