"""The last step of a generator: an image in [-1, 1], or a change that is added to its source."""

from __future__ import annotations

import torch
from torch import nn


def translated(raw: torch.Tensor, image: torch.Tensor, residual_scale: float) -> torch.Tensor:
    """
    The translated image, from what the last convolution gives.

    Args:
        raw: `(B, C, H, W)`, unbounded.
        image: `(B, C, H, W)` in [-1, 1], the source.
        residual_scale: 0: the image is tanh(raw), as in the papers. Otherwise (not in the papers) that times tanh(raw)
            is added to the source, and what leaves [-1, 1] is clipped.

    Example:
        >>> image = torch.full((1, 1, 2, 2), 0.5)
        >>> translated(torch.zeros(1, 1, 2, 2), image, 0.0).max(), translated(torch.zeros(1, 1, 2, 2), image, 0.1).max()
        (tensor(0.), tensor(0.5000))
    """
    if residual_scale == 0.0:
        return torch.tanh(raw)
    return (image + residual_scale * torch.tanh(raw)).clamp(-1.0, 1.0)


def start_as_identity(head: nn.Module, residual_scale: float) -> float:
    """
    Check the scale, and with a residual let the last convolution of `head` give zeros: the source is not changed yet.

    Raises:
        ValueError: when `residual_scale` is negative or above 2, the largest change there is.
    """
    if not 0 <= residual_scale <= 2:
        raise ValueError(f"`residual_scale` must lie in [0, 2], got {residual_scale}; 0 is the papers' output.")
    if residual_scale:
        last = [module for module in head.modules() if isinstance(module, nn.modules.conv._ConvNd)][-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    return float(residual_scale)
