"""CUT: contrastive learning between the patches of an image and of its translation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from ..losses.adversarial import AdversarialLoss
from ..losses.patch_nce import PatchNCELoss
from .method import TrainingServices, TranslationMethod, frozen


class ContrastiveUnpairedTranslation(TranslationMethod):
    """One-sided translation in which a patch of the output must be recognisable as that patch of the input.

    Park, Efros, Zhang, Zhu, "Contrastive learning for unpaired image-to-image translation", ECCV 2020,
    equations (1) to (5).

    Args:
        generator: G, with a method `encode(image) -> list of features`, the paper's G_enc.
        discriminator: D.
        patch_features: H, which embeds the features at random places; H_l in equation (4).
        generator_optimizer: Optimizer of G.
        discriminator_optimizer: Optimizer of D.
        features_optimizer: Optimizer of H.
        adversarial_loss: Loss of equation (1); least squares in the paper (appendix C).
        contrastive_loss: Loss of equation (3).
        contrastive_weight: Weight lambda_X of equation (5), 1.
        identity_weight: Weight lambda_Y of equation (5): 1 is CUT; 0 omits the term, as FastCUT does.
        flip_equivariance: Whether every other batch is mirrored before it is translated, and the translation's features
            are mirrored back before they are compared, as in FastCUT.

    Differences from the official code:
        Its NCE layers are named by index into a list of layers, which shifts with antialiasing; ours are the
        generator's encoder levels. It halves the sum of both contrastive terms; here it is equation (5).
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        patch_features: nn.Module,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        features_optimizer: Optimizer,
        adversarial_loss: AdversarialLoss,
        contrastive_loss: PatchNCELoss,
        contrastive_weight: float = 1.0,
        identity_weight: float = 1.0,
        flip_equivariance: bool = False,
    ) -> None:
        super().__init__(
            generator,
            networks={"generator": generator, "discriminator": discriminator, "patch_features": patch_features},
            optimizers={
                "generator": generator_optimizer,
                "discriminator": discriminator_optimizer,
                "features": features_optimizer,
            },
        )
        self.encode: Callable[[torch.Tensor], list[torch.Tensor]] = generator.encode  # type: ignore[assignment]
        self.discriminator = discriminator
        self.patch_features = patch_features
        self.adversarial_loss = adversarial_loss
        self.contrastive_loss = contrastive_loss
        self.contrastive_weight = contrastive_weight
        self.identity_weight = identity_weight
        self.flip_equivariance = flip_equivariance

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        real_source, real_target = batch["source"], batch["target"]
        flipped = self.flip_equivariance and bool(torch.rand(()) < 0.5)
        with trainer.autocast():
            fake_target = self.generator(real_source.flip(-1) if flipped else real_source)
            real_logits, fake_logits = self.discriminator(real_target), self.discriminator(fake_target.detach())
        discriminator_loss = self.adversarial_loss.discriminator(real_logits, fake_logits)  # equation (1)
        trainer.update(self.optimizers["discriminator"], discriminator_loss)

        with frozen(self.discriminator):
            with trainer.autocast():
                fake_logits = self.discriminator(fake_target)
            losses = {
                "adversarial": self.adversarial_loss.generator(fake_logits),  # equation (1)
                "contrastive": self._contrastive(trainer, real_source, fake_target, flipped),  # equation (4), X
            }
            total = losses["adversarial"] + self.contrastive_weight * losses["contrastive"]
            if self.identity_weight > 0:
                with trainer.autocast():
                    same_target = self.generator(real_target.flip(-1) if flipped else real_target)
                losses["identity"] = self._contrastive(trainer, real_target, same_target, flipped)  # equation (4), Y
                total = total + self.identity_weight * losses["identity"]  # equation (5)
            trainer.update([self.optimizers["generator"], self.optimizers["features"]], total)

        shown = fake_target.detach().flip(-1) if flipped else fake_target.detach()
        images = {"real_source": real_source, "fake_target": shown, "real_target": real_target}
        return {"generator": total, **losses, "discriminator": discriminator_loss, **images}

    def _contrastive(
        self, trainer: TrainingServices, source: torch.Tensor, output: torch.Tensor, flipped: bool
    ) -> torch.Tensor:
        """Compute equation (4): the mean of equation (3) over encoder levels, with both images at the same places."""
        with trainer.autocast():
            key, locations = self.patch_features(self.encode(source))
            encoded = [feature.flip(-1) for feature in self.encode(output)] if flipped else self.encode(output)
            query, _ = self.patch_features(encoded, locations)
        return torch.stack([self.contrastive_loss(q, k) for q, k in zip(query, key)]).mean()
