"""Stage 1 of neural contrast enhancement: learn to remove the contrast agent from a CECT."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from ..losses import ThreeClassAdversarialLoss
from .method import TrainingServices, TranslationMethod, frozen


class ContrastRemoval(TranslationMethod):
    """
    A generator that makes NECT of CECT, against a discriminator of real NECT, real CECT and synthetic NECT.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 3.1, equations (1) and (2). Batches
    hold NECT as `source` and CECT as `target`, of whatever patients: here the input is the `target`.

    Args:
        remover: G_C->N, from CECT to NECT; the one that is deployed, for stage 2.
        discriminator: D, gives logits (B, 3).
        remover_optimizer: steps G_C->N.
        discriminator_optimizer: steps D.
        adversarial_loss: equations (1) and (2), with NECT as destination.
        identity_weight: of the L1 between a NECT and what the remover makes of it, in which there is nothing to remove.
            Not in the paper, which has 0.
    """

    def __init__(
        self,
        remover: nn.Module,
        discriminator: nn.Module,
        *,
        remover_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        adversarial_loss: ThreeClassAdversarialLoss,
        identity_weight: float = 0.0,
    ) -> None:
        super().__init__(
            remover,
            networks={"generator": remover, "discriminator": discriminator},
            optimizers={"generator": remover_optimizer, "discriminator": discriminator_optimizer},
        )
        self.remover = remover
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss
        self.identity_weight = identity_weight

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_nect, real_cect = batch["source"], batch["target"]
        with trainer.autocast():
            synthetic_nect = self.remover(real_cect)
            real_logits = self.discriminator(real_nect), self.discriminator(real_cect)
            synthetic_logits = self.discriminator(synthetic_nect.detach())
        discriminator_loss = self.adversarial_loss.discriminator(*real_logits, synthetic_logits)  # equation (1)
        trainer.update(self.optimizers["discriminator"], discriminator_loss)

        with frozen(self.discriminator):
            with trainer.autocast():
                synthetic_logits = self.discriminator(synthetic_nect)
            losses = {"adversarial": self.adversarial_loss.generator(synthetic_logits)}  # equation (2)
            total = losses["adversarial"]
            if self.identity_weight > 0:
                with trainer.autocast():
                    same_nect = self.remover(real_nect)
                losses["identity"] = l1_loss(same_nect.float(), real_nect.float())
                total = total + self.identity_weight * losses["identity"]
            trainer.update(self.optimizers["generator"], total)

        images = {"real_source": real_cect, "fake_target": synthetic_nect.detach(), "real_target": real_nect}
        return {"generator": total, **losses, "discriminator": discriminator_loss, **images}
