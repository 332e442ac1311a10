"""The stages of residual translation networks: stem, down-sampling, residual block, up-sampling and head."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .precision import FullPrecisionConv2d


class ResidualBlock(nn.Module):
    """Two reflection-padded 3x3 convolutions with instance norm, added to their input; no activation behind the sum.

    Johnson, Alahi, Fei-Fei, "Perceptual losses for real-time style transfer and super-resolution", ECCV 2016, as
    CycleGAN (Zhu et al., ICCV 2017, appendix 7.2) and UNIT use it.

    Args:
        width: features that come in and go out.

    Example:
        >>> ResidualBlock(4)(torch.zeros(1, 4, 8, 6)).shape
        torch.Size([1, 4, 8, 6])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            _reflecting(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            _reflecting(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Map `(B, width, H, W)` to the same shape."""
        return feature + self.main(feature)


class BlurPool(nn.Module):
    """Half the resolution behind a binomial low-pass filter (1, 2, 1) / 4 along each axis.

    Zhang, "Making convolutional networks shift-invariant again", ICML 2019. The border is mirrored.

    Example:
        >>> BlurPool()(torch.ones(1, 2, 6, 8)).shape
        torch.Size([1, 2, 3, 4])
    """

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([0.25, 0.5, 0.25])
        self.kernel: torch.Tensor
        self.register_buffer("kernel", (taps[:, None] * taps)[None, None], persistent=False)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Map `(B, C, H, W)` to `(B, C, H / 2, W / 2)`, rounded up."""
        channels = feature.shape[1]
        padded = F.pad(feature, [1, 1, 1, 1], mode="reflect")
        return F.conv2d(padded, self.kernel.to(feature.dtype).expand(channels, -1, -1, -1), stride=2, groups=channels)


def stem(in_channels: int, width: int) -> nn.Sequential:
    """A reflection-padded 7x7 convolution, its instance norm and ReLU."""
    return nn.Sequential(_reflecting(in_channels, width, 7), nn.InstanceNorm2d(width), nn.ReLU())


def down_convolution(width: int, *, antialias: bool) -> nn.Conv2d:
    """The convolution of a down-sampling to twice the features; with `antialias` it keeps the resolution."""
    return nn.Conv2d(width, 2 * width, 3, stride=1 if antialias else 2, padding=1)


def behind_down(width: int, *, antialias: bool) -> nn.Sequential:
    """What follows `down_convolution`: instance norm, ReLU, and with `antialias` the halving of the resolution."""
    return nn.Sequential(nn.InstanceNorm2d(2 * width), nn.ReLU(), *([BlurPool()] if antialias else []))


def upsampling(width: int, *, antialias: bool) -> nn.Sequential:
    """Twice the resolution and half the features: a strided transposed convolution, or bilinear and a convolution."""
    half = width // 2
    layers: list[nn.Module]
    if antialias:
        layers = [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(width, half, 3, padding=1)]
    else:
        layers = [nn.ConvTranspose2d(width, half, 3, stride=2, padding=1, output_padding=1)]
    return nn.Sequential(*layers, nn.InstanceNorm2d(half), nn.ReLU())


def head(width: int, out_channels: int) -> nn.Conv2d:
    """The last, reflection-padded 7x7 convolution."""
    return FullPrecisionConv2d(width, out_channels, 7, padding=3, padding_mode="reflect")


def start_normal(network: nn.Module) -> None:
    """Draw all convolutions from a normal distribution of SD 0.02 and set their biases to zero, as CycleGAN does."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _reflecting(inputs: int, outputs: int, kernel_size: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, padding_mode="reflect")
