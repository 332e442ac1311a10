from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from common.networks import CompactGenerator


def compact_size(dims, channels=(16, 32, 64), units=2):
    """Parameters with one input and one output channel, counted block by block."""

    def block(inputs, outputs):  # convolution with bias, group norm with scale and shift
        return 3**dims * inputs * outputs + outputs + 2 * outputs

    widths = (channels[0], *channels)
    total = block(1, widths[0]) + units * 2 * block(widths[-1], widths[-1]) + widths[0] + 1
    for fine, coarse in pairwise(widths):
        total += block(fine, coarse) + coarse * fine * 2**dims + block(fine, fine)
    return total


@pytest.mark.parametrize("dims", [2, 3])
def test_size(dims):
    assert sum(parameter.numel() for parameter in CompactGenerator(dims).parameters()) == compact_size(dims)


def test_default_is_about_a_fifth_of_a_million():
    assert 0.19e6 < compact_size(2) < 0.21e6


@pytest.mark.parametrize("dims", [2, 3])
def test_fresh_upsampling_is_nearest_neighbour(dims):
    """No checkerboard to unlearn: each block of 2**dims voxels starts with one value."""
    network = CompactGenerator(dims, channels=(8, 16))
    feature = torch.randn(2, 16, *[5, 4, 3][:dims])
    upsampled = network.ups[0](feature)
    assert upsampled.shape == (2, 8, *[10, 8, 6][:dims])
    corners = upsampled[(..., *[slice(None, None, 2)] * dims)]
    nearest = torch.nn.functional.interpolate(corners, scale_factor=2, mode="nearest")
    assert_close(upsampled, nearest)
    assert corners.std() > 0


def test_full_resolution_level_reaches_the_output():
    network, image = CompactGenerator(channels=(8, 16)), torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        network.ups[-1].conv_block.weight.zero_()  # nothing comes from the coarser levels
        output = network(image)
    checkerboard = (torch.arange(32)[:, None] + torch.arange(32)) % 2
    assert (output[..., checkerboard == 1] - network(-image)[..., checkerboard == 1]).abs().max() > 0.01
    assert not torch.allclose(output[..., ::2, ::2], output[..., 1::2, 1::2])


def test_learns_a_contrast_inversion():
    torch.manual_seed(0)
    network = CompactGenerator(channels=(8, 16), num_res_units=1)
    image = torch.nn.functional.avg_pool2d(torch.rand(2, 1, 28, 28) * 4 - 2, 5, stride=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(30):
        loss = (network(image) + image).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * image.abs().mean()


def test_a_margin_keeps_the_frame_out_of_the_image() -> None:
    """A constant background is mapped to a constant, up to the border."""
    torch.manual_seed(0)
    without = CompactGenerator(channels=(8,), num_res_units=0, num_groups=0)
    framed = CompactGenerator(channels=(8,), num_res_units=0, num_groups=0, margin=8)
    framed.load_state_dict(without.state_dict())
    background = torch.full((1, 1, 32, 31), -1.0)
    with torch.no_grad():
        assert float(without(background).std()) > 1e-3
        torch.testing.assert_close(framed(background).std(), torch.tensor(0.0), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="`margin` must be >= 0, got -1"):
        CompactGenerator(margin=-1)
