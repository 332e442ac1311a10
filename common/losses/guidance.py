"""Generator-guided losses: the discriminator's semantic map learns from the generator's feature.

All are called as `loss(query, key)`. The query is the discriminator's semantic map and receives the gradient; the key
is the generator's decoder feature and receives none. They belong to the discriminator's step only.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..devices import without_autocast
from .patch_nce import patch_nce_loss
from .precision import full_precision

_EPSILON = 1e-7  # added to the length that a vector is divided by, as in the released code


def cosine_content_loss(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Average 1 minus the cosine between the features of a place over all places; see `CosineContentLoss`."""
    _check_features(query, key)
    with without_autocast(query.device):
        return 1.0 - F.cosine_similarity(full_precision(query), full_precision(key.detach()), dim=1).mean()


def guided_contrastive_loss(
    query: torch.Tensor, key: torch.Tensor, *, num_patches: int = 64, pool: int = 2, temperature: float = 0.07
) -> torch.Tensor:
    """Compute the cross-entropy of finding each place of the query among the key's; see `GuidedContrastiveLoss`."""
    _check_features(query, key)
    _check_contrast(num_patches, pool, temperature)
    with without_autocast(query.device):
        pooled = [_pooled(full_precision(feature), pool) for feature in (query, key.detach())]
        places = pooled[0].shape[2]
        chosen = torch.randperm(places, device=query.device)[: num_patches or places]
        patches = [_unit_length(feature[:, :, chosen].transpose(1, 2)) for feature in pooled]
        return patch_nce_loss(patches[0], patches[1], temperature=temperature)


