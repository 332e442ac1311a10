"""Reconstruction losses: L1 and perceptual (neural contrast enhancement), and L1 of values and edges of foreground."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .perceptual import PerceptualLoss
from .precision import full_precision


class ReconstructionLoss(nn.Module):
    """Sum of `l1_weight` times the mean absolute difference and the perceptual loss.

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, equations (3) to (5). The L1 norm of
    equation (3) is taken as the mean over voxels, so that it does not depend on the image size, like equation (4).

    Args:
        l1_weight: Weight lambda of equation (5), 10.
        perceptual: Perceptual loss of equation (4); None omits it.

    Raises:
        ValueError: If `l1_weight` is negative.

    Example:
        >>> loss = ReconstructionLoss(10.0)
        >>> loss(torch.full((1, 3, 8, 8), 0.5), torch.zeros(1, 3, 8, 8))
        tensor(5.)
    """

    def __init__(self, l1_weight: float = 10.0, perceptual: PerceptualLoss | None = None) -> None:
        super().__init__()
        if not l1_weight >= 0:
            raise ValueError(f"`l1_weight` must be >= 0, got {l1_weight}.")
        self.l1_weight = l1_weight
        self.perceptual = perceptual

    def forward(self, output: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Compare two `(B, C, H, W)` in [-1, 1]; return a scalar."""
        return self.terms(output, truth)["reconstruction"]

    def terms(self, output: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss as `reconstruction`, and its terms without weights as `l1` and `perceptual`."""
        l1 = F.l1_loss(full_precision(output), full_precision(truth))  # equation (3)
        total = self.l1_weight * l1
        if self.perceptual is None:
            return {"reconstruction": total, "l1": l1}
        perceptual = self.perceptual(output, truth)  # equation (4)
        return {"reconstruction": total + perceptual, "l1": l1, "perceptual": perceptual}  # equation (5)


class ForegroundLoss(nn.Module):
    """Mean absolute difference of the values over the truth's foreground, and of their steps from voxel to voxel.

    The mean is taken over the foreground, so that the loss does not depend on the amount of air in the field of view.

    Args:
        gradient_weight: Weight of the steps' difference.
        squared_weight: Weight of the mean squared difference of the values. Where a source leaves two values open, the
            absolute difference asks for the likelier one, the squared difference for their mean.
        background: Values at or below it are background in the truth.

    Raises:
        ValueError: If a weight is negative.

    Example:
        >>> truth = torch.full((1, 1, 8, 8), -1.0)
        >>> truth[..., 2:6, 2:6] = 0.5
        >>> loss = ForegroundLoss(0.0)
        >>> loss(torch.where(truth > -1, truth - 0.25, truth), truth)
        tensor(0.2500)
    """

    def __init__(self, gradient_weight: float = 1.0, *, squared_weight: float = 0.0, background: float = -1.0) -> None:
        super().__init__()
        for name, weight in (("gradient_weight", gradient_weight), ("squared_weight", squared_weight)):
            if not weight >= 0:
                raise ValueError(f"`{name}` must be >= 0, got {weight}.")
        self.gradient_weight, self.squared_weight, self.background = gradient_weight, squared_weight, background

    def forward(self, output: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Compare two `(B, C, H, W[, D])` in [-1, 1]; return a scalar."""
        return self.terms(output, truth)["reconstruction"]

    def terms(self, output: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss as `reconstruction`, its terms without weights: `l1`, `gradient` and, if used, `squared`."""
        difference = full_precision(output) - full_precision(truth)
        voxels = (truth > self.background).sum().clamp_min(1)
        l1 = difference.abs().sum() / voxels
        steps = [difference.diff(dim=axis).abs().sum() for axis in range(2, difference.dim())]
        gradient = torch.stack(steps).sum() / voxels
        terms = {"reconstruction": l1 + self.gradient_weight * gradient, "l1": l1, "gradient": gradient}
        if self.squared_weight:
            terms["squared"] = difference.square().sum() / voxels
            terms["reconstruction"] = terms["reconstruction"] + self.squared_weight * terms["squared"]
        return terms
