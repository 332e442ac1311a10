"""DCLGAN: contrastive translation in both directions, each with its own generator and patch embedding."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from ..losses.adversarial import AdversarialLoss
from ..losses.patch_nce import PatchNCELoss
from .method import TrainingServices, TranslationMethod, frozen

Features = list[torch.Tensor]


class DualContrastiveTranslation(TranslationMethod):
    """Contrastive translation in both directions, where each domain is seen through an encoder of its own.

    Han, Shoeiby, Petersson, Armin, "Dual contrastive learning for unsupervised image-to-image translation", CVPR
    Workshops 2021, section 3. CUT embeds source and translation by the same encoder; here a source patch goes through
    the encoder of G, which sees real sources, and its translation through that of F, which sees real targets.

    Args:
        generator: G, from source to target; the network that is deployed; with a method `encode(image)`, see CUT.
        back_generator: F, from target to source; with a method `encode(image)`, see CUT.
        target_discriminator: D_Y, of real and translated targets.
        source_discriminator: D_X, of real and translated sources.
        source_features: H_X, which embeds the features of source images in the encoder of G.
        target_features: H_Y, which embeds the features of target images in the encoder of F.
        generator_optimizer: Optimizer of G and F.
        discriminator_optimizer: Optimizer of D_X and D_Y, which step before the generators.
        features_optimizer: Optimizer of H_X and H_Y.
        adversarial_loss: Loss of section 3.1; least squares, as in the released code.
        contrastive_loss: Loss of section 3.2, for one encoder level.
        contrastive_weight: Weight lambda_NCE, 2.
        identity_weight: Weight lambda_idt, 1, of the mean absolute difference of G(y) from y and of F(x) from x; 0
            omits it.

    Differences from the official code: It halves the whole loss of the generators, which makes no difference to Adam,
        and steps H_X and H_Y with Adam's default learning rate and betas, which its schedule scales; here they have the
        generators'. Its layers are named by index, here they are the encoder's levels without the first, the image
        itself.
    """

    def __init__(
        self,
        generator: nn.Module,
        back_generator: nn.Module,
        *,
        target_discriminator: nn.Module,
        source_discriminator: nn.Module,
        source_features: nn.Module,
        target_features: nn.Module,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        features_optimizer: Optimizer,
        adversarial_loss: AdversarialLoss,
        contrastive_loss: PatchNCELoss,
        contrastive_weight: float = 2.0,
        identity_weight: float = 1.0,
    ) -> None:
        super().__init__(
            generator,
            networks={
                "generator": generator,
                "back_generator": back_generator,
                "target_discriminator": target_discriminator,
                "source_discriminator": source_discriminator,
                "source_features": source_features,
                "target_features": target_features,
            },
            optimizers={
                "generator": generator_optimizer,
                "discriminator": discriminator_optimizer,
                "features": features_optimizer,
            },
        )
        self.back_generator = back_generator
        self.target_discriminator = target_discriminator
        self.source_discriminator = source_discriminator
        self.source_features = source_features
        self.target_features = target_features
        self.adversarial_loss = adversarial_loss
        self.contrastive_loss = contrastive_loss
        self.contrastive_weight = contrastive_weight
        self.identity_weight = identity_weight

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_source, real_target = batch["source"], batch["target"]
        with trainer.autocast():
            fake_target, fake_source = self.generator(real_source), self.back_generator(real_target)
            target_logits = self.target_discriminator(real_target), self.target_discriminator(fake_target.detach())
            source_logits = self.source_discriminator(real_source), self.source_discriminator(fake_source.detach())
        discriminator_loss = self.adversarial_loss.discriminator(*target_logits)  # section 3.1, D_Y
        discriminator_loss = discriminator_loss + self.adversarial_loss.discriminator(*source_logits)  # D_X
        trainer.update(self.optimizers["discriminator"], discriminator_loss)

        with frozen(self.target_discriminator, self.source_discriminator):
            losses = self._generator_losses(trainer, real_source, real_target, fake_target, fake_source)
            trainer.update([self.optimizers["generator"], self.optimizers["features"]], losses["generator"])

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
        """Sum the adversarial terms, lambda_NCE (X and Y) and lambda_idt (both)."""
        with trainer.autocast():
            target_logits = self.target_discriminator(fake_target)
            source_logits = self.source_discriminator(fake_source)
            seen = [self._levels(self.generator, image) for image in (real_source, fake_source)]
            seen_back = [self._levels(self.back_generator, image) for image in (real_target, fake_target)]
            contrastive = self._contrastive(seen[0], self.source_features, seen_back[1], self.target_features)  # X
            back = self._contrastive(seen_back[0], self.target_features, seen[1], self.source_features)  # Y
        adversarial = self.adversarial_loss.generator(target_logits)  # section 3.1, G
        adversarial = adversarial + self.adversarial_loss.generator(source_logits)  # F
        losses = {"adversarial": adversarial, "contrastive": contrastive + back}  # section 3.2
        total = adversarial + self.contrastive_weight * losses["contrastive"]
        if self.identity_weight > 0:
            with trainer.autocast():
                same_target, same_source = self.generator(real_target), self.back_generator(real_source)
            losses["identity"] = l1_loss(same_target.float(), real_target) + l1_loss(same_source.float(), real_source)
            total = total + self.identity_weight * losses["identity"]
        return {"generator": total, **losses}

    def _levels(self, generator: nn.Module, image: torch.Tensor) -> Features:
        """Return the levels of an encoder that are compared: all but the image itself."""
        return generator.encode(image)[1:]  # type: ignore[operator]

    def _contrastive(
        self, source: Features, source_embedding: nn.Module, output: Features, output_embedding: nn.Module
    ) -> torch.Tensor:
        """Average over encoder levels, with source (key) and translation (query) at the same places."""
        key, locations = source_embedding(source)
        query, _ = output_embedding(output, locations)
        return torch.stack([self.contrastive_loss(q, k) for q, k in zip(query, key)]).mean()
