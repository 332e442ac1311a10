"""Perceptual loss: two images are alike if a trained network's features of them are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..devices import without_autocast
from .precision import full_precision

WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4)  # w_i, section 4.1


def perceptual_distance(
    features: Sequence[torch.Tensor], reference: Sequence[torch.Tensor], weights: Sequence[float] = WEIGHTS
) -> torch.Tensor:
    """Sum the weighted mean absolute differences over features; equation (4), see `PerceptualLoss`.

    Args:
        features: Features of one image, each `(B, C_i, H_i, W_i)`.
        reference: Features of the other image, of the same shapes.
        weights: Weights w_i, one per feature.

    Returns:
        The distance, a scalar.

    Raises:
        ValueError: If the numbers of features and weights differ.

    Example:
        >>> ones, zeros = torch.ones(2, 4, 8, 8), torch.zeros(2, 4, 8, 8)
        >>> perceptual_distance([ones, 2 * ones], [zeros, zeros], [0.5, 0.25])
        tensor(1.)
    """
    if not len(features) == len(reference) == len(weights):
        raise ValueError(
            "`weights` must hold one weight per feature of both images, got "
            f"{len(weights)} weights, {len(features)} and {len(reference)} features."
        )
    terms = [
        weight * (full_precision(feature) - full_precision(other)).abs().mean()
        for weight, feature, other in zip(weights, features, reference)
    ]
    return torch.stack(terms).sum()


class PerceptualLoss(nn.Module):
    """Distance between the features of two images in a network that was trained to distinguish their domains.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, equation (4); after Johnson et al., ECCV
    2016. The network is frozen, and stays in `eval()` when `train()` is called on the loss, so that its batch norms
    keep the statistics of their training. Gradient flows to the images. The loss is computed in float32 at least.

    Args:
        network: Network with a method `features(image) -> list of (B, C_i, H_i, W_i)`, e.g. `VGG16BN`; frozen in place.
        weights: Weights w_i, one per feature.

    Raises:
        ValueError: If the network offers no features, or a weight is negative.

    Example:
        >>> from common.networks import VGG16BN
        >>> loss = PerceptualLoss(VGG16BN(width=2)).train()
        >>> image = torch.rand(1, 3, 32, 32)
        >>> loss(image, image), loss.network.training
        (tensor(0.), False)
    """

    def __init__(self, network: nn.Module, *, weights: Sequence[float] = WEIGHTS) -> None:
        super().__init__()
        if not callable(getattr(network, "features", None)):
            raise ValueError(
                f"`network` must offer `features(image)`, as `VGG16BN` does, but {type(network).__name__} does not."
            )
        if not weights or not min(weights) >= 0:
            raise ValueError(f"`weights` must hold one weight >= 0 per feature, got {list(weights)}.")
        self.network = network.requires_grad_(False).eval()
        self.weights = tuple(weights)

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Set the loss's mode; the network stays in `eval()`."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, output: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Compare two `(B, C, H, W)` in [-1, 1]; return a scalar >= 0."""
        features: Callable[[torch.Tensor], list[torch.Tensor]] = self.network.features  # type: ignore[assignment]
        with without_autocast(output.device):
            return perceptual_distance(features(full_precision(output)), features(full_precision(truth)), self.weights)
