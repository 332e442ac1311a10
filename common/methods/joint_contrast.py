"""Both stages of neural contrast enhancement in one iteration."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from ..losses import ReconstructionLoss, ThreeClassAdversarialLoss
from .method import TrainingServices, TranslationMethod, frozen


class JointContrastEnhancement(TranslationMethod):
    """
    Remover and enhancer trained jointly, end to end: the paper's Ours-J.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, equations (1) to (5) and section 4.2. The
    gradient of the reconstruction reaches the remover too, which therefore may leave traces in the synthetic NECT that
    make the CECT easier to predict; in the paper's words it is "distracted" by G_N->C. Equations (2) and (5) are summed
    without a weight between them, for the paper gives none.

    Args:
        generator: G_N->C, from NECT to CECT; the one that is deployed.
        remover: G_C->N, from CECT to NECT.
        discriminator: D, gives logits (B, 3).
        generator_optimizer: steps G_N->C and G_C->N.
        discriminator_optimizer: steps D.
        adversarial_loss: equations (1) and (2), with NECT as destination.
        reconstruction_loss: equations (3) to (5).
    """

    def __init__(
        self,
        generator: nn.Module,
        remover: nn.Module,
        discriminator: nn.Module,
        *,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        adversarial_loss: ThreeClassAdversarialLoss,
        reconstruction_loss: ReconstructionLoss,
    ) -> None:
        super().__init__(
            generator,
            networks={"generator": generator, "remover": remover, "discriminator": discriminator},
            optimizers={"generator": generator_optimizer, "discriminator": discriminator_optimizer},
        )
        self.remover = remover
        self.discriminator = discriminator
        self.adversarial_loss = adversarial_loss
        self.reconstruction_loss = reconstruction_loss

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
                predicted_cect = self.generator(synthetic_nect)
            losses = {"adversarial": self.adversarial_loss.generator(synthetic_logits)}  # equation (2)
            losses |= self.reconstruction_loss.terms(predicted_cect, real_cect)  # equations (3) to (5)
            total = losses["adversarial"] + losses["reconstruction"]
            trainer.update(self.optimizers["generator"], total)

        images = {"real_source": synthetic_nect.detach(), "fake_target": predicted_cect.detach()}
        return {"generator": total, **losses, "discriminator": discriminator_loss, **images, "real_target": real_cect}
