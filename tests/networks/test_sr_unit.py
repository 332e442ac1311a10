"""SR-UNIT's networks: what is shared, what is deployed, and the margin of a tile."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from common.networks import SRUNITBackGenerator, SRUNITGenerator, load_definition, save_definition

SIZES = {"factor": 4, "channels": 8, "num_res_blocks": 1}


def build(seed=0, **arguments):
    torch.manual_seed(seed)
    return SRUNITGenerator(**{**SIZES, **arguments}), SRUNITBackGenerator(**{**SIZES, **arguments})


def random_image(batch=1, size=(8, 12)):
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def learning(network):
    return {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}


def test_number_of_parameters():
    def convolution(inputs, outputs, kernel, bias=1):
        return outputs * (inputs * kernel**2 + bias)

    block = 2 * convolution(64, 64, 3) + 1  # and a PReLU
    ups = sum(convolution(width, 2 * width, 3, bias=0) + 1 for width in (64, 32, 16))
    downs = sum(convolution(width, 2 * width, 4) + 1 for width in (8, 16, 32))
    forth = convolution(1, 64, 7) + 1 + (3 + 1 + 1 + 3) * block + ups + convolution(8, 1, 7)
    back = convolution(1, 8, 7) + 1 + downs + (3 + 3) * block + convolution(64, 1, 7)
    networks = SRUNITGenerator(), SRUNITBackGenerator()
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts == [forth, back] == [691_221, 489_803]  # what the docstrings say


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize(("batch", "size"), [(1, (8, 8)), (3, (3, 5))], ids=str)
def test_both_domains_have_codes_of_one_shape(factor, batch, size):
    generator, back = build(factor=factor)
    large = (factor * size[0], factor * size[1])
    source_code = generator.encode(random_image(batch, size))
    target_code = back.encode(random_image(batch, large), generator)
    assert source_code.shape == target_code.shape == (batch, 8, *size)
    assert generator.decode(target_code).shape == (batch, 1, *large)
    assert back.decode(source_code, generator).shape == (batch, 1, *size)


def test_forward_is_encode_and_decode_without_noise():
    generator, back = build()
    image, micro = random_image(), random_image(size=(32, 48))
    assert_close(generator.train()(image), generator.decode(generator.encode(image)), rtol=0, atol=0)
    assert_close(generator.eval()(image), generator.train()(image), rtol=0, atol=0)
    assert_close(back(micro, generator), back.decode(back.encode(micro, generator), generator), rtol=0, atol=0)


def test_the_shared_blocks_serve_both_domains_and_the_private_ones_their_own():
    generator, back = build()
    back(random_image(size=(32, 48)), generator).square().mean().backward()
    assert learning(generator) == {"shared_encoder", "shared_decoder"}
    assert learning(back) == {"target_encoder", "source_decoder"}
    generator, back = build()
    generator(random_image()).square().mean().backward()
    assert learning(generator) == {"source_encoder", "shared_encoder", "shared_decoder", "target_decoder"}
    assert learning(back) == set()


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_margin_is_what_a_tile_gets_wrong_and_no_more(factor):
    generator = build(factor=factor)[0].double()
    side = 2 * generator.margin + 8
    image = random_image(size=(side, side)).double()
    changed = image.clone()
    changed[..., side // 2 :] += 0.1 * random_image(size=(side, side - side // 2)).double()
    with torch.no_grad():
        moved = (generator(changed) - generator(image)).abs().amax(dim=(0, 1, 2))
    reach = (side // 2) * factor - int(torch.nonzero(moved > 1e-16)[0])
    assert -(-reach // factor) == generator.margin


def test_what_is_deployed_is_saved_and_built_again_by_its_definition(tmp_path):
    generator = build()[0]
    save_definition(tmp_path / "network.json", generator)
    again = load_definition(tmp_path, {})
    again.load_state_dict(generator.state_dict())
    image = random_image()
    assert_close(again(image), generator(image), rtol=0, atol=0)
    assert not [name for name in generator.state_dict() if name.startswith(("target_encoder", "source_decoder"))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 16}, r"`factor` must be one of \(2, 4, 8\), got 16\."),
        ({"num_res_blocks": -2}, r"`num_res_blocks` must be >= 0, got -2\."),
        ({"channels": 10}, r"`channels` must be a multiple of `factor` \(4\), .* got 10\."),
    ],
)
@pytest.mark.parametrize("network", [SRUNITGenerator, SRUNITBackGenerator])
def test_arguments_out_of_range(network, arguments, message):
    with pytest.raises(ValueError, match=message):
        network(**{**SIZES, **arguments})
    with pytest.raises(ValueError, match=r"`num_shared_blocks` must be >= 0, got -1\."):
        SRUNITGenerator(num_shared_blocks=-1)


def test_images_without_their_batch_axis_are_refused():
    generator, back = build()
    with pytest.raises(ValueError, match=r"`image` must have 4 dimensions .*, got 3\."):
        generator(torch.zeros(1, 8, 8))
    with pytest.raises(ValueError, match=r"`image` must have 4 dimensions .*, got 3\."):
        back(torch.zeros(1, 8, 8), generator)
