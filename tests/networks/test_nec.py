from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet
from torch.testing import assert_close

from common.networks import NECGenerator

PAPER = (64, 128, 256, 512, 512, 512, 512, 512)


def convolution(dims, inputs, outputs, kernel=3):
    return kernel**dims * inputs * outputs + outputs


def unet_size(dims, channels, units):
    """Parameters of a residual U-Net with one input and one output channel, counted block by block."""
    total, before = 0, 1
    for level, width in enumerate(channels):
        bottom = level == len(channels) - 1
        total += convolution(dims, before, width) + (units - 1) * convolution(dims, width, width) + units  # PReLUs
        if not bottom:
            total += convolution(dims, before, width)  # the strided shortcut
        elif before != width:
            total += convolution(dims, before, width, kernel=1)
        before = width
    for level in reversed(range(len(channels) - 1)):
        below = channels[-1] if level == len(channels) - 2 else channels[level]
        outputs = channels[level - 1] if level else 1
        total += convolution(dims, channels[level] + below, outputs) + 1  # transposed, PReLU
        total += convolution(dims, outputs, outputs) + (1 if level else 0)  # no activation at the output
    return total


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(scope="module")
def paper_network():
    """The paper's network, 581 MB; built once."""
    torch.manual_seed(0)
    return NECGenerator()


def test_paper_size(paper_network):
    assert count(paper_network) == unet_size(2, PAPER, 9)
    assert 575e6 < 4 * count(paper_network) < 585e6  # docs: about 580 MB
    assert paper_network.encode_channels == list(PAPER)
    assert f"{count(paper_network):,} parameters" in NECGenerator.__doc__


@pytest.mark.parametrize("size", [(240, 240), (124, 160), (24, 256)])
def test_paper_network_takes_sizes_that_monais_unet_refuses(paper_network, size):
    with torch.no_grad():
        output = paper_network(torch.rand(1, 1, *size) * 2 - 1)
    assert output.shape == (1, 1, *size)
    assert output.isfinite().all()


@pytest.mark.parametrize(("dims", "channels", "units"), [(2, (4, 6, 6), 1), (2, (3, 5, 7, 7), 3), (3, (2, 4, 5), 2)])
def test_size_of_narrow_networks(dims, channels, units):
    assert count(NECGenerator(dims, channels=channels, num_res_units=units)) == unet_size(dims, channels, units)


def test_default_in_3d_has_five_levels():
    with torch.device("meta"):
        network = NECGenerator(3)
    assert network.encode_channels == list(PAPER[:5])
    assert count(network) == unet_size(3, PAPER[:5], 9)


@pytest.mark.parametrize("units", [0, 2])
@pytest.mark.parametrize("size", [(32, 48), (21, 40), (7, 9), (17, 8, 20)])
def test_is_monais_unet_on_the_padded_image(size, units):
    """A bare UNet's weights load as they are and give the same on an image that numpy has padded."""
    torch.manual_seed(1)
    dims, channels = len(size), (4, 6, 8)
    unet = UNet(dims, 1, 1, channels, (2, 2), num_res_units=units)
    network = NECGenerator(dims, channels=channels, num_res_units=units)
    network.load_state_dict(unet.state_dict())
    image = torch.rand(2, 1, *size) * 2 - 1
    missing = [max(8, -(-side // 4) * 4) - side for side in size]
    widths = [(0, 0), (0, 0), *((m // 2, m - m // 2) for m in missing)]
    padded = torch.from_numpy(np.pad(image.numpy(), widths, constant_values=-1.0))
    middle = tuple(slice(m // 2, m // 2 + side) for m, side in zip(missing, size))
    assert_close(network(image), unet(padded)[(..., *middle)])
