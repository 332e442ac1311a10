"""Super-resolution that starts at bicubic interpolation."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from common.networks import BicubicResidualGenerator, load_definition, save_definition

SMALL = {"factor": 4, "channels": 8, "num_res_blocks": 1}


def source(*size, low=-0.8, high=-0.2, seed=0):
    return low + (high - low) * torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(seed))


def trained(**arguments):
    torch.manual_seed(0)
    network = BicubicResidualGenerator(**{**SMALL, **arguments}).eval()
    torch.nn.init.normal_(network.head.weight, 0, 0.3)
    return network


def test_an_untrained_network_without_texture_is_bicubic_interpolation_where_that_is_consistent():
    network = BicubicResidualGenerator(**SMALL, texture_weight=0.0, tolerance=2.0).eval()
    image = source(12, 9)
    with torch.no_grad():
        assert_close(network(image), F.interpolate(image, scale_factor=4, mode="bicubic"), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(-0.8, -0.2), (-1.0, 1.0)])
def test_the_output_averaged_over_a_pixel_is_within_the_tolerance_of_the_source(low, high):
    image = source(20, 14, low=low, high=high)
    with torch.no_grad():
        output = trained(tolerance=0.01, texture_weight=1.0)(image)
    assert (F.avg_pool2d(output, 4) - image).abs().max() < 0.01 + 1e-5
    assert output.abs().max() <= 1


def test_each_part_can_be_taken_away():
    network, image = trained(tolerance=2.0), source(16, 16)
    with torch.no_grad():
        both = network(image)
        network.texture_weight = 0.0
        structure = network(image)
        network.residual_weight = 0.0
        bicubic = network(image)
    assert (both - structure).abs().max() > 0.01
    assert (structure - bicubic).abs().max() > 0.01
    assert_close(bicubic, F.interpolate(image, scale_factor=4, mode="bicubic"), rtol=0, atol=1e-6)


def test_there_is_no_texture_from_its_limit_on():
    network = trained(tolerance=2.0)
    torch.nn.init.zeros_(network.head.weight)
    image = source(16, 16, low=0.05, high=0.1)
    with torch.no_grad():
        structure, texture = network.parts(image)
        assert structure.min() > network.texture_limit
        assert not texture.any()
        assert network.parts(image - 0.9)[1].std() > 0.01


def test_texture_has_almost_no_part_at_the_resolution_of_the_source():
    network, image = trained(), source(32, 32, low=-0.9, high=-0.6)
    torch.nn.init.zeros_(network.head.weight)
    with torch.no_grad():
        texture = network.parts(image)[1]
    assert F.avg_pool2d(texture, 4).std() < 0.1 * texture.std()


def test_noise_is_white_and_a_function_of_the_source_around_a_pixel():
    network, image = trained(), source(64, 64)
    noise = network.noise(image)
    assert abs(noise.std() - 1) < 0.02
    for shift in ((0, 1), (1, 0), (0, 4), (3, 5)):
        assert (noise * noise.roll(shift, (2, 3))).mean().abs() < 0.03
    assert_close(network.noise(image[..., 10:30, 20:50])[..., 4:-4, 4:-4], noise[..., 44:116, 84:196])
    changed = image.clone()
    changed[..., 5, 5] += 0.05
    assert torch.equal(network.noise(changed)[..., 28:], noise[..., 28:])
    assert not torch.equal(network.noise(changed)[..., 20:24, 20:24], noise[..., 20:24, 20:24])


def test_noise_of_weights_that_are_loaded_is_theirs(tmp_path):
    """It is a part of the weights: another version of the random generator does not change an output."""
    network = trained()
    network.projections += 1
    save_definition(tmp_path / "network.json", network)
    again = load_definition(tmp_path).eval()
    again.load_state_dict(network.state_dict())
    image = source(9, 9)
    with torch.no_grad():
        assert_close(again(image), network(image))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_tile_with_its_margin_gives_what_the_whole_image_gives(factor):
    network = trained(factor=factor)
    margin = network.margin
    image = source(2 * margin + 12, 2 * margin + 10)
    with torch.no_grad():
        whole, tile = network(image), network(image[..., 3:-2, 4:-1])
    assert whole.shape[-1] == factor * image.shape[-1]
    inner = tile[..., margin * factor : -margin * factor, margin * factor : -margin * factor]
    rows, columns = inner.shape[-2:]
    first = [(start + margin) * factor for start in (3, 4)]
    assert_close(inner, whole[..., first[0] : first[0] + rows, first[1] : first[1] + columns], rtol=0, atol=1e-5)


def test_structure_learns_nothing_from_texture():
    network = trained()
    network.parts(source(8, 8))[1].square().sum().backward()
    grown = {name.split(".")[0] for name, value in network.named_parameters() if value.grad is not None}
    assert grown == {"amplitude", "texture_filter"}


def test_torchscript():
    network, image = trained(), source(9, 12)
    with torch.no_grad():
        assert_close(torch.jit.script(network)(image), network(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 3}, "`factor` must be one of"),
        ({"texture_size": 4}, "`texture_size` must be odd and >= 1, got 4"),
        ({"tolerance": -1.0}, "`tolerance` must be >= 0, got -1"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BicubicResidualGenerator(**{**SMALL, **arguments})
