"""AttGAN: decode an image for another domain, and exactly as it was for its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import l1_loss

from .method import TrainingServices
from .stargan import StarGAN


class AttGAN(StarGAN):
    """Multi-domain translation by decoding: another domain for the target, the image itself for its own domain.

    He et al., "AttGAN: facial attribute editing by only changing what you want", IEEE Trans. Image Process. 28(11),
    2019, equations (7) to (15). Where StarGAN translates there and back, AttGAN decodes the image once for the target
    and once for its own domain. Everything else is StarGAN's: targets, critic, gradient penalty, and the guidance of
    the discriminator, which makes it the second multi-domain method that GGCL or KCGAN can be applied to.

    Args:
        generator: Generator, see `StarGAN`.
        discriminator: Discriminator, see `StarGAN`; the paper's D and C, which share their convolutions.
        reconstruction_weight: Weight lambda_1 = 100 of equation (14).
        fake_classification_weight: Weight lambda_2 = 10 of equation (14).
        classification_weight: Weight lambda_3 = 1 of equation (15).
        others: Further arguments of `StarGAN`, except `cycle_weight` and `rounding`.

    Raises:
        TypeError: If an argument of the cycle is given.

    Differences from the official code:
        A CT has exactly one of the kernels, so C is trained by the cross-entropy over them, not by that of each
        attribute separately (equations (8) and (10)). Targets are drawn uniformly, not from the batch. The
        discriminator is StarGAN's: fully connected layers over 16x16x1024 features would have 270 million weights each.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        reconstruction_weight: float = 100.0,
        fake_classification_weight: float = 10.0,
        classification_weight: float = 1.0,
        **others: Any,
    ) -> None:
        if cycle := sorted({"cycle_weight", "rounding"} & others.keys()):
            raise TypeError(f"AttGAN has no cycle and takes no {' and no '.join(f'`{name}`' for name in cycle)}.")
        super().__init__(generator, discriminator, classification_weight=classification_weight, **others)
        self.reconstruction_weight = reconstruction_weight
        self.fake_classification_weight = fake_classification_weight

    def _generator_losses(
        self,
        trainer: TrainingServices,
        image: torch.Tensor,
        target: torch.Tensor,
        fake: torch.Tensor,
        back: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Compute equation (14): lambda_1 L_rec + lambda_2 L_cls_g + L_adv_g.

        `back` is the label of the image's own domain.
        """
        with trainer.autocast():
            fake_map, fake_logits = self.discriminator(fake)
            same = self.generator(image, back)
        losses = {
            "adversarial": self.adversarial_loss.generator(fake_map),  # (13)
            "fake_class": self.labels.classification_loss(fake_logits, target),  # (7) and (8)
            "reconstruction": l1_loss(same.float(), image.float()),  # (11)
        }
        total = losses["adversarial"] + self.fake_classification_weight * losses["fake_class"]
        return {"generator": total + self.reconstruction_weight * losses["reconstruction"], **losses}
