"""The stages of networks that change the resolution: residual blocks, sub-pixel up-sampling, strided down-sampling.

All convolutions continue the image by its edge values: zeros (mid-grey, to them) would draw a frame, and a mirrored
border would need an image larger than the kernel.
"""

from __future__ import annotations

import torch
from monai.networks.utils import icnr_init
from torch import nn

from .precision import FullPrecisionConv2d

FACTORS = (2, 4, 8)
NORMS = (None, "INSTANCE")
OUTPUTS = ("tanh", "linear", "residual")
STEM_REACH = 3  # pixels on each side, of the 7x7 convolutions at both ends


def convolution(in_channels: int, out_channels: int, kernel_size: int = 3, *, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps the size of `(B, in_channels, H, W)`."""
    padding = kernel_size // 2
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, padding_mode="replicate", bias=bias)


def head(in_channels: int, out_channels: int) -> nn.Conv2d:
    """The last, 7x7 convolution."""
    return FullPrecisionConv2d(in_channels, out_channels, 7, padding=3, padding_mode="replicate")


def activated(layer: nn.Conv2d, norm: str | None) -> nn.Sequential:
    """A convolution with its norm and PReLU."""
    return nn.Sequential(layer, _norm(layer.out_channels, norm), nn.PReLU())


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, added to their input, without activation behind the sum.

    He et al., "Deep residual learning for image recognition", CVPR 2016, without the last activation.

    Args:
        channels: features that come in and go out.
        norm: None or "INSTANCE", behind each convolution.

    Example:
        >>> ResidualBlock(4)(torch.zeros(1, 4, 8, 6)).shape
        torch.Size([1, 4, 8, 6])
    """

    def __init__(self, channels: int, norm: str | None = None) -> None:
        super().__init__()
        second = convolution(channels, channels)
        self.main = nn.Sequential(
            *activated(convolution(channels, channels), norm), second, _norm(second.out_channels, norm)
        )

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Map `(B, channels, H, W)` to the same shape."""
        return feature + self.main(feature)


def residual_blocks(channels: int, count: int, norm: str | None) -> nn.Sequential:
    """`count` residual blocks in a row."""
    return nn.Sequential(*(ResidualBlock(channels, norm) for _ in range(count)))


def upsampling(channels: int, factor: int, norm: str | None) -> nn.Sequential:
    """log2(factor) stages of 3x3 convolution and 2x2 pixel shuffle, each of which halves the features.

    Without norm the convolutions start as nearest-neighbour interpolation and have no bias, hence no checkerboard
    (Aitken et al., "Checkerboard artifact free sub-pixel convolution", arXiv 2017, section 3).

    Maps `(B, channels, H, W)` to `(B, channels / factor, factor H, factor W)`.
    """
    stages = []
    while factor > 1:
        layer = convolution(channels, 2 * channels, bias=False)
        icnr_init(layer, 2)
        stages.append(nn.Sequential(layer, _norm(2 * channels, norm), nn.PixelShuffle(2), nn.PReLU()))
        channels, factor = channels // 2, factor // 2
    return nn.Sequential(*stages)


def downsampling(channels: int, factor: int, norm: str | None) -> nn.Sequential:
    """log2(factor) strided convolutions, each of which doubles the features.

    Their 4x4 kernels are centred on the 2x2 pixels that become one, as average pooling is: nothing shifts.

    Maps `(B, channels / factor, factor H, factor W)` to `(B, channels, H, W)`.
    """
    stages = []
    width = channels // factor
    while width < channels:
        layer = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, padding_mode="replicate")
        stages.append(activated(layer, norm))
        width *= 2
    return nn.Sequential(*stages)


def upsampling_margin(convolutions: int, factor: int) -> int:
    """Low-resolution pixels from a border, within which an up-sampled output depends on what lies beyond it.

    Args:
        convolutions: reach at low resolution, in its pixels, of all that lies before the up-sampling.
        factor: of the up-sampling, behind which a 7x7 convolution follows.

    Example:
        >>> upsampling_margin(3, 8)  # 3 + 1 + 1/2 + 1/4 + 3/8, rounded up
        6
    """
    reach, scale = convolutions, 1
    while scale < factor:
        reach, scale = 2 * (reach + 1), 2 * scale
    return -(-(reach + STEM_REACH) // factor)


def check_scale_arguments(
    *, factor: int, channels: int, norm: str | None, output: str | None = None, **counts: int
) -> None:
    """Refuse what cannot be built.

    Raises:
        ValueError: when an argument is out of its range; `counts` must be >= 0.
    """
    if factor not in FACTORS:
        raise ValueError(f"`factor` must be one of {FACTORS}, got {factor}.")
    if channels < factor or channels % factor:
        raise ValueError(
            f"`channels` must be a multiple of `factor` ({factor}), for they are halved with each doubling of the "
            f"resolution, got {channels}."
        )
    if norm not in NORMS:
        raise ValueError(f"`norm` must be one of {NORMS}, got {norm!r}.")
    if output is not None and output not in OUTPUTS:
        raise ValueError(f"`output` must be one of {OUTPUTS}, got {output!r}.")
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"`{name}` must be >= 0, got {count}.")


def _norm(channels: int, norm: str | None) -> nn.Module:
    return nn.Identity() if norm is None else nn.InstanceNorm2d(channels)
