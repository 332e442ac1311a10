"""Which network learns from which loss, and what each method reports."""

from __future__ import annotations

import pytest
import torch

from common.losses import ForegroundLoss
from common.methods import ConstantThenLinear, EdgeConsistentRegression, ImagePool, frozen
from tests.helpers.methods import NAMES, RecordingTrainer, method

G, D, D_SOURCE, BACK, H = "generator", "discriminator", "source_discriminator", "back_generator", "patch_features"
D_TARGET = "target_discriminator"

# in the order of the updates: the networks that are stepped
ROUTES = {
    "nec": [{D}, {G}],
    "nec_official": [{G, D}],
    "pix2pix": [{D}, {G}],
    "cyclegan": [{G, BACK}, {D_TARGET, D_SOURCE}],
    "cut": [{D}, {G, H}],
}


def batch(size: int = 2, dims: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (size, 1, *([32] * dims))
    return {name: torch.rand(shape, generator=generator) * 2 - 1 for name in ("source", "target")}


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_only_the_stepped_networks_receive_gradient(name, epoch):
    trainer = RecordingTrainer(method(name), epoch)
    trainer.method(trainer, batch())
    assert [stepping for stepping, _ in trainer.updates] == ROUTES[name]
    for stepping, with_gradient in trainer.updates:
        assert with_gradient == stepping


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_losses_are_finite_scalars_and_images_keep_their_shape(name, size, dims):
    trainer = RecordingTrainer(method(name, dims=dims))
    output = trainer.method(trainer, batch(size, dims))
    images = {"real_source", "fake_target", "real_target"}
    assert images < set(output)
    for key, value in output.items():
        if key in images:
            assert value.shape == (size, 1, *([32] * dims))
            assert not value.requires_grad
        else:
            assert value.numel() == 1
            assert bool(torch.isfinite(value))


def test_nec_total_is_equation_1():
    nec = method("nec")
    nec.edge_weight = 0.7
    output = nec(RecordingTrainer(nec), batch())
    torch.testing.assert_close(output["generator"], output["adversarial"] + 0.7 * output["edge"])
    assert "autoencoding" not in output


def test_nec_autoencodes_in_the_first_epoch_only():
    nec = method("nec")
    data = batch()
    first = nec(RecordingTrainer(nec, epoch=1), data)
    l1 = (first["fake_target"] - data["source"]).abs().mean()
    torch.testing.assert_close(first["autoencoding"], l1)
    torch.testing.assert_close(first["generator"], first["adversarial"] + first["edge"] + 100 * l1)
    assert torch.equal(first["real_target"], data["source"])
    assert torch.equal(nec(RecordingTrainer(nec, epoch=2), data)["real_target"], data["target"])


def test_in_the_official_form_the_discriminator_also_descends_the_generators_loss():
    """Its gradient is that of both losses together; in ours it is that of its own alone."""
    gradients = {}
    for name in ("nec", "nec_official"):
        nec = method(name)
        seen = {}

        class Trainer(RecordingTrainer):
            def update(self, optimizer, loss, seen=seen):
                loss.backward()
                for p in self.method.networks[D].parameters():
                    if p.grad is not None and id(p) not in seen:
                        seen[id(p)] = p.grad.clone()

        nec(Trainer(nec), batch())
        gradients[name] = torch.cat([g.flatten() for g in seen.values()])
    assert not torch.allclose(gradients["nec"], gradients["nec_official"], rtol=1e-3)


def test_edge_consistent_regression_adds_necs_terms_to_the_reconstruction():
    nec, data = method("nec"), batch()
    data["source"] = torch.cat([torch.zeros(2, 1, 32, 32), data["source"], torch.ones(2, 1, 32, 32)], dim=1)
    generator = nec.generator

    class Middle(torch.nn.Module):
        def forward(self, stack):
            return generator(stack[:, 1:2])

    loss = ForegroundLoss(0.5)
    mixed = EdgeConsistentRegression(
        reconstruction_loss=loss,
        adversarial_weight=0.02,
        generator=Middle(),
        discriminator=nec.discriminator,
        generator_optimizer=nec.generator_optimizer,
        discriminator_optimizer=nec.discriminator_optimizer,
        adversarial_loss=nec.adversarial_loss,
        edge_loss=nec.edge_loss,
        edge_weight=0.3,
    )
    output = mixed(RecordingTrainer(mixed), data)
    torch.testing.assert_close(output["reconstruction"].detach(), loss(output["fake_target"], data["target"]))
    edge = nec.edge_loss(data["source"][:, 1:2], output["fake_target"])  # of the slice that is translated
    torch.testing.assert_close(output["edge"].detach(), edge)
    total = output["reconstruction"] + 0.02 * output["adversarial"] + 0.3 * output["edge"]
    torch.testing.assert_close(output["generator"], total)
    assert torch.equal(output["real_target"], data["target"])


def test_pix2pix_total_is_equation_4():
    pix = method("pix2pix")
    data = batch()
    output = pix(RecordingTrainer(pix), data)
    torch.testing.assert_close(output["reconstruction"], (output["fake_target"] - data["target"]).abs().mean())
    torch.testing.assert_close(output["generator"], output["adversarial"] + 100 * output["reconstruction"])


def test_cyclegan_total_is_equation_3_with_identity():
    cycle = method("cyclegan")
    output = cycle(RecordingTrainer(cycle), batch())
    total = output["adversarial"] + 10 * output["cycle"] + 5 * output["identity"]
    torch.testing.assert_close(output["generator"], total)
    cycle.identity_weight = 0
    assert "identity" not in cycle(RecordingTrainer(cycle), batch())


def test_cut_total_is_equation_5_and_fastcut_has_no_identity():
    cut = method("cut")
    output = cut(RecordingTrainer(cut), batch())
    torch.testing.assert_close(output["generator"], output["adversarial"] + output["contrastive"] + output["identity"])
    cut.identity_weight = 0
    assert "identity" not in cut(RecordingTrainer(cut), batch())


def test_frozen_networks_pass_gradients_and_thaw_even_after_an_error():
    layer = torch.nn.Linear(2, 1)
    x = torch.ones(1, 2, requires_grad=True)
    with frozen(layer):
        layer(x).sum().backward()
    with pytest.raises(ZeroDivisionError), frozen(layer):
        _ = 1 / 0
    assert x.grad is not None
    assert all(p.grad is None and p.requires_grad for p in layer.parameters())


def test_the_pool_returns_older_images_about_half_of_the_time_and_keeps_its_size():
    torch.manual_seed(0)
    pool = ImagePool(10)
    older = 0
    for i in range(400):
        (value,) = pool(torch.full((1, 1, 2, 2), float(i))).unique().tolist()
        assert value <= i
        older += value < i
    assert len(pool.images) == 10
    assert 140 < older < 250
    assert ImagePool(0)(torch.ones(2, 1, 2, 2)).sum() == 8
    with pytest.raises(ValueError, match="`size` must be >= 0, got -1"):
        ImagePool(-1)


@pytest.mark.parametrize("max_epochs", [4, 200])
def test_schedule_at_start_middle_and_end(max_epochs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    schedule = ConstantThenLinear(optimizer, max_epochs)
    rates = []
    for _ in range(max_epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    half = max_epochs // 2
    assert rates[0] == rates[half - 1] == rates[half] == 2e-4
    assert rates[half + half // 2] == pytest.approx(1e-4)
    assert rates[-1] == pytest.approx(2e-4 / half)
    assert optimizer.param_groups[0]["lr"] == 0
