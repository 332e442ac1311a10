"""Feature network of contrastive unpaired translation: from encoder features to embeddings of patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .definition import record_arguments


class PatchFeatureMLP(nn.Module):
    """Two-layer perceptrons, one per level, that embed sampled locations of each encoder feature.

    Park, Efros, Zhang, Zhu, "Contrastive learning for unpaired image-to-image translation", ECCV 2020, section 3
    (the network H of "Multilayer, patchwise contrastive learning") and appendix C.1.

    The locations are shared over the batch. To compare an image with its translation, embed one first and hand the
    returned locations to the second call.

    Args:
        in_channels: Channels of each feature: the generator's `encode_channels`, or a part of them.
        out_channels: Size of an embedding.
        num_patches: Number of locations per feature (all where a feature has fewer); 0 for all locations.

    Raises:
        ValueError: If an argument is outside of its range, or the number of features or locations does not fit.

    Differences from the official code:
        The perceptrons are built by the constructor rather than by the first batch, so that an optimizer and a
        checkpoint see them; the norm of a zero vector has gradient 0 rather than NaN.

    Example:
        >>> mlp = PatchFeatureMLP([8, 16], out_channels=32, num_patches=5)
        >>> features = [torch.randn(2, 8, 16, 16), torch.randn(2, 16, 8, 8)]
        >>> embeddings, locations = mlp(features)
        >>> [tuple(embedding.shape) for embedding in embeddings]
        [(2, 5, 32), (2, 5, 32)]
        >>> again, _ = mlp(features, locations)
        >>> torch.equal(again[0], embeddings[0])
        True
    """

    @record_arguments
    def __init__(self, in_channels: Sequence[int], *, out_channels: int = 256, num_patches: int = 256) -> None:
        super().__init__()
        if not in_channels or min(in_channels) < 1:
            raise ValueError(f"`in_channels` must hold >= 1 channels for each feature, got {list(in_channels)}.")
        if out_channels < 1:
            raise ValueError(f"`out_channels` must be >= 1, got {out_channels}.")
        if num_patches < 0:
            raise ValueError(f"`num_patches` must be >= 1, or 0 for all locations, got {num_patches}.")
        self.num_patches = num_patches
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, out_channels), nn.ReLU(), nn.Linear(out_channels, out_channels))
            for width in in_channels
        )
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0.0, 0.02)
            else:
                nn.init.zeros_(parameter)

    def forward(
        self, features: list[torch.Tensor], locations: list[torch.Tensor] | None = None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Embed patches of each feature.

        Args:
            features: Feature `(B, in_channels[level], H, W[, D])` of each level.
            locations: Flat indices `(P,)` into `H * W[* D]` for each level; by default drawn with torch's RNG, without
                repetition.

        Returns:
            For each level the embeddings `(B, P, out_channels)`, of length 1, in at least float32; and the locations.
        """
        if len(features) != len(self.mlps):
            raise ValueError(f"`features` must hold {len(self.mlps)} tensors, as `in_channels`, got {len(features)}.")
        if locations is None:
            locations = [self._draw(feature) for feature in features]
        if len(locations) != len(features):
            raise ValueError(f"`locations` must hold one tensor a feature ({len(features)}), got {len(locations)}.")
        embeddings: list[torch.Tensor] = []
        for level, mlp in enumerate(self.mlps):
            patches = features[level].flatten(2).index_select(2, locations[level]).transpose(1, 2)
            embeddings.append(_unit_length(mlp(patches)))
        return embeddings, locations

    def _draw(self, feature: torch.Tensor) -> torch.Tensor:
        count = feature.flatten(2).shape[2]
        if self.num_patches == 0:
            return torch.arange(count, device=feature.device)
        return torch.randperm(count, device=feature.device)[: self.num_patches]


def _unit_length(vectors: torch.Tensor) -> torch.Tensor:
    if vectors.dtype != torch.float64:
        vectors = vectors.float()
    return vectors / (torch.linalg.vector_norm(vectors, dim=-1, keepdim=True) + 1e-7)  # as in the official code
