"""Adversarial loss with three classes: both real domains and synthetic images."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .precision import full_precision

DESTINATION, ORIGIN, SYNTHETIC = range(3)  # columns of the discriminator's logits


class ThreeClassAdversarialLoss(nn.Module):
    """Loss of a discriminator of synthetic images and both real domains, and of a generator that aims at one of these.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, equations (1) and (2), after AM-GAN (Zhou et
    al., ICLR 2018). A synthetic image that still looks like the domain it comes from is no success here: it must
    be taken for the *destination*. For the contrast remover the destination is NECT and the origin CECT.

    Logits are `(B, 3)` without activation; column 0 is the destination, 1 the origin, 2 synthetic. Cross-entropy is the
    mean over each batch; the three terms of equation (1) are summed.

    Raises:
        ValueError: If the logits do not have the shape (B, 3).

    Example:
        >>> loss = ThreeClassAdversarialLoss()
        >>> undecided = torch.zeros(4, 3)
        >>> loss.discriminator(undecided, undecided, undecided), loss.generator(undecided)  # 3 log 3 and log 3
        (tensor(3.2958), tensor(1.0986))
    """

    def discriminator(
        self, real_destination: torch.Tensor, real_origin: torch.Tensor, synthetic: torch.Tensor
    ) -> torch.Tensor:
        """Return the discriminator's loss (equation (1)), a scalar, from its logits of the three kinds of image."""
        loss = _cross_entropy(real_origin, ORIGIN, "real_origin")
        loss = loss + _cross_entropy(synthetic, SYNTHETIC, "synthetic")
        return loss + _cross_entropy(real_destination, DESTINATION, "real_destination")

    def generator(self, synthetic: torch.Tensor) -> torch.Tensor:
        """Return the generator's loss (equation (2)), a scalar, from the discriminator's logits of its images."""
        return _cross_entropy(synthetic, DESTINATION, "synthetic")


def _cross_entropy(logits: torch.Tensor, label: int, name: str) -> torch.Tensor:
    """Compute H(1_label, softmax(logits)), averaged over the batch."""
    if logits.dim() != 2 or logits.shape[1] != 3:
        raise ValueError(
            f"`{name}` must have the shape (batch, 3), one logit per class, got {tuple(logits.shape)}: build the "
            "discriminator with `num_classes` = 3."
        )
    labels = torch.full((logits.shape[0],), label, device=logits.device)
    return F.cross_entropy(full_precision(logits), labels)
