"""Supervised training on pairs.

`Pix2Pix` is the supervised reference on aligned pairs, `PairedConversion` the same for a generator of several domains,
and `PairedRegression` regression on pairs that need not be aligned.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import l1_loss, mse_loss, pad
from torch.optim import Optimizer

from ..losses.adversarial import AdversarialLoss
from ..losses.reconstruction import ReconstructionLoss
from ..losses.texture import TextureLoss
from ..networks.bicubic import BicubicResidualGenerator
from .method import TrainingServices, TranslationMethod, as_saved, frozen
from .stargan import DomainLabels


class Pix2Pix(TranslationMethod):
    """An L1 and an adversarial loss on aligned pairs, with a discriminator that sees source and target together.

    Isola et al., "Image-to-image translation with conditional adversarial networks", CVPR 2017, equations (1) to (4).

    Args:
        generator: G, from the source to the target domain. Its noise z is omitted, as in the paper's practice (section
            2.1: it learned to ignore it; their dropout is not part of a medical translation).
        discriminator: D, called with source and target concatenated along the channels.
        generator_optimizer: Optimizer of G.
        discriminator_optimizer: Optimizer of D.
        adversarial_loss: Loss of equation (1).
        reconstruction_weight: Weight lambda of equation (4), 100.
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
    """Prediction of the same slice in another domain with a mean absolute difference and no adversary.

    It is the supervised end of the scale for StarGAN and its kin, with their own generator; not in the papers.

    Args:
        generator: Generator, called as `generator(image, label)`; the network that is deployed.
        labels: Labels of the targets.
        generator_optimizer: Optimizer of the generator.
        rounding: Step in [-1, 1] to which a prediction is rounded before it is compared, as it is when it is saved; the
            gradient passes as if it were not.
        border: Pixels at each side of a crop that do not count, since what surrounds them is not in it.
    """

    def __init__(
        self,
        generator: nn.Module,
        *,
        labels: DomainLabels,
        generator_optimizer: Optimizer,
        rounding: float | None = None,
        border: int = 0,
    ) -> None:
        super().__init__(generator, networks={"generator": generator}, optimizers={"generator": generator_optimizer})
        self.labels, self.rounding, self.border = labels, rounding, border

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Perform one update on `image` (B, C, H, W) of the domains `domain` (B,), with its `truth` in `target`."""
        image, truth = batch["image"], batch["truth"]
        label = self.labels(batch["target"], batch["domain"], batch.get("spacing_mm"))
        with trainer.autocast():
            predicted = self.generator(image, label)
        crop = [-self.border] * 2 * (image.dim() - 2)
        loss = l1_loss(pad(as_saved(predicted.float(), self.rounding), crop), pad(truth.float(), crop))
        trainer.update(self.optimizers["generator"], loss)
        return {"generator": loss, "real_source": image, "fake_target": predicted.detach(), "real_target": truth}


class PairedRegression(TranslationMethod):
    """Prediction of the target of each pair without an adversary.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 1, rule this out for NECT and CECT of
    a patient, which are never aligned: where an organ's place differs between the two, the best prediction is a blur
    over its places. This baseline shows how much it blurs.

    Args:
        generator: Generator from `source` to `target`; the network that is deployed.
        generator_optimizer: Optimizer of the generator.
        reconstruction_loss: Loss between prediction and target.
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


class TexturedRegression(TranslationMethod):
    """Super-resolution on pairs: least squares for the structure, and statistics for the texture that it leaves out.

    The least squared error is that of the mean of all images that fit the source, which has no texture below its
    resolution. The texture learns the variance and the spectrum of what is missing; only its own layers learn from it.

    Args:
        generator: Generator whose `parts` are structure and texture; the network that is deployed.
        generator_optimizer: Optimizer of the generator.
        texture_loss: Loss between the texture and the target minus structure.
        texture_loss_weight: Its weight.
    """

    def __init__(
        self,
        generator: BicubicResidualGenerator,
        *,
        generator_optimizer: Optimizer,
        texture_loss: TextureLoss,
        texture_loss_weight: float = 0.01,
    ) -> None:
        super().__init__(generator, networks={"generator": generator}, optimizers={"generator": generator_optimizer})
        self.split, self.complete, self.share = generator.parts, generator.consistent, generator.texture_share
        self.texture_weight = generator.texture_weight
        self.texture_loss, self.texture_loss_weight = texture_loss, texture_loss_weight

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_source, real_target = batch["source"], batch["target"]
        with trainer.autocast():
            structure, texture = self.split(real_source)
        share = self.share(structure)
        structure = self.complete(structure, real_source)
        squared = mse_loss(structure, real_target.float())
        texture_loss = self.texture_loss(texture, share * (real_target - structure))
        total = squared + self.texture_loss_weight * texture_loss
        trainer.update(self.optimizers["generator"], total)

        predicted = (structure + self.texture_weight * texture).detach()
        images = {"real_source": real_source, "fake_target": predicted, "real_target": real_target}
        return {"generator": total, "squared": squared, "texture": texture_loss, **images}
