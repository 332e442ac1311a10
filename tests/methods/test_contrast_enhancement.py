"""Neural contrast enhancement: the equations, who learns from what, and what stays frozen."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from common.losses import ReconstructionLoss
from common.methods import ContrastClassification
from common.networks import VGG16BN
from tests.helpers.contrast_methods import SIZE, batch, contrast_method, sgd
from tests.helpers.methods import RecordingTrainer

G, D, REMOVER = "generator", "discriminator", "remover"
BACK, D_TARGET, D_SOURCE = "back_generator", "target_discriminator", "source_discriminator"
PICTURES = {"real_source", "fake_target", "real_target"}

# in the order of the updates: the networks that are stepped
ROUTES = {
    "classification": [{G}],
    "removal": [{D}, {G}],
    "enhancement": [{G}],
    "joint": [{D}, {G, REMOVER}],
    "single": [{D}, {G}],
    "cycle": [{G, BACK}, {D_TARGET, D_SOURCE}],
    "regression": [{G}],
}


class SteppingTrainer(RecordingTrainer):
    """Takes the steps."""

    def update(self, optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def cross_entropy(logits, label):
    return -logits.log_softmax(1)[:, label].mean()


@pytest.mark.parametrize("name", ROUTES)
def test_only_the_stepped_networks_receive_gradient(name):
    trainer = RecordingTrainer(contrast_method(name))
    trainer.method(trainer, batch())
    assert [stepping for stepping, _ in trainer.updates] == ROUTES[name]
    for stepping, with_gradient in trainer.updates:
        assert with_gradient == stepping


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", ROUTES)
def test_losses_are_finite_scalars_and_images_keep_their_shape(name, size):
    method = contrast_method(name)
    output = method(RecordingTrainer(method), batch(size))
    assert name == "classification" or set(output) > PICTURES
    for key, value in output.items():
        if key in PICTURES:
            assert value.shape == (size, 3, SIZE, SIZE)
            assert not value.requires_grad
        else:
            assert value.numel() == 1
            assert bool(torch.isfinite(value))


@pytest.mark.parametrize("name", ["enhancement", "joint", "cycle", "regression"])
def test_the_classifier_of_the_perceptual_loss_does_not_change(name):
    method = contrast_method(name)
    loss = method.cycle_loss if name == "cycle" else method.reconstruction_loss
    classifier = loss.train().perceptual.network
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    method(SteppingTrainer(method), batch())
    assert_close(classifier.state_dict(), before, rtol=0, atol=0)
    assert all(p.grad is None for p in classifier.parameters())
    assert all(classifier is not network for network in method.networks.values())


def test_classification_is_cross_entropy_of_source_0_against_target_1_in_one_batch():
    method, data = contrast_method("classification"), batch(3)
    output = method(RecordingTrainer(method), data)
    logits = contrast_method("classification").generator(torch.cat([data["source"], data["target"]]))
    assert_close(output["classification"], (cross_entropy(logits[:3], 0) + cross_entropy(logits[3:], 1)) / 2)
    right = (logits[:3, 0] > logits[:3, 1]).sum() + (logits[3:, 1] > logits[3:, 0]).sum()
    assert_close(output["accuracy"], right / 6)


def test_the_classifier_learns_a_difference_in_level():
    """Two batches, each normalised by its own mean, could not be told apart by it."""
    torch.manual_seed(0)
    classifier = VGG16BN(width=2)
    method = ContrastClassification(classifier, torch.optim.Adam(classifier.parameters(), lr=5e-3))
    data = batch(3)
    data["target"] = data["source"] + 0.5
    accuracy = [float(method(SteppingTrainer(method), data)["accuracy"]) for _ in range(15)]
    assert min(accuracy[-3:]) == 1.0


def test_removal_is_equations_1_and_2_from_cect_to_nect():
    method, data = contrast_method("removal"), batch()
    output = method(RecordingTrainer(method), data)
    nect, cect = data["source"], data["target"]
    with torch.no_grad():
        synthetic = method.remover(cect)
        of_nect, of_cect, of_synthetic = (method.discriminator(image) for image in (nect, cect, synthetic))
    expected = cross_entropy(of_cect, 1) + cross_entropy(of_synthetic, 2) + cross_entropy(of_nect, 0)
    assert_close(output["discriminator"], expected)
    assert_close(output["generator"], cross_entropy(of_synthetic, 0))
    assert "identity" not in output
    for name, image in (("real_source", cect), ("fake_target", synthetic), ("real_target", nect)):
        assert_close(output[name], image)


def test_removal_may_ask_that_a_nect_stays_as_it_is():
    method, data = contrast_method("removal", identity_weight=3.0), batch()
    output = method(RecordingTrainer(method), data)
    identity = (method.remover(data["source"]) - data["source"]).abs().mean()
    assert_close(output["identity"], identity)
    assert_close(output["generator"], output["adversarial"] + 3 * identity)


def test_single_is_equations_1_and_2_with_the_domains_exchanged():
    method, data = contrast_method("single"), batch()
    output = method(RecordingTrainer(method), data)
    with torch.no_grad():
        synthetic = method.generator(data["source"])
        of_nect, of_cect = method.discriminator(data["source"]), method.discriminator(data["target"])
        of_synthetic = method.discriminator(synthetic)
    expected = cross_entropy(of_nect, 1) + cross_entropy(of_synthetic, 2) + cross_entropy(of_cect, 0)
    assert_close(output["discriminator"], expected)
    assert_close(output["generator"], cross_entropy(of_synthetic, 0))
    assert_close(output["fake_target"], synthetic)


def test_enhancement_is_equations_3_to_5_on_the_synthetic_nect():
    method, data = contrast_method("enhancement"), batch()
    output = method(RecordingTrainer(method), data)
    with torch.no_grad():
        synthetic = method.remover(data["target"])
        predicted = method.generator(synthetic)
        perceptual = method.reconstruction_loss.perceptual(predicted, data["target"])
    l1 = (predicted - data["target"]).abs().mean()
    assert_close(output["l1"], l1)
    assert_close(output["perceptual"], perceptual)
    assert_close(output["generator"], 10 * l1 + perceptual)
    for name, image in (("real_source", synthetic), ("fake_target", predicted), ("real_target", data["target"])):
        assert_close(output[name], image)


def test_enhancement_leaves_the_remover_as_stage_1_left_it():
    method = contrast_method("enhancement")
    before = {key: value.clone() for key, value in method.remover.state_dict().items()}
    for network in method.networks.values():
        network.train()  # as an engine does before each iteration
    method(SteppingTrainer(method), batch())
    assert_close(method.remover.state_dict(), before, rtol=0, atol=0)
    assert not any(module.training for module in method.remover.modules())
    assert all(p.grad is None and not p.requires_grad for p in method.remover.parameters())
    assert all(method.remover is not network for network in method.networks.values())
    assert all(p.requires_grad for p in method.generator.parameters())


def test_enhancement_does_not_read_the_real_nect():
    data = batch()
    outputs = []
    for source in (data["source"], torch.full_like(data["source"], torch.nan)):
        method = contrast_method("enhancement")
        outputs.append(method(RecordingTrainer(method), {**data, "source": source})["generator"])
    assert_close(*outputs, rtol=0, atol=0)


def test_joint_is_the_sum_of_equations_2_and_5():
    method, data = contrast_method("joint"), batch()
    output = method(RecordingTrainer(method), data)
    with torch.no_grad():
        synthetic = method.remover(data["target"])
        of_nect, of_cect = method.discriminator(data["source"]), method.discriminator(data["target"])
        of_synthetic = method.discriminator(synthetic)
        rebuilt = method.reconstruction_loss(method.generator(synthetic), data["target"])
    expected = cross_entropy(of_cect, 1) + cross_entropy(of_synthetic, 2) + cross_entropy(of_nect, 0)
    assert_close(output["discriminator"], expected)
    assert_close(output["adversarial"], cross_entropy(of_synthetic, 0))
    assert_close(output["reconstruction"], rebuilt)
    assert_close(output["generator"], cross_entropy(of_synthetic, 0) + rebuilt)


class Muted:
    """A loss without effect."""

    def discriminator(self, *logits):
        return 0 * sum(each.sum() for each in logits)

    generator = discriminator

    def terms(self, output, truth):
        return {"reconstruction": 0 * output.sum()}


@pytest.mark.parametrize(
    ("muted", "learning"), [("reconstruction_loss", {REMOVER}), ("adversarial_loss", {G, REMOVER})]
)
def test_joint_sends_the_reconstruction_to_both_generators_and_the_adversarial_term_to_the_remover(muted, learning):
    method = contrast_method("joint")
    setattr(method, muted, Muted())
    trainer = RecordingTrainer(method)
    method(trainer, batch())
    assert trainer.updates[-1] == ({G, REMOVER}, learning)


def test_regression_is_the_reconstruction_loss_of_the_pair():
    method, data = contrast_method("regression"), batch()
    output = method(RecordingTrainer(method), data)
    with torch.no_grad():
        predicted = method.generator(data["source"])
    assert_close(output["generator"], method.reconstruction_loss(predicted, data["target"]))
    assert_close(output["fake_target"], predicted)


def test_cycle_compares_by_l1_and_perceptual_loss_with_one_logit_discriminators():
    method, data = contrast_method("cycle"), batch()
    with torch.no_grad():
        fake_target, fake_source = method.generator(data["source"]), method.back_generator(data["target"])
        rebuilt = method.cycle_loss(method.back_generator(fake_target), data["source"])
        rebuilt = rebuilt + method.cycle_loss(method.generator(fake_source), data["target"])
        adversarial = (method.target_discriminator(fake_target) - 1).square().mean()
        adversarial = adversarial + (method.source_discriminator(fake_source) - 1).square().mean()
    output = method(RecordingTrainer(method), data)
    assert_close(output["cycle"], rebuilt)
    assert_close(output["adversarial"], adversarial)
    assert_close(output["generator"], adversarial + rebuilt)
    assert "identity" not in output


def test_cyclegans_cycle_loss_is_l1_unless_told_otherwise():
    method = contrast_method("cycle")
    assert method.cycle_loss is not F.l1_loss
    arguments = {name: network for name, network in method.networks.items() if name != G}
    optimizers = {"generator_optimizer": sgd(method.generator), "discriminator_optimizer": sgd(*arguments.values())}
    plain = type(method)(method.generator, **arguments, **optimizers, adversarial_loss=method.adversarial_loss)
    tenfold = ReconstructionLoss(10.0)
    data = batch()
    output = plain(RecordingTrainer(plain), data)
    method.cycle_loss = tenfold
    assert_close(10 * output["cycle"], method(RecordingTrainer(method), data)["cycle"])
