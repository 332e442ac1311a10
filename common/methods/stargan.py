"""StarGAN for CT kernels, and the family of guided discriminators that grew from it: GGDR, GGCL, KCGAN.

`DomainLabels` and `ConversionLabels` are the vectors that tell a multi-domain generator its target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, l1_loss, one_hot
from torch.optim import Optimizer

from ..distributed import draw_for_each, joined, own_part
from ..losses.adversarial import AdversarialLoss
from ..losses.gradient_penalty import gradient_penalty
from .method import TrainingServices, TranslationMethod, as_saved, frozen


class DomainLabels:
    """Label vectors of target domains, how targets are drawn, and the matching loss of the discriminator's domain head.

    With one vendor the label is one-hot over its kernels (Choi et al., "StarGAN", CVPR 2018, section 3.1). With several
    vendors it is one-hot over the kernels of all vendors, followed by a one-hot mask of the vendor (section 3.2); the
    classification loss then compares kernels of the same vendor only.

    Args:
        num_domains: Number of domains, or a list with the number of each vendor.
        permute: Whether the targets are the batch's own domains in another order, as in the official code: at batch 2
            and three balanced kernels two thirds of the targets are then the source. By default they are uniform over
            all domains.

    Raises:
        ValueError: If a number of domains is below 1, or there is only one domain.

    Example:
        >>> DomainLabels(3)(torch.tensor([2, 0])).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
        >>> DomainLabels([2, 1])(torch.tensor([1, 2])).tolist()
        [[0.0, 1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0, 1.0]]
    """

    def __init__(self, num_domains: int | Sequence[int], *, permute: bool = False) -> None:
        self.groups = [num_domains] if isinstance(num_domains, int) else list(num_domains)
        if min(self.groups, default=0) < 1 or sum(self.groups) < 2:
            raise ValueError(f"`num_domains` must be >= 2, or a list with a number >= 1 per vendor, got {num_domains}.")
        self.num_domains = sum(self.groups)
        self.permute = permute

    @property
    def size(self) -> int:
        """Length of a label vector."""
        return self.num_domains + (len(self.groups) if len(self.groups) > 1 else 0)

    def draw(self, domain: torch.Tensor) -> torch.Tensor:
        """Draw a target domain for each of `domain` (B,)."""
        if self.permute:
            together = joined(domain)
            return own_part(together[torch.randperm(len(together)).to(domain.device)])
        drawn = draw_for_each(len(domain), lambda number: torch.randint(self.num_domains, (number,)))
        return drawn.to(domain.device)

    def __call__(
        self, target: torch.Tensor, source: torch.Tensor | None = None, spacing_mm: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the label vectors (B, size) of target domains (B,); the papers' generators see nothing else."""
        label = one_hot(target, self.num_domains).float()
        if len(self.groups) == 1:
            return label
        return torch.cat([label, one_hot(self._group(target), len(self.groups)).float()], dim=1)

    def classification_loss(self, logits: torch.Tensor, domain: torch.Tensor) -> torch.Tensor:
        """Compute the cross-entropy of the domain head (B, num_domains) among the domains of each sample's vendor."""
        logits = logits.float()
        if len(self.groups) > 1:
            owner = self._group(torch.arange(self.num_domains, device=domain.device))
            logits = logits.masked_fill(owner[None] != self._group(domain)[:, None], -torch.inf)
        return cross_entropy(logits, domain)

    def _group(self, domain: torch.Tensor) -> torch.Tensor:
        """Return the vendor of each domain."""
        ends = torch.tensor(self.groups, device=domain.device).cumsum(0)
        return torch.bucketize(domain, ends, right=True)


