"""Layers and helpers that several networks share.

- `pad_to_multiple` and `crop_like`: an image of any size for a strided network. The sizes are computed such that they
  survive tracing and export with dynamic sizes: a branch would be frozen, ONNX divides integers towards zero where
  Python rounds down (so nothing negative is divided), and onnxruntime rewrites `8 * (1 // n)` to `8 // n` (so no
  quotient has the numerator 1).
- `RestoreClipped`: noise that a scanner cut off at its lowest CT number, restored on average.
- `FullPrecisionConv2d` and its kin: float32 under autocast for the last layer of a generator, whose rounding would be
  visible in the image. bfloat16 has 8 bits: between 0.5 and 1 its steps are 1/256, 8 HU of a range of 4096. Earlier
  layers are normalised again, or their errors average out; the rounding of the last one is final.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from ..devices import has_autocast, without_autocast

SHARES = 200  # points of the tabulated function
SMALLEST_SHARE, LARGEST_SHARE = 0.005, 0.95


def check_image_dims(image: torch.Tensor, spatial_dims: int) -> None:
    """Raise a ValueError for an image whose axes are not batch, channel and the spatial ones.

    Convolutions accept an image without its batch axis and would take the batch for the channels.

    Args:
        image: Image `(B, C, H, W[, D])`.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: If the image has another number of axes.
    """
    if image.dim() != spatial_dims + 2:
        raise ValueError(
            f"`image` must have {spatial_dims + 2} dimensions (batch, channel, and {spatial_dims} spatial ones), "
            f"got {image.dim()}."
        )


def check_at_least_one(**sizes: int) -> None:
    """Raise a ValueError that names the first of some arguments that is below 1."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"`{name}` must be >= 1, got {value}.")


def pad_to_multiple(image: torch.Tensor, multiple: int, value: float) -> torch.Tensor:
    """Pad each spatial axis symmetrically to a multiple of `multiple`, and to at least twice that number.

    The second rule keeps two voxels along each axis at the bottom of a U-Net: an instance norm of one voxel has no
    variance, and torch refuses it in training.

    Args:
        image: Image `(B, C, H, W[, D])`.
        multiple: Product of the network's strides; even.
        value: Padding value: the background, -1.0 for an image in [-1, 1].

    Returns:
        Image `(B, C, H', W'[, D'])`; an odd voxel goes to the far side.

    Example:
        >>> pad_to_multiple(torch.zeros(1, 1, 240, 24), 16, -1.0).shape
        torch.Size([1, 1, 240, 32])
    """
    padding: list[int] = []
    for axis in range(image.dim() - 1, 1, -1):
        size = image.shape[axis]
        blocks = (size + multiple - 1) // multiple
        blocks = blocks + 2 // (blocks + 1)  # 1 becomes 2
        before = blocks * (multiple // 2) - (size + 1) // 2
        padding.append(before)
        padding.append(blocks * multiple - size - before)
    return F.pad(image, padding, mode="constant", value=value)


def crop_like(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Undo `pad_to_multiple`: keep the central part with the reference's spatial size.

    Args:
        image: Image `(B, C, H', W'[, D'])`.
        reference: Image `(B, any, H, W[, D])` before padding.

    Returns:
        Image `(B, C, H, W[, D])`.
    """
    for axis in range(2, image.dim()):
        size = reference.shape[axis]
        image = image.narrow(axis, image.shape[axis] // 2 - (size + 1) // 2, size)
    return image


class RestoreClipped(nn.Module):
    """Replacement of values at the lower limit by their expected value below it, given their neighbourhood.

    A scanner stores nothing below -1024 HU, where much of a sharp kernel's noise in air belongs. The remainder has a
    mean above -1000 HU, which no linear filter can correct: a softer kernel made from it shows air too bright. Where
    values y are normal with mean m and standard deviation s, and all below a limit c are stored as c, two things can be
    measured in a
    neighbourhood: the share q at the limit and the mean excess e over it. With t = (m - c) / s, the density phi and the
    distribution function Phi of the standard normal,

        q = Phi(-t),    e = s (phi(t) + t Phi(t)),    c - E[y | y < c] = s (phi(t) / Phi(-t) - t),

    so that the average depth below the limit is e r(q) with a fixed function r (moments of a censored normal
    distribution; Greene, "Econometric analysis", chapter 19). Values above the limit are unchanged.

    Args:
        limit: Lowest stored value.
        below: Upper limit of this tissue; neighbours above it do not count.
        size: Pixels along each side of the neighbourhood, odd.

    Raises:
        ValueError: If `size` is not odd, or `below` is not above `limit`.

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
        """Restore (B, C, H, W); the gradient passes only through the values above the limit."""
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
        """Evaluate r at shares of any shape, linearly between the tabulated points."""
        intervals = self.depths.shape[0] - 1
        position = ((share - self.first) * self.scale).clamp(0.0, float(intervals))
        left = position.floor().clamp(max=float(intervals - 1))
        index = left.long()
        return self.depths[index] + (position - left) * (self.depths[index + 1] - self.depths[index])


def depth_by_share(share: torch.Tensor) -> torch.Tensor:
    """Compute r(q): average depth below the limit over mean excess above it, for shares q in (0, 1) at the limit.

    Example:
        >>> depth_by_share(torch.tensor([0.5]))  # half of a distribution around the limit: its two sides are alike
        tensor([2.])
    """
    t = -torch.special.ndtri(share)
    density = torch.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)
    return (density / share - t) / (density + t * (1 - share))


def in_full_precision(layer: Callable[[torch.Tensor], torch.Tensor], feature: torch.Tensor) -> torch.Tensor:
    """Apply a layer in float32 under autocast, and in the precision of its weights elsewhere.

    Example:
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     in_full_precision(nn.Linear(1, 1), torch.zeros(1, 1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    if not has_autocast(feature.device) or not torch.is_autocast_enabled(feature.device.type):
        return layer(feature)
    with without_autocast(feature.device):
        return layer(feature.float())


class FullPrecisionConv2d(nn.Conv2d):
    """Convolution that is computed in float32 under autocast: the last one of a generator.

    Example:
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     FullPrecisionConv2d(1, 1, 3)(torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16)).dtype
        torch.float32
    """

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Convolve a feature `(B, C, H, W)`."""
        if torch.jit.is_scripting():
            return self._conv_forward(feature, self.weight, self.bias)
        else:
            return in_full_precision(super().forward, feature)


class FullPrecisionConv3d(nn.Conv3d):
    """Convolution in 3-D that is computed in float32 under autocast."""

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Convolve a feature `(B, C, H, W, D)`."""
        if torch.jit.is_scripting():
            return self._conv_forward(feature, self.weight, self.bias)
        else:
            return in_full_precision(super().forward, feature)
