"""AttGAN: equations (7) to (15), who learns when, and the guidance that it shares with StarGAN."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.optim import SGD

from common.losses import GuidedContrastiveLoss
from common.methods import AttGAN, DomainLabels
from common.networks import AttGANGenerator, SemanticDiscriminator, StarGANDiscriminator
from tests.helpers.methods import RecordingTrainer

SIZE = 32


def attgan(*, guided: bool = False, **options) -> AttGAN:
    torch.manual_seed(0)
    generator = AttGANGenerator(3, channels=8, num_layers=3).eval()  # its own statistics would depend on the batch
    if guided:
        discriminator = SemanticDiscriminator(SIZE, 3, channels=4, num_layers=3)
        options |= {"guidance": GuidedContrastiveLoss(16), "guidance_weight": 2.0}
    else:
        discriminator = StarGANDiscriminator(SIZE, 3, channels=4, num_layers=3)
    return AttGAN(
        generator,
        discriminator,
        labels=DomainLabels(3),
        generator_optimizer=SGD(generator.parameters(), lr=0.1),
        discriminator_optimizer=SGD(discriminator.parameters(), lr=0.1),
        **options,
    )


def batch(size: int = 3) -> dict[str, torch.Tensor]:
    image = torch.rand((size, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {"image": image, "domain": torch.arange(size) % 3, "spacing_mm": torch.full((size,), 0.7)}


class Trainer(RecordingTrainer):
    def __init__(self, method, iteration=5):
        super().__init__(method)
        self.step = iteration


def numpy_cross_entropy(logits: torch.Tensor, domain: torch.Tensor) -> float:
    scores = np.exp(logits.double().numpy())
    return float(-np.log(scores[np.arange(len(domain)), domain.numpy()] / scores.sum(axis=1)).mean())


@pytest.mark.parametrize("guided", [False, True])
def test_the_discriminator_learns_alone_and_every_fifth_time_the_generator_does(guided):
    method = attgan(guided=guided)
    for iteration in (1, 4, 5, 10):
        trainer = Trainer(method, iteration)
        output = method(trainer, batch())
        routes = [{"discriminator"}, {"generator"}] if iteration % 5 == 0 else [{"discriminator"}]
        assert [stepping for stepping, _ in trainer.updates] == routes
        assert [with_gradient for _, with_gradient in trainer.updates] == routes
        assert ("reconstruction" in output) == (iteration % 5 == 0)
        assert "cycle" not in output


def test_the_losses_are_equations_7_to_15():
    method, data = attgan(), batch()
    torch.manual_seed(3)
    output = method(Trainer(method), data)
    torch.manual_seed(3)
    target = torch.randint(3, (3,))
    with torch.no_grad():
        fake = method.generator(data["image"], torch.eye(3)[target])
        same = method.generator(data["image"], torch.eye(3)[data["domain"]])
        fake_map, fake_logits = method.discriminator(fake)
        real_map, real_logits = method.discriminator(data["image"])
    adversarial = -float(fake_map.double().numpy().mean())
    fake_class = numpy_cross_entropy(fake_logits, target)
    real_class = numpy_cross_entropy(real_logits, data["domain"])
    reconstruction = float(np.abs((same - data["image"]).double().numpy()).mean())
    critic = float(fake_map.double().numpy().mean() - real_map.double().numpy().mean())
    expected = {
        "adversarial": adversarial,
        "fake_class": fake_class,
        "reconstruction": reconstruction,
        "generator": adversarial + 10 * fake_class + 100 * reconstruction,
        "critic": critic,
        "real_class": real_class,
        "discriminator": critic + 10 * output["penalty"].item() + real_class,
    }
    for name, value in expected.items():
        assert output[name].item() == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_the_weights_are_lambda_1_to_3():
    method = attgan(reconstruction_weight=7.0, fake_classification_weight=5.0, classification_weight=3.0)
    output = method(Trainer(method), batch())
    generator = output["adversarial"] + 5 * output["fake_class"] + 7 * output["reconstruction"]
    torch.testing.assert_close(output["generator"], generator)
    discriminator = output["critic"] + 10 * output["penalty"] + 3 * output["real_class"]
    torch.testing.assert_close(output["discriminator"], discriminator)


def test_the_guidance_is_added_to_the_discriminators_loss_alone():
    method = attgan(guided=True)
    output = method(Trainer(method), batch())
    total = output["critic"] + 10 * output["penalty"] + output["real_class"] + 2 * output["guidance"]
    torch.testing.assert_close(output["discriminator"], total)
    generator = output["adversarial"] + 10 * output["fake_class"] + 100 * output["reconstruction"]
    torch.testing.assert_close(output["generator"], generator)


@pytest.mark.parametrize(
    ("options", "names"), [({"cycle_weight": 10.0}, "`cycle_weight`"), ({"rounding": 0.1}, "`rounding`")]
)
def test_arguments_of_a_cycle_are_refused(options, names):
    with pytest.raises(TypeError, match=f"AttGAN has no cycle and takes no {names}"):
        attgan(**options)
