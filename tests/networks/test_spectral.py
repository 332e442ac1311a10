from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torch.testing import assert_close

from common.networks.spectral import SpectralConv2d

SIDES = [4, 6, 32]  # few places, which are gathered, and many


def pair(**arguments) -> tuple[nn.Module, nn.Module]:
    """Ours and torch's own, of equal weights and vectors, in float64."""
    torch.manual_seed(0)
    options = {"stride": 2, "padding": 1, **arguments}
    ours = SpectralConv2d(3, 5, 4, **options).double().train()
    theirs = spectral_norm(nn.Conv2d(3, 5, 4, **options)).double().train()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def images(side: int, number: int = 3) -> torch.Tensor:
    return torch.randn(number, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def penalised(layer: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """A loss of an output and of its slope, and the gradients of the weights: those of a gradient penalty as well."""
    image = image.clone().requires_grad_()
    output = F.leaky_relu(layer(image), 0.01)
    (slope,) = torch.autograd.grad(output.sum(), image, create_graph=True)
    loss = (slope.flatten(1).norm(dim=1) - 1).square().mean() + output.square().mean()
    return [output, slope, loss, *torch.autograd.grad(loss, list(layer.parameters()))]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("arguments", [{}, {"bias": False}, {"stride": 1, "padding": 0}])
def test_outputs_gradients_and_vectors_are_those_of_torchs_spectral_norm(side, arguments):
    ours, theirs = pair(**arguments)
    for _ in range(2):
        assert_close(penalised(ours, images(side)), penalised(theirs, images(side)))
        assert_close(dict(ours.named_buffers()), dict(theirs.named_buffers()))
    assert_close(ours.eval()(images(side)), theirs.eval()(images(side)))


@pytest.mark.parametrize("side", SIDES)
def test_two_passes_in_one_are_two_calls(side):
    ours, theirs = pair()
    first, second = images(side, 2), images(side, 2) + 1
    together = ours(torch.cat([first, second]), 2)
    assert_close(together, torch.cat([theirs(first), theirs(second)]))
    assert_close(dict(ours.named_buffers()), dict(theirs.named_buffers()))


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="a batch of 3 must divide into `passes`, got 2"):
        pair()[0](images(4), 2)


@pytest.mark.parametrize("side", [4, 32])
def test_sigma_is_not_rounded_under_autocast(side):
    """An image of ones under a 1x1 convolution: the output is the normalised weight, to bfloat16's precision."""
    layer = SpectralConv2d(2, 2, 1, bias=False).eval()
    expected = layer.weight.flatten(1).sum(dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(torch.ones(1, 2, side, side))
    assert output.dtype == torch.float32
    assert_close(output[0, :, 0, 0], expected, rtol=1e-2, atol=1e-2)
