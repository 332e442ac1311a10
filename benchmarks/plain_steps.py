"""Each bundle's training step in its straightforward form: the same losses of the same networks, and nothing saved.

The generator's graph is built where only the discriminator learns, fakes are
computed anew for each update, a discriminator decodes where nobody looks, what an update does not train stays
trainable, a normalised weight is computed before each convolution, and all is float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer
from training_steps import Engine

from common.losses import gradient_penalty
from common.methods import ContrastEnhancement, NormalizedEdgeConsistency, SRCycleGAN, StarGAN, TranslationMethod
from common.networks.spectral import SpectralConv2d

Losses = dict[str, torch.Tensor]
Batch = dict[str, torch.Tensor]


class PlainEngine(Engine):
    """
    An engine that first forgets the gradients of all networks, for an update leaves some where they do not belong.

    Args:
        method: whose networks are trained.
        step: see `Engine`.
    """

    def __init__(self, method: TranslationMethod, step: int = 1) -> None:
        super().__init__(step=step)
        self.optimizers = method.optimizers.values()

    def update(self, optimizer: Optimizer | Sequence[Optimizer], loss: torch.Tensor) -> None:
        for each in self.optimizers:
            each.zero_grad()
        super().update(optimizer, loss)


def plain_step(method: TranslationMethod, batch: Batch, *, step: int = 1) -> dict[str, Any]:
    """
    One iteration of a method in its straightforward form.

    Args:
        method: of `common.methods`: StarGAN with a guidance, NEC, SR-CycleGAN or contrast enhancement.
        batch: as the method's.
        step: see `Engine`.

    Returns:
        the losses, by the method's names.
    """
    engine = PlainEngine(method, step)
    if isinstance(method, StarGAN):
        with _normalised_weights():
            return _stargan(method, engine, batch)
    if isinstance(method, NormalizedEdgeConsistency):
        return _edge_consistency(method, engine, batch)
    if isinstance(method, ContrastEnhancement):
        return _contrast_enhancement(method, engine, batch)
    if isinstance(method, SRCycleGAN):
        with patch("common.methods.method.frozen", lambda *_: nullcontext()):
            return method(engine, batch)
    raise TypeError(f"`method` must be one of the five bundles' own, got {type(method).__name__}.")


def _stargan(method: StarGAN, engine: Engine, batch: Batch) -> Losses:
    image, domain = batch["image"], batch["domain"]
    target = method.labels.draw(domain)
    forth, back = method.labels(target), method.labels(domain)
    generator: Any = method.generator
    discriminator: Any = method.discriminator
    real_map, real_logits, _ = discriminator.features(image)
    fake, key = generator.features(image, forth)
    fake_map, _, query = discriminator.features(fake.detach())
    critic = method.adversarial_loss.discriminator(real_map, fake_map)
    penalty = gradient_penalty(
        lambda mixed: discriminator.features(mixed)[0], image, fake, reduction=method.penalty_reduction
    )
    real_class = method.labels.classification_loss(real_logits, domain)
    assert method.guidance is not None
    guidance = method.guidance(query, key)
    total = critic + method.penalty_weight * penalty + method.classification_weight * real_class
    total = total + method.guidance_weight * guidance
    engine.update(method.optimizers["discriminator"], total)
    losses = {"critic": critic, "penalty": penalty, "real_class": real_class, "guidance": guidance}
    if engine.step % method.critic_steps:
        return losses

    fake, _ = generator.features(image, forth)
    fake_map, fake_logits, _ = discriminator.features(fake)
    cycle = l1_loss(generator.features(fake, back)[0], image)
    adversarial = method.adversarial_loss.generator(fake_map)
    fake_class = method.labels.classification_loss(fake_logits, target)
    total = adversarial + method.classification_weight * fake_class + method.cycle_weight * cycle
    engine.update(method.optimizers["generator"], total)
    return {**losses, "adversarial": adversarial, "fake_class": fake_class, "cycle": cycle}


def _edge_consistency(method: NormalizedEdgeConsistency, engine: Engine, batch: Batch) -> Losses:
    source, target = batch["source"], batch["target"]
    adversarial_loss = method.adversarial_loss
    fake = method.generator(source)
    critic = adversarial_loss.discriminator(method.discriminator(target), method.discriminator(fake.detach()))
    engine.update(method.optimizers["discriminator"], critic)

    fake = method.generator(source)
    adversarial = adversarial_loss.generator(method.discriminator(fake))
    edge = method.edge_loss(source, fake)
    engine.update(method.optimizers["generator"], adversarial + method.edge_weight * edge)
    return {"discriminator": critic, "adversarial": adversarial, "edge": edge}


def _contrast_enhancement(method: ContrastEnhancement, engine: Engine, batch: Batch) -> Losses:
    others = nn.ModuleList([method.remover, method.reconstruction_loss])
    others.requires_grad_(True)
    try:
        losses = method.reconstruction_loss.terms(method.generator(method.remover(batch["target"])), batch["target"])
        engine.update(method.optimizers["generator"], losses["reconstruction"])
    finally:
        others.requires_grad_(False)
        others.zero_grad()
    return losses


@contextmanager
def _normalised_weights() -> Iterator[None]:
    """Inside, each call divides a weight by its spectral norm, as torch's parametrization does."""

    def forward(layer: SpectralConv2d, feature: torch.Tensor, passes: int = 1) -> torch.Tensor:
        return nn.Conv2d.forward(layer, feature)

    with patch.object(SpectralConv2d, "forward", forward):
        yield
