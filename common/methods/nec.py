"""Normalized edge consistency: one generator, two loss terms, no pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from ..losses.adversarial import AdversarialLoss
from ..losses.ngf import NormalizedGradientFieldLoss
from ..losses.reconstruction import ForegroundLoss
from ..networks.residual import middle_channel
from .method import TrainingServices, TranslationMethod, frozen


class NormalizedEdgeConsistency(TranslationMethod):
    """NEC: an adversarial term makes the translation realistic, a gradient-direction term keeps it faithful.

    Jaouen, Conze, Visvikis, "One-sided unsupervised medical image synthesis with normalized edge consistency",
    ISBI 2024. Equations (1) to (4).

    Args:
        generator: G, from the source to the target domain.
        discriminator: D, which returns logits, or a list of them, one per scale.
        generator_optimizer: Optimizer of G; without a `discriminator_optimizer` it must hold the weights of G and D.
        discriminator_optimizer: Optimizer of D. If None, G and D share one step (see below).
        adversarial_loss: Loss of equation (2).
        edge_loss: Loss of equations (3) and (4).
        edge_weight: Weight of the edge term: 1 in the paper's equation (1), 3 in the released code.
        autoencoding_epochs: Number of epochs at the start in which G also learns to reproduce its input, and D takes
            the source for the real images; only in the released code. The edge term cannot distinguish a contrast from
            its inverse; a generator that starts from the anatomy is far more likely to invert the right tissues.
        autoencoding_weight: Weight of L1 in those epochs.

    Differences from the official code:
        It steps G and D with one Adam and leaves D trainable in G's loss, so D also descends what G minimises. Give no
        `discriminator_optimizer`, and an `adversarial_loss` that is not halved, to reproduce that
        (`configs/official.yaml`).
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer | None,
        adversarial_loss: AdversarialLoss,
        edge_loss: NormalizedGradientFieldLoss,
        edge_weight: float = 1.0,
        autoencoding_epochs: int = 1,
        autoencoding_weight: float = 100.0,
    ) -> None:
        optimizers = {"generator": generator_optimizer}
        if discriminator_optimizer is not None:
            optimizers["discriminator"] = discriminator_optimizer
        super().__init__(
            generator, networks={"generator": generator, "discriminator": discriminator}, optimizers=optimizers
        )
        self.discriminator = discriminator
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.adversarial_loss = adversarial_loss
        self.edge_loss = edge_loss
        self.edge_weight = edge_weight
        self.autoencoding_epochs = autoencoding_epochs
        self.autoencoding_weight = autoencoding_weight

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_source = batch["source"]
        autoencoding = trainer.epoch <= self.autoencoding_epochs
        real_target = real_source if autoencoding else batch["target"]
        with trainer.autocast():
            fake_target = self.generator(real_source)

        if self.discriminator_optimizer is not None:
            discriminator_loss = self._discriminator_loss(trainer, real_target, fake_target)
            trainer.update(self.discriminator_optimizer, discriminator_loss)
            with frozen(self.discriminator):
                losses = self._generator_losses(trainer, real_source, fake_target, real_target, autoencoding)
                trainer.update(self.generator_optimizer, losses["generator"])
        else:  # official: one step on the sum of both losses
            losses = self._generator_losses(trainer, real_source, fake_target, real_target, autoencoding)
            discriminator_loss = self._discriminator_loss(trainer, real_target, fake_target)
            trainer.update(self.generator_optimizer, losses["generator"] + discriminator_loss)

        images = {"real_source": real_source, "fake_target": fake_target.detach(), "real_target": real_target}
        return {**losses, "discriminator": discriminator_loss, **images}

    def _discriminator_loss(
        self, trainer: TrainingServices, real_target: torch.Tensor, fake_target: torch.Tensor
    ) -> torch.Tensor:
        """Compute D's side of equation (2): E_t log D(t) + E_s log(1 - D(G(s))), as a loss to minimise."""
        with trainer.autocast():
            real_logits = self.discriminator(real_target)
            fake_logits = self.discriminator(fake_target.detach())
        return self.adversarial_loss.discriminator(real_logits, fake_logits)

    def _generator_losses(
        self,
        trainer: TrainingServices,
        real_source: torch.Tensor,
        fake_target: torch.Tensor,
        real_target: torch.Tensor,
        autoencoding: bool,
    ) -> dict[str, torch.Tensor]:
        """Compute equation (1): G's side of equation (2), non-saturating, plus the edge term of equation (3)."""
        with trainer.autocast():
            fake_logits = self.discriminator(fake_target)
        losses = {
            "adversarial": self.adversarial_loss.generator(fake_logits),  # equation (2)
            "edge": self.edge_loss(real_source, fake_target),  # equation (3)
        }
        total = losses["adversarial"] + self.edge_weight * losses["edge"]  # equation (1)
        if autoencoding:
            losses["autoencoding"] = l1_loss(fake_target.float(), real_source.float())
            total = total + self.autoencoding_weight * losses["autoencoding"]
        return {"generator": total, **losses}


class EdgeConsistentRegression(NormalizedEdgeConsistency):
    """NEC's two terms beside a reconstruction loss, for sources whose target is known: pairs, or looks of the target.

    Beyond the paper, which has no pairs. A regression alone is right on average and therefore smooth; the adversarial
    term asks it to look like the target's images.

    Args:
        reconstruction_loss: Loss between the translation and the aligned target, with `terms`.
        adversarial_weight: Weight of the adversarial term; the reconstruction loss has weight 1.
        **arguments: See `NormalizedEdgeConsistency`; sources may be stacks of neighbouring slices, of which the middle
            one's edges count, and there are no `autoencoding_epochs`.
    """

    def __init__(
        self, *, reconstruction_loss: ForegroundLoss, adversarial_weight: float = 0.01, **arguments: Any
    ) -> None:
        super().__init__(**arguments, autoencoding_epochs=0)
        self.reconstruction_loss, self.adversarial_weight = reconstruction_loss, adversarial_weight

    def _generator_losses(
        self,
        trainer: TrainingServices,
        real_source: torch.Tensor,
        fake_target: torch.Tensor,
        real_target: torch.Tensor,
        autoencoding: bool,
    ) -> dict[str, torch.Tensor]:
        translated = middle_channel(real_source)
        losses = super()._generator_losses(trainer, translated, fake_target, real_target, autoencoding)
        losses |= self.reconstruction_loss.terms(fake_target, real_target)
        weighted = self.adversarial_weight * losses["adversarial"] + self.edge_weight * losses["edge"]
        return losses | {"generator": losses["reconstruction"] + weighted}
