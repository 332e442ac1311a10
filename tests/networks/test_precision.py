from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from common.networks import (
    AttGANGenerator,
    CompactGenerator,
    DownSamplingGenerator,
    NECGenerator,
    PhysicsGenerator,
    ResNetGenerator,
    SPADEGenerator,
    SRUNITBackGenerator,
    SRUNITGenerator,
    StarGANGenerator,
    SuperResolutionGenerator,
    UNITBackGenerator,
    UNITGenerator,
)
from common.networks.layers import FullPrecisionConv2d, in_full_precision, without_autocast

TO_SECOND = torch.tensor([[0.0, 1.0, 0.0]])
GENERATORS = {
    "stargan": lambda: (StarGANGenerator(3, channels=8, num_res_blocks=1), TO_SECOND),
    "stargan_transposed": lambda: (StarGANGenerator(3, channels=8, num_res_blocks=1, upsample="transposed"), TO_SECOND),
    "attgan": lambda: (AttGANGenerator(3, channels=8, num_layers=3), TO_SECOND),
    "physics": lambda: (
        PhysicsGenerator(3, channels=8, num_res_blocks=1),
        torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.7]]),
    ),
    "resnet": lambda: (ResNetGenerator(channels=8, num_res_blocks=1),),
    "unit": lambda: (UNITGenerator(channels=8, num_res_blocks=1),),
    "unit_back": lambda: (UNITBackGenerator(channels=8, num_res_blocks=1), UNITGenerator(channels=8, num_res_blocks=1)),
    "nec": lambda: (NECGenerator(channels=(8, 8, 8), num_res_units=1),),
    "nec_plain": lambda: (NECGenerator(channels=(8, 8), num_res_units=0),),
    "nec_3d": lambda: (NECGenerator(3, channels=(8, 8), num_res_units=1),),
    "compact": lambda: (CompactGenerator(channels=(8, 8)),),
    "compact_3d": lambda: (CompactGenerator(3, channels=(8, 8)),),
    "spade": lambda: (SPADEGenerator(1, out_channels=1, channels=(8, 8), spade_channels=8),),
    "super_resolution": lambda: (SuperResolutionGenerator(channels=8, num_res_blocks=1),),
    "down_sampling": lambda: (DownSamplingGenerator(channels=8, num_res_blocks=1),),
    "sr_unit": lambda: (SRUNITGenerator(channels=8, num_res_blocks=1),),
    "sr_unit_back": lambda: (
        SRUNITBackGenerator(channels=8, num_res_blocks=1),
        SRUNITGenerator(channels=8, num_res_blocks=1),
    ),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_the_last_layer_of_each_generator_is_computed_in_float32_under_autocast(name):
    torch.manual_seed(0)
    network, *others = GENERATORS[name]()
    image = torch.rand(1, 1, *[16] * (3 if name.endswith("3d") else 2)) * 2 - 1
    with torch.no_grad():
        expected = network(image, *others)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = network(image, *others)
    assert output.dtype == torch.float32
    rounded = output.bfloat16().float()
    assert (rounded != output).float().mean() > 0.5, "the values are those of bfloat16"
    assert_close(output, expected, rtol=0.1, atol=0.1)


def test_a_layer_kept_in_float32_loses_nothing_but_what_its_input_lost():
    torch.manual_seed(0)
    layer, feature = FullPrecisionConv2d(4, 1, 3), torch.randn(1, 4, 8, 8).bfloat16()
    expected = layer(feature.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(layer(feature), expected, rtol=0, atol=0)
        assert_close(in_full_precision(layer, feature), expected, rtol=0, atol=0)


def test_without_autocast_the_precision_is_that_of_the_weights():
    layer, feature = FullPrecisionConv2d(1, 1, 1).double(), torch.ones(1, 1, 2, 2).double()
    assert layer(feature).dtype == torch.float64


def test_a_device_without_autocast_needs_none_of_it():
    with without_autocast(torch.device("meta")):
        assert FullPrecisionConv2d(1, 2, 1).to("meta")(torch.empty(1, 1, 4, 4, device="meta")).shape == (1, 2, 4, 4)
