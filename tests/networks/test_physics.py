"""The learnable radial filter: closed forms, and what an untrained generator is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from common.networks import IterativePhysicsGenerator, PhysicsGenerator
from common.networks.physics import RadialFilterBank, mirrored


def gaussian(sigma_mm):
    """The transfer function of a Gaussian blur."""
    return lambda f: np.exp(-2 * (math.pi * sigma_mm * f) ** 2)


def one_hot(index, count=3):
    return torch.eye(count)[index : index + 1]


def label(target, source, spacing):
    return torch.cat([one_hot(target), one_hot(source), torch.tensor([[spacing]])], dim=1)


@pytest.fixture
def bank():
    bank = RadialFilterBank(3)
    bank.set(0, 1, gaussian(0.4))
    bank.set(0, 2, lambda f: 1 + 2 * f)
    return bank


def test_it_starts_as_the_gain_that_it_was_given(bank):
    frequency = torch.linspace(0, 1.1, 40)
    assert_close(bank.gains(frequency)[0, 1], torch.from_numpy(gaussian(0.4)(frequency.numpy())), atol=1e-3, rtol=0)
    assert_close(bank.gains(frequency)[0, 2], 1 + 2 * frequency, atol=1e-3, rtol=0)
    assert_close(bank.gains(frequency)[1, 1], torch.ones(40))


def test_a_learnt_change_is_smooth_and_leaves_uniform_regions_alone(bank):
    with torch.no_grad():
        bank.coefficients.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    frequency = torch.linspace(0, 1.1, 400)
    gains = bank.gains(frequency)
    assert_close(gains[:, :, 0], torch.ones(3, 3))
    change = (gains[0, 1] / torch.from_numpy(gaussian(0.4)(frequency.numpy()))).log()[:150]
    assert change.abs().max() > 0.1
    assert change.diff().abs().max() < 0.1  # no jump within 1/400 of the range
    assert_close(gains[1, 1], torch.ones(400))


@pytest.mark.parametrize("spacing", [0.55, 0.7, 0.85])
@pytest.mark.parametrize("cycles", [4, 12, 24])
def test_a_wave_is_scaled_by_the_gain_at_its_frequency_in_lp_per_mm(bank, spacing, cycles):
    wave = torch.cos(2 * math.pi * cycles / 96 * torch.arange(96)).expand(1, 1, 96, 96)
    filtered = bank(wave, one_hot(0), one_hot(1), torch.tensor([spacing]))
    middle = (..., slice(20, -20), slice(20, -20))
    expected = float(gaussian(0.4)(cycles / 96 / spacing)) * wave
    assert_close(filtered[middle], expected[middle], atol=6e-3, rtol=0)


def test_a_uniform_region_keeps_its_value_up_to_the_border(bank):
    constant = torch.full((2, 1, 40, 50), -0.3)
    spacing = torch.tensor([0.6, 0.8])
    for target in (0, 1, 2):
        assert_close(bank(constant, one_hot(0).expand(2, -1), one_hot(target).expand(2, -1), spacing), constant)


@pytest.mark.parametrize("shape", [(12, 96), (1, 1), (7, 14), (40, 15)])
def test_an_image_smaller_than_the_filter_is_mirrored_as_often_as_needed(shape):
    image = torch.rand(2, 1, *shape)
    expected = np.pad(image.numpy(), [(0, 0), (0, 0), (15, 15), (15, 15)], mode="symmetric")
    assert_close(mirrored(image, 15), torch.from_numpy(expected), atol=0, rtol=0)
    network = PhysicsGenerator(3, channels=8, num_res_blocks=1)
    assert network(image, label(1, 0, 0.7)).shape == image.shape


def test_each_image_of_a_batch_gets_its_own_conversion(bank):
    images = torch.rand(2, 1, 48, 48)
    source, target = one_hot(0).expand(2, -1), torch.cat([one_hot(1), one_hot(2)])
    spacing = torch.tensor([0.6, 0.8])
    together = bank(images, source, target, spacing)
    for i in range(2):
        alone = bank(images[i : i + 1], source[:1], target[i : i + 1], spacing[i : i + 1])
        assert_close(together[i : i + 1], alone)


def test_the_filter_towards_a_blend_is_the_blend_of_the_filters(bank):
    image, spacing = torch.rand(1, 1, 48, 48), torch.tensor([0.7])
    parts = [bank(image, one_hot(0), one_hot(t), spacing) for t in (1, 2)]
    blend = bank(image, one_hot(0), torch.tensor([[0.0, 0.25, 0.75]]), spacing)
    assert_close(blend, 0.25 * parts[0] + 0.75 * parts[1])


def test_an_untrained_generator_is_its_filter_and_from_a_kernel_to_itself_the_identity(bank):
    network = PhysicsGenerator(3, channels=4, num_res_blocks=1)
    network.filters.load_state_dict(bank.state_dict())
    image = torch.rand(2, 1, 48, 48) * 2 - 1
    expected = bank(image, one_hot(0), one_hot(1), torch.tensor([0.7]))
    assert_close(network(image, label(1, 0, 0.7)), expected)
    assert_close(network(image, label(2, 2, 0.7)), image)


def test_clipped_air_becomes_as_dark_as_it_is_after_softening_and_outputs_stay_in_range(bank):
    network = PhysicsGenerator(3, channels=0)
    network.filters.load_state_dict(bank.state_dict())
    noise = torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    latent = -1 + (24 + 80 * noise) * 2 / 4095  # air of -1000 HU, SD 80 HU
    stored = latent.clamp(min=-1)
    softened = network(stored, label(1, 0, 0.7)).mean()
    unrestored = PhysicsGenerator(3, channels=0, air_below=None)
    unrestored.filters.load_state_dict(bank.state_dict())
    wanted = bank(latent, one_hot(0), one_hot(1), torch.tensor([0.7])).clamp(min=-1).mean()
    assert abs(softened - wanted) < 0.2 * abs(unrestored(stored, label(1, 0, 0.7)).mean() - wanted)
    for target in range(3):
        assert network(1.5 * noise.clamp(-1, 1), label(target, 0, 0.7)).abs().max() <= 1


def test_filter_and_refinement_both_learn():
    network = PhysicsGenerator(3, channels=4, num_res_blocks=1)
    network(torch.rand(2, 1, 48, 48), label(1, 0, 0.7)).square().mean().backward()
    assert network.filters.coefficients.grad[0, 1].abs().sum() > 0
    assert network.filters.coefficients.grad[1, 0].abs().sum() == 0
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.refine.parameters())


def test_wrong_labels_and_arguments_are_named():
    with pytest.raises(ValueError, match=r"`label` must have shape \(batch, 7\): \[target \| source \| mm\]"):
        PhysicsGenerator(3, channels=0)(torch.zeros(1, 1, 40, 40), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="`size` must be odd and >= 3, got 30"):
        RadialFilterBank(3, size=30)
    with pytest.raises(ValueError, match="`num_knots` must be >= 2, got 1"):
        RadialFilterBank(3, num_knots=1)


def last_layer(network):
    return [layer for layer in network.residual.modules() if isinstance(layer, torch.nn.Conv2d)][-1]


@pytest.fixture
def iterative(bank):
    network = IterativePhysicsGenerator(3, linear=[0, 1], channels=(4, 4, 8, 8, 8))
    network.filters.load_state_dict(bank.state_dict())
    return network


@pytest.mark.parametrize("shape", [(48, 48), (37, 50), (20, 7)])
def test_before_training_it_is_the_filter_in_every_direction(iterative, bank, shape):
    image = torch.rand(2, 1, *shape) * 1.6 - 0.8
    for source in range(3):
        for target in range(3):
            expected = bank(image, one_hot(source), one_hot(target), torch.tensor([0.7])).clamp(-1, 1)
            assert_close(iterative(image, label(target, source, 0.7)), expected)


def test_the_residual_works_where_a_domain_is_not_linear_and_nowhere_else(iterative):
    torch.nn.init.normal_(last_layer(iterative).weight, std=0.1)
    image = torch.rand(2, 1, 48, 40) * 1.6 - 0.8
    changed = {}
    for source in range(3):
        for target in range(3):
            whole = iterative(image, label(target, source, 0.7))
            iterative.residual_weight = 0.0
            changed[source, target] = bool((whole != iterative(image, label(target, source, 0.7))).any())
            iterative.residual_weight = 1.0
    assert {pair for pair, differs in changed.items() if differs} == {(0, 2), (1, 2), (2, 0), (2, 1)}


def test_it_knows_source_and_target_and_each_image_of_a_batch_has_its_own(iterative):
    torch.nn.init.normal_(last_layer(iterative).weight, std=0.1)
    iterative.filters.initial.fill_(1.0)  # no filter: only the labels differ
    image = torch.rand(1, 1, 48, 48) * 0.5
    labels = [label(2, 0, 0.7), label(2, 1, 0.7), label(0, 2, 0.7)]
    alone = [iterative(image, each) for each in labels]
    assert all((alone[0] - other).abs().max() > 1e-4 for other in alone[1:])
    assert_close(iterative(image.expand(3, -1, -1, -1), torch.cat(labels)), torch.cat(alone), atol=1e-5, rtol=0)


def test_only_the_network_of_a_direction_that_needs_it_learns(iterative):
    (iterative(torch.rand(1, 1, 32, 32), label(2, 0, 0.7)) - 1).square().mean().backward()
    assert last_layer(iterative).weight.grad.abs().sum() > 0


def test_its_script_computes_the_same(iterative):
    torch.nn.init.normal_(last_layer(iterative).weight, std=0.1)
    image = torch.rand(2, 1, 37, 50)
    scripted = torch.jit.script(iterative)
    for target, source in ((2, 0), (1, 0)):
        assert_close(scripted(image, label(target, source, 0.7)), iterative(image, label(target, source, 0.7)))


def test_a_linear_domain_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"`linear` must hold indices of the 3 domains, got \[0, 3\]"):
        IterativePhysicsGenerator(3, linear=[0, 3])
