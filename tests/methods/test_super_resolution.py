"""SR-CycleGAN and SR-UNIT: the equations, which network learns from which term, and the baselines without MMSR."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from common.methods import unit
from tests.helpers.methods import RecordingTrainer
from tests.helpers.super_resolution_methods import FACTOR, SIZE, batch, super_resolution_method

NAMES = ("sr_cyclegan", "sr_unit")
G, BACK, D_TARGET, D_SOURCE = "generator", "back_generator", "target_discriminator", "source_discriminator"
GENERATORS, DISCRIMINATORS = {G, BACK}, {D_TARGET, D_SOURCE}
ROUTES = {"sr_cyclegan": [GENERATORS, DISCRIMINATORS], "sr_unit": [DISCRIMINATORS, GENERATORS]}
MMSR = {"mmsr", "source_ssim", "target_ssim", "downsample", "upsample"}
PICTURES = {"real_source", "fake_target", "real_target"}

# the networks that get gradient from a term; SR-UNIT's shared blocks belong to the generator
LEARNERS = {
    "sr_cyclegan": {
        "adversarial": GENERATORS,
        "cycle": GENERATORS,
        "target_identity": {G},
        "source_identity": {BACK},
        "source_ssim": {G},
        "downsample": {G},
        "target_ssim": {BACK},
        "upsample": {BACK},
        "discriminator": DISCRIMINATORS,
    },
    "sr_unit": {
        "adversarial": GENERATORS,
        "reconstruction": GENERATORS,
        "kl": GENERATORS,
        "cycle": GENERATORS,
        "cycle_kl": GENERATORS,
        "source_ssim": {G},
        "downsample": {G},
        "target_ssim": GENERATORS,
        "upsample": GENERATORS,
        "discriminator": DISCRIMINATORS,
    },
}


class TermTrainer(RecordingTrainer):
    """Propagates nothing, so that the terms can be propagated one by one."""

    def update(self, optimizer, loss):
        assert loss.requires_grad


@pytest.fixture
def no_noise(monkeypatch):
    monkeypatch.setattr(unit, "with_noise", lambda code: code)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_stepped_networks_receive_gradient(name):
    trainer = RecordingTrainer(super_resolution_method(name))
    trainer.method(trainer, batch())
    assert [stepping for stepping, _ in trainer.updates] == ROUTES[name]
    for stepping, with_gradient in trainer.updates:
        assert with_gradient == stepping


@pytest.mark.parametrize(("name", "term"), [(name, term) for name in NAMES for term in LEARNERS[name]])
def test_who_learns_from_a_term(name, term):
    method = super_resolution_method(name)
    output = method(TermTrainer(method), batch())
    assert set(output) == {*LEARNERS[name], "generator", "mmsr"} | PICTURES
    for network in method.networks.values():
        network.zero_grad(set_to_none=True)
    output[term].backward()
    learners = {
        key
        for key, network in method.networks.items()
        if any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())
    }
    assert learners == LEARNERS[name][term]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_losses_are_finite_scalars_and_images_have_their_domains_size(name, size):
    method = super_resolution_method(name)
    for key, value in method(RecordingTrainer(method), batch(size)).items():
        if key in PICTURES:
            side = SIZE if key == "real_source" else FACTOR * SIZE
            assert value.shape == (size, 1, side, side)
            assert not value.requires_grad
        else:
            assert value.numel() == 1
            assert bool(torch.isfinite(value))


def test_sr_cyclegan_is_equation_4():
    method, data = super_resolution_method("sr_cyclegan"), batch()
    x, y = data["source"], data["target"]
    g1, g2 = method.generator, method.back_generator
    with torch.no_grad():
        fake_target, fake_source = g1(x), g2(y)
        judged = method.target_discriminator(fake_target)[0], method.source_discriminator(fake_source)[0]
        cycle = (g2(fake_target) - x).abs().mean() + (g1(fake_source) - y).abs().mean()
        centre = y[:, :, 6:18, 6:18]
        target_identity = (F.avg_pool2d(g1(centre), FACTOR) - centre).abs().mean()
        source_identity = (F.interpolate(g2(x), scale_factor=2.0, mode="bilinear") - x).abs().mean()
    output = method(RecordingTrainer(method), data)
    adversarial = sum((logits - 1).square().mean() for logits in judged)
    assert_close(output["adversarial"], adversarial)
    assert_close(output["cycle"], cycle)
    assert_close(output["target_identity"], target_identity)
    assert_close(output["source_identity"], source_identity)
    mmsr = 2 * output["source_ssim"] + output["target_ssim"] + output["downsample"] + output["upsample"]
    assert_close(output["downsample"], (F.avg_pool2d(fake_target, FACTOR) - x).square().mean())
    assert_close(output["generator"], adversarial + cycle + 0.2 * target_identity + 0.02 * source_identity + mmsr)
    assert_close(output["fake_target"], fake_target)


def test_sr_cyclegans_discriminators_have_half_of_least_squares():
    method, data = super_resolution_method("sr_cyclegan", pool_size=0), batch()
    with torch.no_grad():
        fakes = method.generator(data["source"]), method.back_generator(data["target"])
        pairs = [
            (method.target_discriminator(data["target"])[0], method.target_discriminator(fakes[0])[0]),
            (method.source_discriminator(data["source"])[0], method.source_discriminator(fakes[1])[0]),
        ]
    expected = sum(0.5 * ((real - 1).square().mean() + fake.square().mean()) for real, fake in pairs)
    assert_close(method(RecordingTrainer(method), data)["discriminator"], expected)


def test_the_pools_keep_fifty_translations_of_each_domain():
    method = super_resolution_method("sr_cyclegan")
    assert {pool.size for pool in method.pools.values()} == {50}
    method(RecordingTrainer(method), batch(3))
    assert [len(method.pools[domain].images) for domain in ("target", "source")] == [3, 3]


def test_sr_unit_is_units_loss_with_mmsr(no_noise):
    method, data = super_resolution_method("sr_unit"), batch()
    x, y = data["source"], data["target"]
    forth, back = method.generator, method.back_generator
    with torch.no_grad():
        codes = forth.encode(x), back.encode(y, forth)
        fake_target, fake_source = forth.decode(codes[0]), back.decode(codes[1], forth)
        reconstruction = (back.decode(codes[0], forth) - x).abs().mean() + (forth.decode(codes[1]) - y).abs().mean()
        cycled = back.encode(fake_target, forth), forth.encode(fake_source)
        cycle = (back.decode(cycled[0], forth) - x).abs().mean() + (forth.decode(cycled[1]) - y).abs().mean()
        judged = method.target_discriminator(fake_target)[0], method.source_discriminator(fake_source)[0]
    output = method(RecordingTrainer(method), data)
    kl, cycle_kl = (sum(code.square().mean() for code in pair) for pair in (codes, cycled))
    terms = {"reconstruction": reconstruction, "cycle": cycle, "kl": kl, "cycle_kl": cycle_kl}
    for name, value in terms.items():
        assert_close(output[name], value)
    adversarial = sum((logits - 1).square().mean() for logits in judged)
    total = adversarial + 10 * reconstruction + 10 * cycle + 0.01 * (kl + cycle_kl) + output["mmsr"]
    assert_close(output["generator"], total)
    assert_close(output["fake_target"], fake_target)


def test_sr_unit_adds_noise_of_variance_1_to_its_codes_in_training_only():
    torch.manual_seed(0)
    noise = unit.with_noise(torch.full((1, 8, 100, 100), 3.0))
    assert_close(noise.mean(), torch.tensor(3.0), rtol=0, atol=0.02)
    assert_close(noise.std(), torch.tensor(1.0), rtol=0, atol=0.02)
    method, data = super_resolution_method("sr_unit"), batch()
    first, second = (method(RecordingTrainer(method), data)["fake_target"] for _ in range(2))
    assert not torch.allclose(first, second)
    deployed = method.generator.eval()
    assert_close(deployed(data["source"]), deployed(data["source"]), rtol=0, atol=0)


@pytest.mark.parametrize("options", [{"mmsr_loss": None}, {"mmsr_weight": 0.0}])
@pytest.mark.parametrize("name", NAMES)
def test_the_baselines_have_no_mmsr_term(name, options):
    method = super_resolution_method(name, **options)
    torch.manual_seed(1)
    output = method(RecordingTrainer(method), batch())
    assert not MMSR & set(output)
    with_loss = super_resolution_method(name, mmsr_weight=0.5)
    torch.manual_seed(1)
    other = with_loss(RecordingTrainer(with_loss), batch())
    assert_close(other["generator"], output["generator"] + 0.5 * other["mmsr"])


def test_identity_losses_can_be_left_out():
    method = super_resolution_method("sr_cyclegan", target_identity_weight=0.0, source_identity_weight=0.0)
    output = method(RecordingTrainer(method), batch())
    assert not {"target_identity", "source_identity"} & set(output)
    assert_close(output["generator"], output["adversarial"] + output["cycle"] + output["mmsr"])


@pytest.mark.parametrize("name", NAMES)
def test_micro_patches_that_are_no_multiple_of_the_factor_are_refused(name):
    method, data = super_resolution_method(name), batch()
    data["target"] = data["target"][:, :, :, :-1]
    with pytest.raises(ValueError, match=r"`target` must have sides that are multiples of the factor, .* \[24, 23\]\."):
        method(RecordingTrainer(method), data)
