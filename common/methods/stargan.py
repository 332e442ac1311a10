"""StarGAN for CT kernels, and the family that grew from it by guiding the discriminator: GGDR, GGCL, KCGAN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import l1_loss
from torch.optim import Optimizer

from ..losses import AdversarialLoss, gradient_penalty
from ..ranks import draw_for_each
from .domain_labels import DomainLabels
from .method import TrainingServices, TranslationMethod, frozen


class StarGAN(TranslationMethod):
    """
    One generator for all directions between several domains, from unpaired images.

    Choi, Y. et al., "StarGAN", CVPR 2018; with generator-guided contrastive learning it is GGCL (Choi, C. et al., "CT
    kernel conversion using multi-domain image-to-image translation with generator-guided contrastive learning",
    MICCAI 2023, equations (1) to (5)); with perceptual guidance, KCGAN (Choi, C., thesis, University of Ulsan,
    equations (1) to (7)). The guidance regularises the *discriminator* only: its semantic map of a translated image
    learns to resemble the feature map with which the generator made that image.

    Args:
        generator: G, called as `generator(image, label)`; with a guidance it must offer
            `features(image, label) -> (translated, feature)`.
        discriminator: D, `discriminator(image) -> (source_map, domain_logits)`; with a guidance it must offer
            `compare(real, fake) -> (source_map, domain_logits, fake_source_map, fake_semantic_map)`.
        labels: draws the targets and writes their labels.
        generator_optimizer: steps G.
        discriminator_optimizer: steps D.
        guidance: loss of (semantic map, generator feature): None is StarGAN, `CosineContentLoss` GGDR,
            `GuidedContrastiveLoss` GGCL, `PerceptualGuidanceLoss` KCGAN. One whose `needs_encoder` is true also gets
            the encoder's feature, from the generator's `both_features(image, label)`.
        guidance_weight: of that loss; GGCL: lambda_ggcl = 2; KCGAN weighs inside the loss.
        classification_weight: lambda_cls = 1.
        cycle_weight: lambda_cyc = 10.
        penalty_weight: of the gradient penalty, 10.
        penalty_reduction: "mean" takes the gradient of what the critic loss is, the mean of the source map; "sum" is
            the official code's.
        critic_steps: updates of D for each update of G, 5.
        rounding: step in [-1, 1] to which a translation is rounded before it is translated back (not in the papers). A
            cycle can be closed through traces far below 1 HU, which no saved image keeps.

    Differences from the official code:
        Targets are drawn uniformly (`DomainLabels`); the penalty belongs to the mean of the source map; the learning
        rate does decay (docs/fidelity.md).
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        labels: DomainLabels,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        guidance: nn.Module | None = None,
        guidance_weight: float = 1.0,
        classification_weight: float = 1.0,
        cycle_weight: float = 10.0,
        penalty_weight: float = 10.0,
        penalty_reduction: str = "mean",
        critic_steps: int = 5,
        rounding: float | None = None,
    ) -> None:
        if critic_steps < 1:
            raise ValueError(f"`critic_steps` must be >= 1, got {critic_steps}; the papers use 5.")
        if getattr(guidance, "needs_encoder", False) and not hasattr(generator, "both_features"):
            raise ValueError(
                f"`guidance` compares with the encoder's feature, which {type(generator).__name__} does not offer:"
                " take StarGANGenerator, or `content_from='decoder'`."
            )
        super().__init__(
            generator,
            networks={"generator": generator, "discriminator": discriminator},
            optimizers={"generator": generator_optimizer, "discriminator": discriminator_optimizer},
        )
        self.discriminator = discriminator
        self.labels = labels
        self.guidance = guidance
        self.guidance_weight = guidance_weight
        self.classification_weight = classification_weight
        self.cycle_weight = cycle_weight
        self.penalty_weight = penalty_weight
        self.penalty_reduction = penalty_reduction
        self.critic_steps = critic_steps
        self.rounding = rounding
        self.adversarial_loss = AdversarialLoss("wasserstein")

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One update of D on `image` (B, C, H, W) of the domains `domain` (B,); every n_critic-th time one of G."""
        image, domain = batch["image"], batch["domain"]
        target = self.labels.draw(domain)
        forth = self.labels(target, domain, batch.get("spacing_mm"))
        back = self.labels(domain, target, batch.get("spacing_mm"))
        generators_turn = trainer.step % self.critic_steps == 0
        with trainer.autocast(), torch.set_grad_enabled(generators_turn):
            fake, keys = self._translate(image, forth)  # once for both updates: G is the same in them
        losses = self._discriminator_losses(trainer, image, domain, fake.detach(), keys)
        trainer.update(self.optimizers["discriminator"], losses["discriminator"])
        if generators_turn:
            with frozen(self.discriminator):
                losses |= self._generator_losses(trainer, image, target, fake, back)
                trainer.update(self.optimizers["generator"], losses["generator"])
        return {**losses, "real_source": image, "fake_target": fake.detach()}

    def _translate(self, image: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """G's output, and with a guidance its decoder feature, detached: the key gets no gradient."""
        if self.guidance is None:
            return self.generator(image, label), []
        name = "both_features" if getattr(self.guidance, "needs_encoder", False) else "features"
        features: Callable[..., Any] = getattr(self.generator, name)
        fake, *keys = features(image, label)
        return fake, [key.detach() for key in keys]

    def _as_saved(self, fake: torch.Tensor) -> torch.Tensor:
        """A translation rounded to what a file can hold; its gradient passes as if it were not."""
        if self.rounding is None:
            return fake
        return fake + ((fake / self.rounding).round() * self.rounding - fake).detach()

    def _discriminator_losses(
        self,
        trainer: TrainingServices,
        image: torch.Tensor,
        domain: torch.Tensor,
        fake: torch.Tensor,
        keys: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """GGCL's equation (4), KCGAN's (6): -L_adv + lambda_cls L_cls^r + the guidance."""
        with trainer.autocast():
            if self.guidance is None:
                real_map, real_logits = self.discriminator(image)
                fake_map, semantic_map = self.discriminator(fake)[0], None
            else:
                discriminator: Any = self.discriminator
                real_map, real_logits, fake_map, semantic_map = discriminator.compare(image, fake)
        losses = {
            "critic": self.adversarial_loss.discriminator(real_map, fake_map),  # -L_adv ...
            "penalty": gradient_penalty(  # ... whose Lipschitz constant this term keeps near 1
                lambda mixed: self.discriminator(mixed)[0],
                image,
                fake.float(),
                reduction=self.penalty_reduction,
                place=draw_for_each(len(image), lambda number: torch.rand(number, device=image.device)),
            ),
            "real_class": self.labels.classification_loss(real_logits, domain),  # L_cls^r
        }
        total = losses["critic"] + self.penalty_weight * losses["penalty"]
        total = total + self.classification_weight * losses["real_class"]
        if self.guidance is not None:
            losses["guidance"] = self.guidance(semantic_map, *keys)  # GGCL (3); KCGAN (5)
            total = total + self.guidance_weight * losses["guidance"]
        return {"discriminator": total, **losses}

    def _generator_losses(
        self,
        trainer: TrainingServices,
        image: torch.Tensor,
        target: torch.Tensor,
        fake: torch.Tensor,
        back: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """GGCL's equation (5), KCGAN's (7): L_adv + lambda_cls L_cls^f + lambda_cyc L_cyc."""
        with trainer.autocast():
            fake_map, fake_logits = self.discriminator(fake)
            cycled = self.generator(self._as_saved(fake), back)
        losses = {
            "adversarial": self.adversarial_loss.generator(fake_map),  # L_adv
            "fake_class": self.labels.classification_loss(fake_logits, target),  # L_cls^f
            "cycle": l1_loss(cycled.float(), image.float()),  # L_cyc
        }
        total = losses["adversarial"] + self.classification_weight * losses["fake_class"]
        return {"generator": total + self.cycle_weight * losses["cycle"], **losses}
