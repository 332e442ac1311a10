"""CycleGAN: two generators, two discriminators, and a cycle there and back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from ..losses.adversarial import AdversarialLoss
from .method import ImagePool, TrainingServices, TranslationMethod, frozen


class CycleGAN(TranslationMethod):
    """Cycle-consistent adversarial translation.

    Zhu et al., "Unpaired image-to-image translation using cycle-consistent adversarial networks", ICCV 2017,
    equations (1) to (4) and section 5.2 (identity loss).

    With `cycle_loss=ReconstructionLoss(10, perceptual)`, `cycle_weight=1` and `identity_weight=0` it is the baseline
    Cycle of Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 4.2.

    Args:
        generator: G, from source to target; the network that is deployed.
        back_generator: F, from target to source.
        target_discriminator: D_Y, of real and translated targets.
        source_discriminator: D_X, of real and translated sources.
        generator_optimizer: Optimizer of G and F.
        discriminator_optimizer: Optimizer of D_X and D_Y.
        adversarial_loss: Loss of equation (1); least squares in the paper (section 4).
        cycle_weight: Weight lambda of equation (3), 10.
        identity_weight: Weight of the identity loss relative to `cycle_weight`: 0.5 in the released code's default,
            0 omits it.
        cycle_loss: Loss between an image and its cycle in equation (2); by default the paper's mean absolute
            difference.
        pool_size: Number of past translations that the discriminators see again, 50.
    """

    def __init__(
        self,
        generator: nn.Module,
        back_generator: nn.Module,
        *,
        target_discriminator: nn.Module,
        source_discriminator: nn.Module,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        adversarial_loss: AdversarialLoss,
        cycle_weight: float = 10.0,
        identity_weight: float = 0.5,
        cycle_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        pool_size: int = 50,
    ) -> None:
        super().__init__(
            generator,
            networks={
                "generator": generator,
                "back_generator": back_generator,
                "target_discriminator": target_discriminator,
                "source_discriminator": source_discriminator,
            },
            optimizers={"generator": generator_optimizer, "discriminator": discriminator_optimizer},
            pools={"target": ImagePool(pool_size), "source": ImagePool(pool_size)},
        )
        self.back_generator = back_generator
        self.target_discriminator = target_discriminator
        self.source_discriminator = source_discriminator
        self.adversarial_loss = adversarial_loss
        self.cycle_loss = l1_loss if cycle_loss is None else cycle_loss
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_source, real_target = batch["source"], batch["target"]
        with trainer.autocast():
            fake_target, fake_source = self.generator(real_source), self.back_generator(real_target)

        with frozen(self.target_discriminator, self.source_discriminator):
            losses = self._generator_losses(trainer, real_source, real_target, fake_target, fake_source)
            trainer.update(self.optimizers["generator"], losses["generator"])

        with trainer.autocast():
            target_logits = (
                self.target_discriminator(real_target),
                self.target_discriminator(self.pools["target"](fake_target)),
            )
            source_logits = (
                self.source_discriminator(real_source),
                self.source_discriminator(self.pools["source"](fake_source)),
            )
        discriminator_loss = self.adversarial_loss.discriminator(*target_logits)  # equation (1), D_Y
        discriminator_loss = discriminator_loss + self.adversarial_loss.discriminator(*source_logits)  # D_X
        trainer.update(self.optimizers["discriminator"], discriminator_loss)

        images = {"real_source": real_source, "fake_target": fake_target.detach(), "real_target": real_target}
        return {**losses, "discriminator": discriminator_loss, **images}

    def _generator_losses(
        self,
        trainer: TrainingServices,
        real_source: torch.Tensor,
        real_target: torch.Tensor,
        fake_target: torch.Tensor,
        fake_source: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        with trainer.autocast():
            target_logits, source_logits = (
                self.target_discriminator(fake_target),
                self.source_discriminator(fake_source),
            )
            cycled_source, cycled_target = self.back_generator(fake_target), self.generator(fake_source)
        adversarial = self.adversarial_loss.generator(target_logits)  # equation (1), G and D_Y
        adversarial = adversarial + self.adversarial_loss.generator(source_logits)  # equation (1), F and D_X
        cycle = self.cycle_loss(cycled_source.float(), real_source)  # equation (2), forward
        cycle = cycle + self.cycle_loss(cycled_target.float(), real_target)  # backward
        losses = {"adversarial": adversarial, "cycle": cycle}
        total = adversarial + self.cycle_weight * cycle  # equation (3)
        if self.identity_weight > 0:
            with trainer.autocast():
                same_target, same_source = self.generator(real_target), self.back_generator(real_source)
            losses["identity"] = l1_loss(same_target.float(), real_target) + l1_loss(same_source.float(), real_source)
            total = total + self.cycle_weight * self.identity_weight * losses["identity"]  # section 5.2
        return {"generator": total, **losses}