class ConversionLabels(DomainLabels):
    """Labels for a generator that must also know what it converts: target, source, and pixel size.

    A reconstruction kernel is a function of frequency in lp/mm. Its effect on an image of pixels, and what is left to
    do starting from the image's own kernel, follows from the three together (`common.networks.PhysicsGenerator`).

    Args:
        num_domains: Number of domains.

    Example:
        >>> ConversionLabels(2)(torch.tensor([1]), torch.tensor([0]), torch.tensor([0.5])).tolist()
        [[0.0, 1.0, 1.0, 0.0, 0.5]]
    """

    def __init__(self, num_domains: int) -> None:
        super().__init__(num_domains)

    @property
    def size(self) -> int:
        """Length of a label vector: target, source, and the pixel size in mm."""
        return 2 * self.num_domains + 1

    def __call__(
        self, target: torch.Tensor, source: torch.Tensor | None = None, spacing_mm: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the label vectors (B, size) of target and source domains (B,) and pixel sizes (B,)."""
        if source is None or spacing_mm is None:
            raise ValueError("`source` and `spacing_mm` must be given to a generator that starts from them, got None.")
        hot = [one_hot(domain, self.num_domains).float() for domain in (target, source)]
        return torch.cat([*hot, spacing_mm.float()[:, None]], dim=1)


class StarGAN(TranslationMethod):
    """One generator for all directions between several domains, from unpaired images.

    Choi, Y. et al., "StarGAN", CVPR 2018; with generator-guided contrastive learning it is GGCL (Choi, C. et al., "CT
    kernel conversion using multi-domain image-to-image translation with generator-guided contrastive learning",
    MICCAI 2023, equations (1) to (5)); with perceptual guidance, KCGAN (Choi, C., thesis, University of Ulsan,
    equations (1) to (7)). The guidance regularises the *discriminator* only: its semantic map of a translated image
    learns to resemble the feature map with which the generator made that image.

    Args:
        generator: G, called as `generator(image, label)`; with a guidance it must have a method
            `features(image, label) -> (translated, feature)`.
        discriminator: D, `discriminator(image) -> (source_map, domain_logits)`; with a guidance it must have a method
            `compare(real, fake) -> (source_map, domain_logits, fake_source_map, fake_semantic_map)`.
        labels: Labels, which also draw the targets.
        generator_optimizer: Optimizer of G.
        discriminator_optimizer: Optimizer of D.
        guidance: Loss of (semantic map, generator feature): None is StarGAN, `CosineContentLoss` GGDR,
            `GuidedContrastiveLoss` GGCL, `PerceptualGuidanceLoss` KCGAN. If its `needs_encoder` is true, it also gets
            the encoder's feature, from the generator's `both_features(image, label)`.
        guidance_weight: Weight of the guidance; lambda_ggcl = 2 in GGCL, whereas KCGAN weighs inside the loss.
        classification_weight: Weight lambda_cls = 1.
        cycle_weight: Weight lambda_cyc = 10.
        penalty_weight: Weight of the gradient penalty, 10.
        penalty_reduction: "mean" penalises the gradient of the mean of the source map, which is the critic loss; "sum"
            is the official code's.
        critic_steps: Updates of D per update of G, 5.
        rounding: Step in [-1, 1] to which a translation is rounded before it is translated back (not in the papers). A
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
        """Update D on `image` (B, C, H, W) of the domains `domain` (B,), and every n_critic-th time also G."""
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
        """Return G's output and, with a guidance, its decoder feature, detached: the key receives no gradient."""
        if self.guidance is None:
            return self.generator(image, label), []
        name = "both_features" if getattr(self.guidance, "needs_encoder", False) else "features"
        features: Callable[..., Any] = getattr(self.generator, name)
        fake, *keys = features(image, label)
        return fake, [key.detach() for key in keys]

    def _discriminator_losses(
        self,
        trainer: TrainingServices,
        image: torch.Tensor,
        domain: torch.Tensor,
        fake: torch.Tensor,
        keys: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Compute GGCL's equation (4), KCGAN's (6): -L_adv + lambda_cls L_cls^r + the guidance."""
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
        """Compute GGCL's equation (5), KCGAN's (7): L_adv + lambda_cls L_cls^f + lambda_cyc L_cyc."""
        with trainer.autocast():
            fake_map, fake_logits = self.discriminator(fake)
            cycled = self.generator(as_saved(fake, self.rounding), back)
        losses = {
            "adversarial": self.adversarial_loss.generator(fake_map),  # L_adv
            "fake_class": self.labels.classification_loss(fake_logits, target),  # L_cls^f
            "cycle": l1_loss(cycled.float(), image.float()),  # L_cyc
        }
        total = losses["adversarial"] + self.classification_weight * losses["fake_class"]
        return {"generator": total + self.cycle_weight * losses["cycle"], **losses}
