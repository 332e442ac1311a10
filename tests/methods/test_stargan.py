"""The StarGAN family: the equations, who learns from what, and what the guidance may touch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import SGD

from common.methods import ConversionLabels, DomainLabels, StarGAN
from common.networks import PhysicsGenerator, StarGANDiscriminator
from tests.helpers.methods import RecordingTrainer
from tests.helpers.stargan import GUIDANCES, SIZE, stargan


def batch(size: int = 2) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    image = torch.rand((size, 1, SIZE, SIZE), generator=random) * 2 - 1
    return {"image": image, "domain": torch.arange(size) % 3, "spacing_mm": torch.full((size,), 0.7)}


class Trainer(RecordingTrainer):
    def __init__(self, method, iteration=5):
        super().__init__(method)
        self.step = iteration


@pytest.mark.parametrize("name", GUIDANCES)
def test_the_discriminator_learns_alone_and_every_fifth_time_the_generator_does(name):
    method = stargan(name)
    for iteration in range(1, 11):
        trainer = Trainer(method, iteration)
        output = method(trainer, batch())
        routes = [{"discriminator"}, {"generator"}] if iteration % 5 == 0 else [{"discriminator"}]
        assert [stepping for stepping, _ in trainer.updates] == routes
        assert [with_gradient for _, with_gradient in trainer.updates] == routes
        assert ("cycle" in output) == (iteration % 5 == 0)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", GUIDANCES)
def test_the_totals_are_the_equations(name, size):
    method = stargan(name, guidance_weight=2.0)
    output = method(Trainer(method), batch(size))
    critic = output["critic"] + 10 * output["penalty"] + output["real_class"]
    if name != "stargan":
        critic = critic + 2 * output["guidance"]
    torch.testing.assert_close(output["discriminator"], critic)
    generator = output["adversarial"] + output["fake_class"] + 10 * output["cycle"]
    torch.testing.assert_close(output["generator"], generator)
    assert output["fake_target"].shape == (size, 1, SIZE, SIZE)
    assert not output["fake_target"].requires_grad


def test_the_critic_loss_is_fake_minus_real_and_the_classes_are_those_of_image_and_target():
    method = stargan()
    data = batch(3)
    torch.manual_seed(3)
    output = method(Trainer(method), data)
    torch.manual_seed(3)
    target = torch.randint(3, (3,))
    with torch.no_grad():
        fake = method.generator(data["image"], torch.eye(3)[target])
        real_map, real_logits = method.discriminator(data["image"])
        fake_map, fake_logits = method.discriminator(fake)
        cycled = method.generator(fake, torch.eye(3)[data["domain"]])
    torch.testing.assert_close(output["critic"], fake_map.mean() - real_map.mean())
    torch.testing.assert_close(output["adversarial"], -fake_map.mean())
    torch.testing.assert_close(output["real_class"], -real_logits.log_softmax(1)[[0, 1, 2], data["domain"]].mean())
    torch.testing.assert_close(output["fake_class"], -fake_logits.log_softmax(1)[[0, 1, 2], target].mean())
    torch.testing.assert_close(output["cycle"], (cycled - data["image"]).abs().mean())


def test_rounding_hides_from_the_cycle_what_no_file_would_keep():
    class Traces(nn.Module):
        """Leaves the image for later in steps far below the rounding."""

        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(1e-6))

        def forward(self, image, label):
            return image * self.gain if label[0, 0] > 0 else image / self.gain

    class Labels(DomainLabels):
        def draw(self, domain):
            return torch.zeros_like(domain)

    cycles = {}
    for rounding in (None, 2 / 4095):
        generator, critic = Traces(), StarGANDiscriminator(SIZE, 3, channels=2)
        optimizers = {
            "generator_optimizer": SGD(generator.parameters(), lr=0.1),
            "discriminator_optimizer": SGD(critic.parameters(), lr=0.1),
        }
        method = StarGAN(generator, critic, labels=Labels(3), rounding=rounding, **optimizers)
        data = batch(2) | {"domain": torch.tensor([1, 1])}
        cycles[rounding] = method(Trainer(method), data)["cycle"].item()
    assert cycles[None] < 1e-5
    assert cycles[2 / 4095] > 0.4  # the mean of |U(-1, 1)| is 0.5


def test_a_generator_that_starts_from_the_source_gets_source_and_pixel_size():
    generator = PhysicsGenerator(3, channels=4, num_res_blocks=1)
    critic = StarGANDiscriminator(SIZE, 3, channels=2)
    method = StarGAN(
        generator,
        critic,
        labels=ConversionLabels(3),
        generator_optimizer=SGD(generator.parameters(), lr=0.1),
        discriminator_optimizer=SGD(critic.parameters(), lr=0.1),
        critic_steps=1,
    )
    trainer = Trainer(method, 1)
    method(trainer, batch(3))
    assert [stepping for stepping, _ in trainer.updates] == [{"discriminator"}, {"generator"}]


def test_targets_are_uniform_or_a_permutation_of_the_batch():
    torch.manual_seed(0)
    domain = torch.zeros(3000, dtype=torch.long)
    counts = torch.bincount(DomainLabels(3).draw(domain), minlength=3)
    assert (counts - 1000).abs().max() < 110  # 4 standard deviations
    permuted = DomainLabels(3, permute=True).draw(torch.tensor([0, 1, 2, 2]))
    assert sorted(permuted.tolist()) == [0, 1, 2, 2]


def test_with_two_vendors_only_kernels_of_the_same_vendor_compete():
    labels = DomainLabels([2, 3])
    logits = torch.tensor([[1.0, 2.0, 50.0, 0.0, 0.0], [90.0, 0.0, 1.0, 1.0, 1.0]])
    loss = labels.classification_loss(logits, torch.tensor([1, 4]))
    first = -torch.tensor([1.0, 2.0]).log_softmax(0)[1]
    torch.testing.assert_close(loss, (first + torch.tensor(3.0).log()) / 2)
    assert labels.size == 7


@pytest.mark.parametrize("wrong", [1, 0, [2, 0], []])
def test_too_few_domains_are_refused(wrong):
    with pytest.raises(ValueError, match="`num_domains` must be >= 2, or a list with a number >= 1 per vendor"):
        DomainLabels(wrong)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`critic_steps` must be >= 1, got 0"):
        stargan(critic_steps=0)
    with pytest.raises(ValueError, match="`source` and `spacing_mm` must be given"):
        ConversionLabels(3)(torch.tensor([0]))


@pytest.mark.parametrize("name", ["stargan", "ggcl"])
def test_the_generator_runs_once_for_both_updates_and_without_a_graph_where_it_does_not_learn(name):
    method = stargan(name)
    graphs = []
    method.generator.head.register_forward_hook(lambda _module, _inputs, output: graphs.append(output.requires_grad))
    method(Trainer(method, 4), batch())
    assert graphs == [False]
    graphs.clear()
    method(Trainer(method, 5), batch())
    assert graphs == [True, True]  # there, for both, and back
