from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from common.convert_ggcl import discriminator_from_released, generator_from_released
from common.networks import SemanticDiscriminator, StarGANDiscriminator

from .released import (
    SequentialDiscriminator,
    SequentialGenerator,
    ggcl_discriminator_state,
    ggcl_generator_state,
)

FIXTURE = Path(__file__).parents[3] / "shared" / "fixtures" / "ggcl_reference"
released = pytest.mark.skipif(
    not (FIXTURE / "golden.npz").is_file(),
    reason="the released code's checkpoint (../shared/fixtures/ggcl_reference) is not beside the project",
)


def checkpoint(name):
    return torch.load(FIXTURE / name, weights_only=True)


def golden():
    """Inputs and outputs computed by the released network definitions; the features are average-pooled by 2."""
    return {name: torch.from_numpy(values) for name, values in np.load(FIXTURE / "golden.npz").items()}


@released
@pytest.mark.parametrize("training", [True, False])
def test_released_generator_is_reproduced(training):
    network, values = generator_from_released(checkpoint("400000-G.ckpt")).train(training), golden()
    output, feature = network.features(values["image"], values["target"])
    assert_close(output, values["translated"], rtol=0, atol=1e-5)
    assert_close(F.avg_pool2d(feature, 2), values["generator_feature"], rtol=0, atol=1e-5)


@released
def test_released_discriminator_is_reproduced():
    network, values = discriminator_from_released(checkpoint("400000-D.ckpt")).eval(), golden()
    source_map, domain_logits, semantic_map = network.features(values["image"])
    # Tighter than 1e-5 where the values themselves are about 1e-3.
    assert_close(source_map, values["source_map"], rtol=1e-4, atol=1e-7)
    assert_close(domain_logits, values["domain_logits"], rtol=1e-4, atol=1e-7)
    assert_close(F.avg_pool2d(semantic_map, 2), values["discriminator_feature"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("width", "domains", "blocks", "channels"), [(4, 3, 2, 1), (2, 8, 0, 1), (3, 5, 6, 3)])
def test_stargans_sequential_generator(width, domains, blocks, channels):
    torch.manual_seed(0)
    reference = SequentialGenerator(width, domains, blocks, channels).train()
    network = generator_from_released(reference.state_dict())
    assert network.arguments == {
        "num_domains": domains,
        "in_channels": channels,
        "out_channels": channels,
        "channels": width,
        "num_res_blocks": blocks,
        "upsample": "transposed",
    }
    image, target = torch.randn(2, channels, 16, 12), torch.eye(domains)[:2]
    assert_close(network(image, target), reference(image, target))


@pytest.mark.parametrize(("size", "width", "domains", "layers"), [(32, 4, 3, 3), (16, 2, 6, 4), (8, 3, 1, 1)])
def test_stargans_sequential_discriminator(size, width, domains, layers):
    torch.manual_seed(0)
    reference = SequentialDiscriminator(size, width, domains, layers)
    network = discriminator_from_released(reference.state_dict())
    assert isinstance(network, StarGANDiscriminator)
    sizes = {"image_size": size, "num_domains": domains, "in_channels": 1, "channels": width, "num_layers": layers}
    assert network.arguments == sizes
    image = torch.randn(2, 1, size, size)
    assert_close(network(image), reference(image))


@pytest.mark.parametrize(("width", "domains", "blocks"), [(4, 3, 2), (2, 8, 0), (3, 1, 11)])
def test_sizes_of_a_ggcl_generator(width, domains, blocks):
    network = generator_from_released(ggcl_generator_state(width, domains, blocks))
    assert network.arguments == {
        "num_domains": domains,
        "in_channels": 1,
        "out_channels": 1,
        "channels": width,
        "num_res_blocks": blocks,
        "upsample": "pixelshuffle",
    }


@pytest.mark.parametrize(("size", "width", "domains", "layers"), [(16, 2, 3, 4), (32, 3, 6, 2), (128, 1, 1, 7)])
def test_sizes_of_a_ggcl_discriminator(size, width, domains, layers):
    network = discriminator_from_released(ggcl_discriminator_state(size, width, domains, layers))
    assert isinstance(network, SemanticDiscriminator)
    sizes = {"image_size": size, "num_domains": domains, "in_channels": 1, "channels": width, "num_layers": layers}
    assert network.arguments == sizes


def test_each_tensor_is_taken_over():
    """Whatever its name: the same values, counted over the file and over the network."""
    for state, convert in (
        (ggcl_generator_state(), generator_from_released),
        (ggcl_discriminator_state(), discriminator_from_released),
    ):
        used = [v for name, v in state.items() if "running" not in name and "tracked" not in name]
        converted = convert(state).state_dict()
        assert len(converted) == len(used)
        assert sorted(v.double().sum().item() for v in used) == sorted(
            v.double().sum().item() for v in converted.values()
        )


def test_old_spectral_norm_gives_the_same_weights():
    """sigma is u^T W v, with the vectors of the file; the power iteration does not run."""
    torch.manual_seed(0)
    state = ggcl_discriminator_state()
    network = discriminator_from_released(state).eval()
    weight, u, v = (state[f"down2.0.weight{suffix}"] for suffix in ("_orig", "_u", "_v"))
    assert_close(network.downs[2][0].weight, weight / (u @ weight.flatten(1) @ v))


@pytest.mark.parametrize(
    ("state", "convert"),
    [
        (ggcl_generator_state(), generator_from_released),
        (SequentialGenerator().state_dict(), generator_from_released),
        (ggcl_discriminator_state(), discriminator_from_released),
        (SequentialDiscriminator().state_dict(), discriminator_from_released),
    ],
)
def test_parallel_prefix_and_the_unused_head_are_dropped(state, convert):
    expected = convert(state).state_dict()
    unused = {"out_feature.weight": torch.zeros(1, 8, 1, 1)}
    again = convert({f"module.{name}": tensor for name, tensor in {**state, **unused}.items()}).state_dict()
    assert_close(dict(again), dict(expected), rtol=0, atol=0)


def test_the_other_role_is_refused():
    with pytest.raises(
        ValueError, match=r"must hold the generator of .*; give the discriminator's as `discriminator`\."
    ):
        generator_from_released(ggcl_discriminator_state())
    with pytest.raises(ValueError, match=r"must hold the discriminator of .*; give the generator's as `generator`\."):
        discriminator_from_released(ggcl_generator_state())


def test_missing_unexpected_and_misshapen_tensors_are_named():
    state = ggcl_generator_state()
    missing = {name: tensor for name, tensor in state.items() if name != "down2.1.bias"}
    with pytest.raises(ValueError, match=r"not those of one generator of the released code: .*downs\.1\.1\.bias"):
        generator_from_released(missing)
    with pytest.raises(ValueError, match="attention"):
        generator_from_released({**state, "attention.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"size mismatch for downs\.0\.0\.weight"):
        generator_from_released({**state, "down1.0.weight": torch.zeros(9, 4, 4, 4)})


def test_sizes_that_no_network_has_are_refused():
    state = {**ggcl_generator_state(), "init.0.weight": torch.zeros(4, 1, 7, 7)}
    with pytest.raises(ValueError, match=r"sizes that no StarGANGenerator has: `num_domains` must be >= 1, got 0\."):
        generator_from_released(state)
