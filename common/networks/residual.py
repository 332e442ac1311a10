"""Generators that start where a classical method ends: the method as a layer, and a network for what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from ..devices import without_autocast
from .definition import network_class, record_arguments
from .layers import check_image_dims, crop_like, pad_to_multiple

BASES = ("identity", "curve")
LEVELS = 5  # of `BasicUNet`
MULTIPLE = 2 ** (LEVELS - 1)  # pixels of one at the coarsest level


class IntensityCurveLayer(nn.Module):
    """A fixed function of intensity: piecewise linear between evenly spaced points of [-1, 1].

    Args:
        points: Number of points. Their values (`set`) are a buffer, so that they travel with the weights; until then
            the curve is the identity.

    Raises:
        ValueError: If there are fewer than two points.

    Example:
        >>> layer = IntensityCurveLayer(3)
        >>> layer.set([1.0, 0.0, -1.0])
        >>> layer(torch.tensor([-1.0, -0.5, 0.25])).tolist()
        [1.0, 0.5, -0.25]
    """

    def __init__(self, points: int = 257) -> None:
        super().__init__()
        if points < 2:
            raise ValueError(f"`points` must be >= 2, got {points}.")
        self.values: torch.Tensor
        self.register_buffer("values", torch.linspace(-1.0, 1.0, points))

    @torch.no_grad()
    def set(self, values: Sequence[float] | np.ndarray) -> None:
        """Set the curve's values at its points.

        Raises:
            ValueError: If their number differs.
        """
        if len(values) != len(self.values):
            raise ValueError(f"`values` must hold {len(self.values)} numbers, one per point, got {len(values)}.")
        self.values.copy_(torch.as_tensor(np.asarray(values, dtype=np.float32)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Apply the curve to each intensity of an image of any shape."""
        intervals = self.values.shape[0] - 1
        position = (image.float().clamp(-1.0, 1.0) + 1) * (intervals / 2)
        left = position.floor().clamp(max=float(intervals - 1))
        index = left.long()
        low, high = self.values[index], self.values[index + 1]
        return low + (high - low) * (position - left)


class UNetGenerator(nn.Module):
    """MONAI's `BasicUNet` without norm layers, as a generator: bilinear up-sampling, hence no checkerboard.

    Norm layers are omitted because their statistics are those of the whole image: with them the same tissue looks
    different in a larger field of view.

    Args:
        spatial_dims: Number of spatial dimensions, 2 or 3.
        in_channels: Channels of the source image.
        out_channels: Channels of the translated image.
        channels: Features of the five levels, the finest first.

    Raises:
        ValueError: If the dimensions are neither 2 nor 3, or there are not five levels.

    Example:
        >>> UNetGenerator(2, channels=(4, 4, 8, 8, 8))(torch.zeros(1, 1, 33, 48)).shape
        torch.Size([1, 1, 33, 48])
    """

    @record_arguments
    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        *,
        out_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 64, 64),
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}.")
        if len(channels) != LEVELS or min(channels) < 1:
            raise ValueError(f"`channels` must hold five numbers >= 1, one per level, got {list(channels)}.")
        self.spatial_dims, self.multiple = spatial_dims, MULTIPLE
        self.net = BasicUNet(
            spatial_dims,
            in_channels,
            out_channels,
            features=(*channels, channels[0]),
            act=("LeakyReLU", {"negative_slope": 0.1, "inplace": True}),
            norm=None,  # type: ignore[arg-type]
            upsample="nontrainable",
        )
        for layer in self.net.modules():
            if isinstance(layer, nn.Upsample):
                layer.align_corners = False  # else the position of a feature depends on the size of the image
            # Without norms the default initialisation would fade out over the depth.
            if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(layer.weight, a=0.1)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate (B, C, H, W[, D])."""
        check_image_dims(image, self.spatial_dims)
        return crop_like(self.net(pad_to_multiple(image, self.multiple, -1.0)), image)


def start_at_zero(network: nn.Module) -> None:
    """Set the last convolution of a network to zero, so that it adds nothing before it is trained."""
    last = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Conv3d))][-1]
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)


def middle_channel(image: torch.Tensor) -> torch.Tensor:
    """Return the middle one of neighbouring slices: (B, 1, H, W[, D]) of (B, C, H, W[, D])."""
    return image.narrow(1, image.shape[1] // 2, 1)


class ResidualGenerator(nn.Module):
    """A classical method, and a network that adds what the method cannot do: base(x) + network(x).

    The network's last layer starts at zero, so that no training begins below the classical method; what the network
    adds is measured by leaving it out (`residual_weight = 0`). The background stays the background, exactly.

    Args:
        spatial_dims: Number of spatial dimensions, 2 or 3.
        in_channels: Neighbouring slices that the network sees, an odd number; the middle one is translated. 1: that
            slice alone.
        network: Class of `common.networks` that computes the residual.
        arguments: Constructor arguments of that network.
        base: `curve` (an intensity curve, set by `base.set`) or `identity`.
        points: Number of points of the curve.
        background: Encoded values at or below it are background in source and output (which is -1 there); None: the
            whole image is translated.

    Raises:
        ValueError: If `base` is unknown, `in_channels` is even, or `network` is none that `network.json` may name.

    Example:
        >>> generator = ResidualGenerator(2, arguments={"channels": [4, 4, 8, 8, 8]})
        >>> image = torch.full((1, 1, 32, 32), -1.0)
        >>> image[..., 8:24, 8:24] = 0.25
        >>> torch.equal(generator(image), image)
        True
    """

    @record_arguments
    def __init__(
        self,
        spatial_dims: int = 2,
        *,
        in_channels: int = 1,
        network: str = "UNetGenerator",
        arguments: Mapping[str, Any] | None = None,
        base: str = "curve",
        points: int = 257,
        background: float | None = -0.95,
    ) -> None:
        super().__init__()
        if base not in BASES:
            raise ValueError(f"`base` must be one of {list(BASES)}, got {base!r}.")
        if in_channels < 1 or in_channels % 2 == 0:
            raise ValueError(f"`in_channels` must be odd, with the translated slice in the middle, got {in_channels}.")
        self.spatial_dims, self.background = spatial_dims, background
        self.residual_weight = 1.0
        self.base = IntensityCurveLayer(points) if base == "curve" else nn.Identity()
        self.in_channels = in_channels
        more = {"in_channels": in_channels} if in_channels > 1 else {}
        self.residual = network_class(network)(spatial_dims=spatial_dims, **more, **dict(arguments or {}))
        start_at_zero(self.residual)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate (B, C, H, W[, D]) in [-1, 1] to (B, 1, H, W[, D]), or to all channels if `in_channels` is 1."""
        check_image_dims(image, self.spatial_dims)
        middle = middle_channel(image) if self.in_channels > 1 else image  # a stack's slices are all translated
        output = self.classical(middle) + self.residual_weight * self.residual(image).float()
        output = output.clamp(-1.0, 1.0)
        if self.background is not None:
            output = torch.where(middle > self.background, output, torch.full_like(output, -1.0))
        return output

    def classical(self, image: torch.Tensor) -> torch.Tensor:
        """Apply the classical method alone."""
        if torch.jit.is_scripting():
            return self.base(image)
        with without_autocast(image.device):
            return self.base(image.float())
