"""Patchwise contrastive loss of contrastive unpaired translation."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..devices import without_autocast
from .precision import full_precision


def patch_nce_loss(query: torch.Tensor, key: torch.Tensor, *, temperature: float = 0.07) -> torch.Tensor:
    """Compute the cross-entropy of finding each query's own patch among the image's keys; see `PatchNCELoss`."""
    if query.dim() != 3 or query.shape != key.shape:
        raise ValueError(
            "`query` and `key` must have the same shape (batch, patches, channels), got "
            f"{tuple(query.shape)} and {tuple(key.shape)}."
        )
    if query.shape[1] < 2:
        raise ValueError(
            f"`query` must hold at least 2 patches, since the others are the negatives, got {query.shape[1]}."
        )
    with without_autocast(query.device):
        query, key = full_precision(query), full_precision(key.detach())
        logits = torch.bmm(query, key.transpose(1, 2)) / temperature  # (B, query patch, key patch)
        own = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape[:2])
        return F.cross_entropy(logits.flatten(0, 1), own.flatten())


class PatchNCELoss(nn.Module):
    """Loss that asks a patch of the translation to resemble the same patch of the source most.

    Park, Efros, Zhang, Zhu, "Contrastive learning for unpaired image-to-image translation", ECCV 2020, equation (3).
    The positives are on the diagonal of the (P, P) similarities of one image; the negatives are the same image's
    other patches, never another image's. The key receives no gradient. For several layers take the mean of the losses.

    Args:
        temperature: Divisor of the similarities, > 0.

    Raises:
        ValueError: If `temperature` is out of range, the shapes differ, or there are fewer than 2 patches.

    Differences from the official code:
        The code puts the positive in front of the row and overwrites the diagonal with -10 before the division by the
        temperature, which removes it from the negatives but for exp(-10 / 0.07), about 1e-62. That is the cross-entropy
        over the plain matrix with the diagonal as the label, computed here.

    Example:
        >>> patches = torch.eye(4).expand(2, 4, 4)  # embeddings of length 1, each its own direction
        >>> PatchNCELoss(temperature=1.0)(patches, patches)  # log(1 + 3 / e)
        tensor(0.7437)
    """

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"`temperature` must be > 0, got {temperature}.")
        self.temperature = temperature

    def forward(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Compare embeddings of length 1, as `PatchFeatureMLP` returns them.

        Args:
            query: Embeddings `(B, P, C)` of the translation.
            key: Embeddings `(B, P, C)` of the source, at the same locations.

        Returns:
            The loss, a scalar.
        """
        return patch_nce_loss(query, key, temperature=self.temperature)
