"""Noise that a scanner cut off at its lowest CT number, put back on average."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from .padding import check_image_dims

SHARES = 200  # points of the tabulated function
SMALLEST_SHARE, LARGEST_SHARE = 0.005, 0.95


class RestoreClipped(nn.Module):
    """
    Replaces values at the lower limit by what lies below it on average, given their neighbourhood.

    A scanner stores nothing below -1024 HU, where much of a sharp kernel's noise in air belongs. What is left has a
    mean above -1000 HU, which no linear filter can mend: a softer kernel made from it shows air too bright. Where
    values y are normal with mean m and standard deviation s, and all below a limit c are stored as c, two things can be
    measured in a neighbourhood: the share q at the limit and the mean excess e over it. With t = (m - c) / s, the
    density phi and the distribution function Phi of the standard normal,

        q = Phi(-t),    e = s (phi(t) + t Phi(t)),    c - E[y | y < c] = s (phi(t) / Phi(-t) - t),

    so that the average depth below the limit is e r(q) with a fixed function r (moments of a censored normal
    distribution; Greene, "Econometric analysis", chapter 19). Values above the limit stay as they are.

    Args:
        limit: the lowest stored value.
        below: neighbours above it are other tissue and do not count.
        size: pixels along each side of the neighbourhood, odd.

    Raises:
        ValueError: when `size` is not odd, or `below` does not lie above `limit`.

    Example:
        >>> noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> stored = noise.clamp(min=-0.5)
        >>> restored = RestoreClipped(-0.5, below=9.0)(stored)
        >>> bool((restored.mean() - noise.mean()).abs() < 0.1 * (stored.mean() - noise.mean()).abs())
        True
    """

    def __init__(self, limit: float = -1.0, *, below: float = -0.89, size: int = 15) -> None:
        super().__init__()
        if size < 3 or size % 2 == 0:
            raise ValueError(f"`size` must be odd and >= 3, got {size}.")
        if not below > limit:
            raise ValueError(f"`below` must be above `limit` ({limit:g}), got {below:g}.")
        self.limit, self.below, self.size = limit, below, size
        shares = torch.linspace(SMALLEST_SHARE, LARGEST_SHARE, SHARES, dtype=torch.float64)
        self.depths: torch.Tensor  # annotated here, as TorchScript takes the annotations of a class body for strings
        self.first, self.scale = SMALLEST_SHARE, (SHARES - 1) / (LARGEST_SHARE - SMALLEST_SHARE)
        self.register_buffer("depths", depth_by_share(shares).float(), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Restore (B, C, H, W); the gradient passes through the values above the limit only."""
        check_image_dims(image, 2)
        clipped = (image <= self.limit).to(image)
        similar = (image < self.below).to(image)
        number = self._mean(similar).clamp_min(1e-6)
        share = self._mean(clipped) / number
        excess = self._mean(similar * (image - self.limit).clamp_min(0.0)) / number
        return image - (clipped * excess * self._depth(share)).detach()

    def _mean(self, image: torch.Tensor) -> torch.Tensor:
        rows = F.avg_pool2d(image, (self.size, 1), stride=1, padding=(self.size // 2, 0))
        return F.avg_pool2d(rows, (1, self.size), stride=1, padding=(0, self.size // 2))

    def _depth(self, share: torch.Tensor) -> torch.Tensor:
        """r at shares of any shape, linear between the tabulated points."""
        intervals = self.depths.shape[0] - 1
        position = ((share - self.first) * self.scale).clamp(0.0, float(intervals))
        left = position.floor().clamp(max=float(intervals - 1))
        index = left.long()
        return self.depths[index] + (position - left) * (self.depths[index + 1] - self.depths[index])


def depth_by_share(share: torch.Tensor) -> torch.Tensor:
    """r(q): average depth below the limit over the mean excess above it, for shares q in (0, 1) at the limit.

    Example:
        >>> depth_by_share(torch.tensor([0.5]))  # half of a distribution around the limit: its two sides are alike
        tensor([2.])
    """
    t = -torch.special.ndtri(share)
    density = torch.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
    return (density / share - t) / (density + t * (1 - share))