class CosineContentLoss(nn.Module):
    """Loss in [0, 2] that asks the semantic map and the generator's feature to be parallel at each place.

    The cosine similarity content loss (CCL) of the KCGAN thesis, equation (3), at 256x256; the regularisation of GGDR
    (Lee et al., "Generator knows what discriminator should learn in unconditional GANs", ECCV 2022), with weight 10.
    GGCL's released code offers it with weight 2 and averages the features to 128x128 first; KC-UNIT, the later code of
    the same author, has weight 5 and takes them as they are.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> key = torch.rand(1, 8, 4, 4)
        >>> bool(CosineContentLoss()(3 * key, key).abs() < 1e-6), CosineContentLoss()(-key, key)
        (True, tensor(2.))
    """

    def forward(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Compare the query `(B, C, H, W)` with the key of the same shape; return a scalar."""
        return cosine_content_loss(query, key)


class GuidedContrastiveLoss(nn.Module):
    """Loss that asks a place of the semantic map to resemble that place of the generator's feature most.

    Choi et al., "CT kernel conversion using multi-domain image-to-image translation with generator-guided contrastive
    learning", MICCAI 2023, equation (3), with the settings of section 3.1; the contrastive style loss (CSL) of the
    KCGAN thesis, equation (4), with `pool=1`. Features are average-pooled, sampled at random places that the batch
    shares, scaled to length 1, and compared by `patch_nce_loss`; the negatives are the same image's other places.

    Args:
        num_patches: Places (all where there are fewer), drawn with torch's RNG without repetition; 0: all places,
            whose similarities take places^2 numbers per image.
        pool: Side of the average pooling; 2 for GGCL (256x256 to 128x128), 1 for KCGAN.
        temperature: Divisor of the similarities, > 0.

    Raises:
        ValueError: If an argument is out of range, the shapes differ, or there are fewer than 2 places.

    Differences from the official code:
        The places are drawn by torch, not by numpy, so that one seed governs a training; the length of a zero vector
        has gradient 0 rather than NaN.

    Example:
        >>> key = torch.randn(2, 128, 8, 8)
        >>> loss = GuidedContrastiveLoss(num_patches=0, pool=1)
        >>> bool(loss(key, key) < 0.1 < loss(key.flip(-1), key))
        True
    """

    def __init__(self, num_patches: int = 64, *, pool: int = 2, temperature: float = 0.07) -> None:
        super().__init__()
        _check_contrast(num_patches, pool, temperature)
        self.num_patches = num_patches
        self.pool = pool
        self.temperature = temperature

    def forward(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Compare the query `(B, C, H, W)` with the key of the same shape; return a scalar."""
        return guided_contrastive_loss(
            query, key, num_patches=self.num_patches, pool=self.pool, temperature=self.temperature
        )


class PerceptualGuidanceLoss(nn.Module):
    """KCGAN's perceptual guidance: cosine similarity content loss and contrastive style loss, both at 256x256.

    KCGAN thesis, equation (5): `content_weight * CosineContentLoss + style_weight * GuidedContrastiveLoss`.

    The thesis contradicts itself on the weights. The text below equation (5) says lambda_ccl = 1 and lambda_csl = 5,
    and so does the text on the ablation; the rows of the ablation's table 3, of which the first has the results of
    table 2, say "CSL 1 + CCL 5", and the author's later code, KC-UNIT, weighs the cosine by 5, the contrast by 1. The
    default follows the table; for the text give `content_weight=1, style_weight=5`.

    Args:
        content_weight: lambda_ccl, >= 0.
        style_weight: lambda_csl, >= 0.
        num_patches: Places of the contrastive term; 0: all.
        pool: Side of the average pooling in the contrastive term.
        temperature: Temperature of the contrastive term, > 0.
        content_from: "decoder", or "encoder": the content term compares with the generator's encoder (table 5).

    Raises:
        ValueError: If an argument is out of range, the shapes differ, or the encoder's feature is wanted and missing.

    Example:
        >>> key = torch.randn(1, 8, 8, 8)
        >>> loss = PerceptualGuidanceLoss(style_weight=0.0)
        >>> torch.equal(loss(-key, key), 5.0 * CosineContentLoss()(-key, key))
        True
    """

    def __init__(
        self,
        content_weight: float = 5.0,
        style_weight: float = 1.0,
        *,
        num_patches: int = 64,
        pool: int = 1,
        temperature: float = 0.07,
        content_from: str = "decoder",
    ) -> None:
        super().__init__()
        if content_from not in ("decoder", "encoder"):
            raise ValueError(f"`content_from` must be 'decoder' or 'encoder', got {content_from!r}.")
        for name, weight in (("content_weight", content_weight), ("style_weight", style_weight)):
            if not weight >= 0:
                raise ValueError(f"`{name}` must be >= 0, got {weight}.")
        self.content_weight = content_weight
        self.style_weight = style_weight
        self.needs_encoder = content_from == "encoder"  # asks the method for that feature as well
        self.content = CosineContentLoss()
        self.style = GuidedContrastiveLoss(num_patches, pool=pool, temperature=temperature)

    def forward(self, query: torch.Tensor, key: torch.Tensor, encoded: torch.Tensor | None = None) -> torch.Tensor:
        """Compare the query `(B, C, H, W)` with the key, and the encoder's feature, of the same shape: a scalar."""
        if self.needs_encoder and encoded is None:
            raise ValueError("`encoded`, the generator's encoder feature, must be given with `content_from='encoder'`.")
        content = encoded if self.needs_encoder and encoded is not None else key
        return self.content_weight * self.content(query, content) + self.style_weight * self.style(query, key)


def _check_features(query: torch.Tensor, key: torch.Tensor) -> None:
    if query.dim() != 4 or query.shape != key.shape:
        raise ValueError(
            "`query` and `key` must have the same shape (batch, channels, height, width), got "
            f"{tuple(query.shape)} and {tuple(key.shape)}: build the discriminator with half of the generator's "
            "`channels`, and for the image's size."
        )


def _check_contrast(num_patches: int, pool: int, temperature: float) -> None:
    if num_patches < 0 or num_patches == 1:
        raise ValueError(f"`num_patches` must be >= 2, or 0 for all locations, got {num_patches}.")
    if pool < 1:
        raise ValueError(f"`pool` must be >= 1, got {pool}.")
    if not temperature > 0:
        raise ValueError(f"`temperature` must be > 0, got {temperature}.")


def _pooled(feature: torch.Tensor, pool: int) -> torch.Tensor:
    """Pool and flatten `(B, C, H, W)` to `(B, C, places)`."""
    return (F.avg_pool2d(feature, pool) if pool > 1 else feature).flatten(2)


def _unit_length(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / (torch.linalg.vector_norm(vectors, dim=-1, keepdim=True) + _EPSILON)
