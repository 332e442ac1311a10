"""Pix2Pix: the supervised reference, trained on aligned pairs.

A generator of several domains trained on aligned pairs: what an unpaired method of those domains could reach.

A network trained directly on pairs, aligned or not.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from ..losses.adversarial import AdversarialLoss
from ..losses.reconstruction import ReconstructionLoss
from .method import TrainingServices, TranslationMethod, frozen
from .stargan import DomainLabels


class Pix2Pix(TranslationMethod):
    """An L1 and an adversarial loss on aligned pairs, with a discriminator that sees source and target together.

    Isola et al., "Image-to-image translation with conditional adversarial networks", CVPR 2017, equations (1) to (4).

    Args:
        generator: G, from the source to the target domain. Its noise z is left out, as the paper ends up doing in
            practice (section 2.1: it learned to ignore it; their dropout is not part of a medical translation).
        discriminator: D, takes source and target concatenated along the channels.
        generator_optimizer: Steps G.
        discriminator_optimizer: Steps D.
        adversarial_loss: Equation (1).
        reconstruction_weight: Lambda of equation (4), 100.
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


class PairedConversion(TranslationMethod):
    """Predicts the same slice in another domain, by its mean absolute difference, without an adversary.

    The supervised end of the scale for StarGAN and its kin, on their own generator; not in the papers.

    Args:
        generator: Called as `generator(image, label)`; the one that is deployed.
        labels: Writes the targets' labels.
        generator_optimizer: Steps it.
    """

    def __init__(self, generator: nn.Module, *, labels: DomainLabels, generator_optimizer: Optimizer) -> None:
        super().__init__(generator, networks={"generator": generator}, optimizers={"generator": generator_optimizer})
        self.labels = labels

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One update on `image` (B, C, H, W) of the domains `domain` (B,), whose truth is `truth` in `target` (B,)."""
        image, truth = batch["image"], batch["truth"]
        label = self.labels(batch["target"], batch["domain"], batch.get("spacing_mm"))
        with trainer.autocast():
            predicted = self.generator(image, label)
        loss = l1_loss(predicted.float(), truth.float())
        trainer.update(self.optimizers["generator"], loss)
        return {"generator": loss, "real_source": image, "fake_target": predicted.detach(), "real_target": truth}


class PairedRegression(TranslationMethod):
    """Predicts the target of each pair, without an adversary.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 1, rule this out for NECT and CECT of
    a patient, which are never aligned: where an organ's place differs between the two, the best prediction is a blur
    over its places. This is the baseline that shows by how much.

    Args:
        generator: From `source` to `target`; the one that is deployed.
        generator_optimizer: Steps it.
        reconstruction_loss: Between prediction and target.
    """

    def __init__(
        self, generator: nn.Module, *, generator_optimizer: Optimizer, reconstruction_loss: ReconstructionLoss
    ) -> None:
        super().__init__(generator, networks={"generator": generator}, optimizers={"generator": generator_optimizer})
        self.reconstruction_loss = reconstruction_loss

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_source, real_target = batch["source"], batch["target"]
        with trainer.autocast():
            predicted = self.generator(real_source)
        losses = self.reconstruction_loss.terms(predicted, real_target)
        trainer.update(self.optimizers["generator"], losses["reconstruction"])

        images = {"real_source": real_source, "fake_target": predicted.detach(), "real_target": real_target}
        return {"generator": losses["reconstruction"], **losses, **images}
