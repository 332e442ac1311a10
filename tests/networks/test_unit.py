"""UNIT's networks: what is shared, what is deployed, and their sizes."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from common.networks import UNITBackGenerator, UNITGenerator, load_definition, save_definition

SIZES = {"channels": 4, "num_res_blocks": 1}


def build(**arguments):
    torch.manual_seed(0)
    return UNITGenerator(**{**SIZES, **arguments}), UNITBackGenerator(**{**SIZES, **arguments})


def random_image(batch=1, size=(16, 24)):
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def learning(network):
    return {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}


def test_number_of_parameters():
    def convolution(inputs, outputs, kernel):
        return outputs * (inputs * kernel**2 + 1)

    block = 2 * convolution(256, 256, 3)
    encoder = convolution(1, 64, 7) + convolution(64, 128, 3) + convolution(128, 256, 3) + 3 * block
    decoder = 3 * block + convolution(256, 128, 3) + convolution(128, 64, 3) + convolution(64, 1, 7)
    with torch.device("meta"):
        counts = [sum(p.numel() for p in n.parameters()) for n in (UNITGenerator(), UNITBackGenerator())]
    assert counts == [encoder + 2 * block + decoder, encoder + decoder]
    for count, network in zip(counts, (UNITGenerator, UNITBackGenerator)):
        assert f"{count:,}" in network.__doc__


@pytest.mark.parametrize(("batch", "size"), [(1, (16, 24)), (2, (17, 10)), (3, (1, 3))], ids=str)
def test_both_ways_keep_any_size_and_have_codes_of_one_shape(batch, size):
    generator, back = build()
    image = random_image(batch, size)
    assert generator.encode(image).shape == back.encode(image, generator).shape
    for output in (generator(image), back(image, generator)):
        assert output.shape == image.shape
        assert float(output.detach().abs().max()) < 1


def test_forward_is_encode_and_decode_without_noise():
    generator, back = build()
    image = random_image()
    assert_close(generator.train()(image), generator.decode(generator.encode(image)), rtol=0, atol=0)
    assert_close(generator.eval()(image), generator.train()(image), rtol=0, atol=0)
    assert_close(back(image, generator), back.decode(back.encode(image, generator), generator), rtol=0, atol=0)


def test_the_way_back_learns_its_own_parts_and_the_shared_ones():
    generator, back = build()
    back(random_image(), generator).sum().backward()
    assert learning(generator) == {"shared_encoder", "shared_decoder"}
    assert learning(back) == {"target_encoder", "source_decoder"}


def test_the_definition_builds_it_again(tmp_path):
    generator = UNITGenerator(**SIZES, num_shared_blocks=2)
    save_definition(tmp_path / "network.json", generator)
    assert load_definition(tmp_path, {}).arguments == generator.arguments


@pytest.mark.parametrize(("name", "smallest"), [("channels", 1), ("num_res_blocks", 0), ("num_shared_blocks", 0)])
def test_wrong_sizes_are_named(name, smallest):
    with pytest.raises(ValueError, match=rf"`{name}` must be >= {smallest}, got {smallest - 1}\."):
        UNITGenerator(**{name: smallest - 1})
