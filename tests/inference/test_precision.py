"""`--precision fast`: bfloat16 only where it is measured to do no harm, the head in float32 always."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.inference import SetPrecision, precision
from common.inference.precision import by_fourier, in_bfloat16, in_float32, phantom, rounding, spread
from common.networks import NECGenerator, PhysicsGenerator, SPADEGenerator, WithTarget
from common.networks.physics import RadialFilterBank

LABEL = [0.0, 0.0, 1.0]


@pytest.fixture(autouse=True)
def device_that_multiplies(monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda _: True)  # any device can, if slowly


def physics(head: float = 0.02) -> WithTarget:
    torch.manual_seed(0)
    generator = PhysicsGenerator(3, channels=8, num_res_blocks=1)
    nn.init.normal_(generator.refine.head.weight, std=head)
    return WithTarget(generator, LABEL, [1.0, 0.0, 0.0, 0.7]).eval()


def smoothing() -> nn.Module:
    """The mean of 7 x 7 pixels: all of the image goes through the body, of whose noise hardly any is left."""
    body, head = nn.Conv2d(1, 1, 7, padding=3, bias=False), nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(body.weight, 1 / 49)
    nn.init.ones_(head.weight)
    return nn.Sequential(body, head).eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(7, 7), (3, 5), (1, 1)])
def test_spreading_pixels_is_a_convolution(size, bias):
    layer = nn.Conv2d(5, 2, size, padding=(size[0] // 2, size[1] // 2), bias=bias).double()
    image = torch.rand(2, 5, 12, 9, dtype=torch.float64)
    torch.testing.assert_close(spread(image, layer.weight, layer.bias), layer(image))


@pytest.mark.parametrize("images", [1, 2])
def test_a_filter_by_spectra_is_that_by_sums(images):
    bank = RadialFilterBank(3, size=15).double()
    nn.init.normal_(bank.coefficients)
    image = torch.rand(images, 1, 40, 33, dtype=torch.float64)
    labels = torch.tensor([[1.0, 0, 0]] * images).double(), torch.tensor([[0, 0.5, 0.5], [0, 1.0, 0]][:images]).double()
    spacing = torch.tensor([0.7, 0.6][:images]).double()
    torch.testing.assert_close(by_fourier(bank, image, *labels, spacing), bank(image, *labels, spacing))


def test_a_small_change_of_the_source_is_made_in_bfloat16_and_noted():
    network, facts = physics(), {}
    before = network(phantom())
    decided = SetPrecision(network, "fast", facts).decide("cpu")
    assert decided["body"] == "bfloat16"
    assert decided["error_over_noise"] <= 0.05
    assert facts == {"precision": decided}
    output = network(phantom())
    assert output.dtype == torch.float32
    assert 0 < (output - before).abs().max() < 2e-3  # 4 HU


def test_an_image_that_goes_through_the_body_as_a_whole_stays_in_float32(caplog):
    network = smoothing()
    before = network(phantom())
    with caplog.at_level(logging.WARNING):
        decided = SetPrecision(network, "fast").decide("cpu")
    assert decided["body"] == "float32"
    assert decided["error_over_noise"] > 0.05
    assert "the network stays in float32, its error in bfloat16 is" in caplog.text
    assert "5% are allowed" in caplog.text
    assert torch.equal(network(phantom()), before)


def test_exact_is_what_it_was_to_the_last_bit_also_after_fast():
    network = physics()
    before = network(phantom())
    for name in ("exact", "fast", "exact"):
        decided = SetPrecision(network, name).decide("cpu")
    assert decided == {"asked": "exact", "body": "float32"}
    assert torch.equal(network(phantom()), before)


def test_a_device_that_does_not_multiply_bfloat16_says_so(caplog, monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda _: False)
    assert SetPrecision(physics(), "fast").decide("cpu")["body"] == "float32"
    assert "this cpu does not multiply bfloat16, it stays float32" in caplog.text


def test_a_3d_network_stays_in_float32(caplog):
    network = NECGenerator(spatial_dims=3, channels=(2, 4), num_res_units=1)
    assert SetPrecision(network, "fast").decide("cpu") == {"asked": "fast", "body": "float32"}
    assert "is for 2-D networks" in caplog.text


@pytest.mark.parametrize(
    "network",
    [
        SPADEGenerator(channels=(16, 8), spade_channels=8),
        NECGenerator(spatial_dims=2, channels=(4, 8), num_res_units=1),
    ],
)
def test_bfloat16_is_close_to_float32_in_other_generators(network):
    found = rounding(network.eval())
    assert 0 < found.error < 0.05


def test_the_state_dict_stays_and_new_weights_count():
    network = physics()
    names = list(network.state_dict())
    in_bfloat16(network)
    assert list(network.state_dict()) == names
    assert all(value.dtype == torch.float32 for value in network.state_dict().values())
    other = physics(head=0.05)
    network.load_state_dict(other.state_dict())
    in_bfloat16(other)
    assert torch.equal(network(phantom()), other(phantom()))
    in_float32(network)
    assert "forward" not in network.network.refine.head.__dict__


def test_instance_norm_in_bfloat16_is_that_of_torch():
    norm = nn.Sequential(nn.InstanceNorm2d(6, affine=True))
    nn.init.uniform_(norm[0].weight), nn.init.uniform_(norm[0].bias)
    image = torch.rand(2, 6, 9, 8) + 3
    expected = F.instance_norm(image, weight=norm[0].weight, bias=norm[0].bias)
    in_bfloat16(norm)
    torch.testing.assert_close(norm(image), expected)


def test_another_precision_is_refused():
    with pytest.raises(ValueError, match="`precision` must be 'exact' or 'fast', got 'half'"):
        SetPrecision(smoothing(), "half")
