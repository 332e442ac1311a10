"""Single, a baseline of neural contrast enhancement: learn to enhance in one stage, from an adversarial loss alone."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from ..losses import ThreeClassAdversarialLoss
from .method import TrainingServices, TranslationMethod, frozen


class SingleStageEnhancement(TranslationMethod):
    """
    A generator that makes CECT of NECT, against a discriminator of real CECT, real NECT and synthetic CECT.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 4.2: "Single trains the target model
    jointly with the discriminator D through an adversarial loss only", with the paper's networks. Equations (1) and (2)
    therefore, with the domains exchanged.

    Args:
        generator: G_N->C, from NECT (`source`) to CECT (`target`).
        discriminator: D, gives logits (B, 3).
        generator_optimizer: steps G_N->C.
        discriminator_optimizer: steps D.
        adversarial_loss: equations (1) and (2), with CECT as destination.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        adversarial_loss: ThreeClassAdversarialLoss,
    ) -> None:
        super().__init__(
            generator,
            networks={"generator": generator, "discriminator": discriminator},
            optimizers={"generator": generator_optimizer, "discriminator": discriminator_optimizer},
        )
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_nect, real_cect = batch["source"], batch["target"]
        with trainer.autocast():
            synthetic_cect = self.generator(real_nect)
            real_logits = self.discriminator(real_cect), self.discriminator(real_nect)
            synthetic_logits = self.discriminator(synthetic_cect.detach())
        discriminator_loss = self.adversarial_loss.discriminator(*real_logits, synthetic_logits)  # equation (1)
        trainer.update(self.optimizers["discriminator"], discriminator_loss)

        with frozen(self.discriminator):
            with trainer.autocast():
                synthetic_logits = self.discriminator(synthetic_cect)
            generator_loss = self.adversarial_loss.generator(synthetic_logits)  # equation (2)
            trainer.update(self.optimizers["generator"], generator_loss)

        losses = {"generator": generator_loss, "discriminator": discriminator_loss}
        images = {"real_source": real_nect, "fake_target": synthetic_cect.detach(), "real_target": real_cect}
        return {**losses, **images}
