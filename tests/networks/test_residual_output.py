"""Generators whose output is a change of the source instead of an image."""

from __future__ import annotations

import pytest
import torch

from common.networks import AttGANGenerator, ResNetGenerator, StarGANGenerator

LABEL = torch.tensor([[0.0, 1.0, 0.0]])
GENERATORS = {
    "stargan": (lambda **k: StarGANGenerator(3, channels=4, num_res_blocks=1, **k), (LABEL,)),
    "attgan": (lambda **k: AttGANGenerator(3, channels=4, num_layers=3, **k), (LABEL,)),
    "resnet": (lambda **k: ResNetGenerator(channels=4, num_res_blocks=1, **k), ()),
    "resnet, antialiased": (lambda **k: ResNetGenerator(channels=4, num_res_blocks=1, antialias=True, **k), ()),
}


@pytest.fixture(params=list(GENERATORS))
def generator(request):
    return GENERATORS[request.param]


def image(side: int = 18) -> torch.Tensor:
    return 2 * torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(1)) - 1


def test_a_residual_generator_starts_as_the_identity_and_can_learn(generator):
    build, label = generator
    network = build(residual_scale=0.1)
    output = network(image(), *label)
    torch.testing.assert_close(output, image())
    (output - 0.5).square().mean().backward()
    assert network.head.weight.grad.abs().max() > 0


def test_a_change_is_at_most_the_scale_and_stays_in_the_range(generator):
    build, label = generator
    network = build(residual_scale=0.1)
    torch.nn.init.normal_(network.head.weight, std=10.0)
    output = network(image(), *label)
    change = output - image()
    assert 0.09 < change.abs().max() <= 0.1 + 1e-6
    assert output.abs().max() <= 1.0


def test_without_a_scale_the_output_does_not_hold_the_source(generator):
    build, label = generator
    network = build()
    for parameter in network.head.parameters():
        torch.nn.init.zeros_(parameter)
    assert network(image(), *label).abs().max() == 0


@pytest.mark.parametrize("scale", [-0.1, 2.5])
def test_a_scale_outside_of_the_range_is_refused(generator, scale):
    build, _ = generator
    with pytest.raises(ValueError, match=rf"`residual_scale` must lie in \[0, 2\], got {scale}"):
        build(residual_scale=scale)
