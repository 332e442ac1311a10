"""Pix2Pix: the supervised reference, trained on aligned pairs."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from ..losses import AdversarialLoss
from .method import TrainingServices, TranslationMethod, frozen


class Pix2Pix(TranslationMethod):
    """
    An L1 and an adversarial loss on aligned pairs, with a discriminator that sees source and target together.

    Isola et al., "Image-to-image translation with conditional adversarial networks", CVPR 2017, equations (1) to (4).

    Args:
        generator: G, from the source to the target domain. Its noise z is left out, as the paper ends up doing in
            practice (section 2.1: it learned to ignore it; their dropout is not part of a medical translation).
        discriminator: D, takes source and target concatenated along the channels.
        generator_optimizer: steps G.
        discriminator_optimizer: steps D.
        adversarial_loss: equation (1).
        reconstruction_weight: lambda of equation (4), 100.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        adversarial_loss: AdversarialLoss,
        reconstruction_weight: float = 100.0,
    ) -> None:
        super().__init__(
            generator,
            networks={"generator": generator, "discriminator": discriminator},
            optimizers={"generator": generator_optimizer, "discriminator": discriminator_optimizer},
        )
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss
        self.reconstruction_weight = reconstruction_weight

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_source, real_target = batch["source"], batch["target"]
        with trainer.autocast():
            fake_target = self.generator(real_source)
            real_logits = self.discriminator(torch.cat([real_source, real_target], dim=1))
            fake_logits = self.discriminator(torch.cat([real_source, fake_target.detach()], dim=1))
        discriminator_loss = self.adversarial_loss.discriminator(real_logits, fake_logits)  # equation (1)
        trainer.update(self.optimizers["discriminator"], discriminator_loss)

        with frozen(self.discriminator):
            with trainer.autocast():
                fake_logits = self.discriminator(torch.cat([real_source, fake_target], dim=1))
            adversarial = self.adversarial_loss.generator(fake_logits)  # equation (1)
            reconstruction = l1_loss(fake_target.float(), real_target.float())  # equation (3)
            generator_loss = adversarial + self.reconstruction_weight * reconstruction  # equation (4)
            trainer.update(self.optimizers["generator"], generator_loss)

        losses = {"generator": generator_loss, "adversarial": adversarial, "reconstruction": reconstruction}
        images = {"real_source": real_source, "fake_target": fake_target.detach(), "real_target": real_target}
        return {**losses, "discriminator": discriminator_loss, **images}
