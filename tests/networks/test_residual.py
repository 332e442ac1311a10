"""Generators that start where the classical method ends."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from common.networks import (
    IntensityCurveLayer,
    ResidualGenerator,
    UNetGenerator,
    load_definition,
    save_definition,
)

SMALL = {"channels": [4, 4, 8, 8, 8]}


def random_image(*shape):
    image = torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 1.9 - 0.9
    image[..., :5] = -1
    return image


def trained(dims=2, **more):
    torch.manual_seed(0)
    generator = ResidualGenerator(dims, arguments=SMALL, **more).eval()
    last = [m for m in generator.residual.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Conv3d))][-1]
    torch.nn.init.normal_(last.weight)
    return generator


def test_a_curve_interpolates_between_its_points():
    layer = IntensityCurveLayer(9)
    values = np.sin(np.linspace(-1, 1, 9) * 2)
    layer.set(values)
    image = random_image(2, 1, 7, 9)
    expected = np.interp(image.numpy(), np.linspace(-1, 1, 9), values)
    assert_close(layer(image), torch.as_tensor(expected, dtype=torch.float32), atol=1e-6, rtol=0)
    assert layer(torch.tensor([2.0, -3.0])).tolist() == pytest.approx([values[-1], values[0]])


def test_a_curve_takes_as_many_values_as_points():
    with pytest.raises(ValueError, match="`values` must hold 5 numbers, one per point, got 3"):
        IntensityCurveLayer(5).set([0, 1, 2])
    with pytest.raises(ValueError, match="`points` must be >= 2, got 1"):
        IntensityCurveLayer(1)


@pytest.mark.parametrize("dims", [2, 3])
def test_an_untrained_generator_is_the_classical_method(dims):
    generator = ResidualGenerator(dims, arguments=SMALL, points=3)
    generator.base.set([0.9, 0.2, -0.7])
    image = random_image(2, 1, *[33, 20, 17][:dims])
    expected = torch.where(image > -0.95, generator.base(image), torch.tensor(-1.0))
    assert torch.equal(generator(image), expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_background_stays_background_exactly(dims):
    generator, image = trained(dims), random_image(1, 1, *[33, 20, 17][:dims])
    output = generator(image)
    assert (output[image == -1] == -1).all()
    assert (output[image > -0.9] != generator.classical(image)[image > -0.9]).any()
    assert output.min() >= -1
    assert output.max() <= 1


def test_the_residual_can_be_left_out():
    generator, image = trained(), random_image(1, 1, 32, 32)
    generator.residual_weight = 0.0
    assert_close(generator(image), torch.where(image > -0.95, image, torch.tensor(-1.0)))


def test_gradients_reach_the_last_layer_first():
    """It starts at zero, so that the layers before it follow from the second step on."""
    generator = ResidualGenerator(2, arguments=SMALL)
    generator(random_image(1, 1, 32, 32)).mean().backward()
    assert generator.residual.net.final_conv.weight.grad.abs().sum() > 0
    assert generator.residual.net.conv_0.conv_0.conv.weight.grad.abs().sum() == 0


def test_a_wider_field_changes_nothing_far_from_its_edge():
    """There is no norm layer, whose statistics would depend on the amount of background."""
    generator, image = trained(), random_image(1, 1, 64, 64)
    wide = torch.nn.functional.pad(image, [160] * 4, value=-1.0)
    framed = torch.nn.functional.pad(image, [256] * 4, value=-1.0)
    assert_close(generator(wide)[..., 160:224, 160:224], generator(framed)[..., 256:320, 256:320])


def of_neighbours(slices=3):
    torch.manual_seed(0)
    generator = ResidualGenerator(2, in_channels=slices, arguments=SMALL, points=5)
    generator.base.set([1, 0.5, 0, -0.5, -1])
    torch.nn.init.normal_(generator.residual.net.final_conv.weight, std=0.01)
    return generator.eval()


def test_the_middle_of_neighbouring_slices_is_translated():
    """Its neighbours change the result, but neither where the background is nor what the curve starts from."""
    generator, image = of_neighbours(), random_image(1, 3, 40, 33)
    image[:, 1, :9] = -1
    output = generator(image)
    assert output.shape == (1, 1, 40, 33)
    assert (output[image[:, 1:2] == -1] == -1).all()
    assert (output[image[:, 1:2] > -1] > -1).float().mean() > 0.9
    other = image.clone()
    other[:, 0] = -1
    assert (generator(other) - output)[image[:, 1:2] > -1].abs().max() > 1e-4
    generator.residual_weight = 0.0
    expected = torch.where(image[:, 1:2] > -1, -image[:, 1:2], torch.tensor(-1.0))
    assert_close(generator(image), expected)
    assert torch.equal(generator(other), generator(image))


def test_an_earlier_definition_without_neighbours_still_loads(tmp_path):
    """Weights that were written before `in_channels` existed."""
    generator = trained(points=5)
    assert {key for key in generator.state_dict() if not key.startswith("residual.net.")} == {"base.values"}
    save_definition(tmp_path / "network.json", generator)
    document = json.loads((tmp_path / "network.json").read_text())
    del document["arguments"]["in_channels"]
    (tmp_path / "network.json").write_text(json.dumps(document))
    again = load_definition(tmp_path, {}).eval()
    again.load_state_dict(generator.state_dict())
    image = random_image(1, 1, 40, 33)
    assert torch.equal(again(image), generator(image))


def test_definition_round_trip(tmp_path):
    generator = trained(points=5)
    generator.base.set([1, 0.5, 0, -0.5, -1])
    save_definition(tmp_path / "network.json", generator)
    again = load_definition(tmp_path, {}).eval()
    again.load_state_dict(generator.state_dict())
    image = random_image(1, 1, 40, 33)
    assert torch.equal(again(image), generator(image))


@pytest.mark.parametrize("generator", [trained(), of_neighbours()])
def test_torchscript(generator):
    image = random_image(1, generator.arguments["in_channels"], 40, 33)
    assert_close(torch.jit.script(generator)(image), generator(image))
    script = torch.jit.trace(generator, image, check_trace=False)
    other = random_image(2, generator.arguments["in_channels"], 75, 50)
    assert_close(script(other), generator(other))


def test_other_networks_can_be_the_residual():
    generator = ResidualGenerator(2, network="CompactGenerator", arguments={"channels": [8, 8]}, base="identity")
    image = random_image(1, 1, 32, 32)
    assert torch.equal(generator(image), image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base": "filter"}, "`base` must be one of"),
        ({"network": "os.system"}, "`network` must be one of common.networks"),
        ({"arguments": {"channels": [4]}}, "`channels` must hold five numbers"),
        ({"arguments": {"channels": [4, 4, 8, 8, 0]}}, "`channels` must hold five numbers >= 1"),
        ({"in_channels": 2}, "`in_channels` must be odd, with the translated slice in the middle, got 2"),
        ({"spatial_dims": 32}, "`spatial_dims` must be 2 or 3, got 32"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResidualGenerator(**{"spatial_dims": 2, **arguments})


def test_the_unet_keeps_odd_sizes():
    assert UNetGenerator(2, **SMALL)(torch.zeros(2, 1, 17, 50)).shape == (2, 1, 17, 50)


def test_a_network_of_stacks_translates_all_of_their_slices():
    """`in_channels` is 1: the three channels are no neighbours of a middle one; at first nothing is added to any."""
    arguments = {"in_channels": 3, "out_channels": 3, **SMALL}
    network = ResidualGenerator(2, base="identity", background=-1.0, arguments=arguments).eval()
    stacks = torch.rand(2, 3, 32, 32) * 1.8 - 0.9
    torch.testing.assert_close(network(stacks), stacks)
