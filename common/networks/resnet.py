"""Residual generator of CycleGAN and CUT, for one direction between two domains, and its stages."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .definition import record_arguments
from .layers import FullPrecisionConv2d, check_at_least_one, check_image_dims, crop_like, pad_to_multiple

ENCODED_BLOCKS = (1, 5)  # the residual blocks whose output CUT compares


class ResidualBlock(nn.Module):
    """Two reflection-padded 3x3 convolutions with instance norm, added to their input; no activation after the sum.

    Johnson, Alahi, Fei-Fei, "Perceptual losses for real-time style transfer and super-resolution", ECCV 2016, as
    CycleGAN (Zhu et al., ICCV 2017, appendix 7.2) and UNIT use it.

    Args:
        width: Number of input and output features.

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
    """Halving of the resolution after a binomial low-pass filter (1, 2, 1) / 4 along each axis.

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
    """Build a reflection-padded 7x7 convolution with instance norm and ReLU."""
    return nn.Sequential(_reflecting(in_channels, width, 7), nn.InstanceNorm2d(width), nn.ReLU())


def down_convolution(width: int, *, antialias: bool) -> nn.Conv2d:
    """Build the convolution of a down-sampling to twice the features; with `antialias` it keeps the resolution."""
    return nn.Conv2d(width, 2 * width, 3, stride=1 if antialias else 2, padding=1)


def behind_down(width: int, *, antialias: bool) -> nn.Sequential:
    """Build what follows `down_convolution`: instance norm, ReLU, and with `antialias` the halving of resolution."""
    return nn.Sequential(nn.InstanceNorm2d(2 * width), nn.ReLU(), *([BlurPool()] if antialias else []))


def upsampling(width: int, *, antialias: bool) -> nn.Sequential:
    """Build an up-sampling by 2 to half the features: a transposed convolution, or bilinear and a convolution."""
    half = width // 2
    layers: list[nn.Module]
    if antialias:
        layers = [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(width, half, 3, padding=1)]
    else:
        layers = [nn.ConvTranspose2d(width, half, 3, stride=2, padding=1, output_padding=1)]
    return nn.Sequential(*layers, nn.InstanceNorm2d(half), nn.ReLU())


def head(width: int, out_channels: int) -> nn.Conv2d:
    """Build the last, reflection-padded 7x7 convolution."""
    return FullPrecisionConv2d(width, out_channels, 7, padding=3, padding_mode="reflect")


def start_normal(network: nn.Module) -> None:
    """Initialise all convolutions from a normal distribution of SD 0.02 with zero biases, as CycleGAN does."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _reflecting(inputs: int, outputs: int, kernel_size: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, padding_mode="reflect")


class ResNetGenerator(nn.Module):
    """Residual encoder-decoder that maps an image in [-1, 1] to its translation in (-1, 1) (2-D).

    Zhu et al., "Unpaired image-to-image translation using cycle-consistent adversarial networks", ICCV 2017, appendix
    7.2: c7s1-64, d128, d256, nine R256, u128, u64, c7s1-1. With one channel 11,365,633 parameters; at 512x512 one image
    costs 389.8 GFLOP, with `antialias` 506.0, counted by `torch.utils.flop_counter`. Its encoder, for the contrastive
    methods: Park et al., "Contrastive learning for unpaired image-to-image translation", ECCV 2020, appendix C.1.

    Instance norm keeps no running statistics: the same in `train()` and in `eval()`. Images whose sides are not
    multiples of 4 are padded with air (-1) and cropped back.

    Args:
        in_channels: Channels of the source image.
        out_channels: Channels of the translated image.
        channels: Features at full resolution; twice and four times that at 1/2 and 1/4.
        num_res_blocks: Residual blocks (two convolutions each) at 1/4 of the resolution.
        antialias: Low-pass filters before down- and after up-sampling, as in the released code of CUT and DCLGAN,
            instead of CycleGAN's strided convolutions. As many weights, a third more cost.

    Attributes:
        encode_channels: Channels of what `encode` returns.

    Raises:
        ValueError: If an argument is outside of its range.

    Example:
        >>> network = ResNetGenerator(channels=4, num_res_blocks=6)
        >>> network(torch.zeros(2, 1, 30, 21)).shape
        torch.Size([2, 1, 30, 21])
        >>> network.encode_channels
        [1, 8, 16, 16, 16]
    """

    @record_arguments
    def __init__(
        self,
        in_channels: int = 1,
        *,
        out_channels: int = 1,
        channels: int = 64,
        num_res_blocks: int = 9,
        antialias: bool = False,
    ) -> None:
        super().__init__()
        check_at_least_one(
            in_channels=in_channels, out_channels=out_channels, channels=channels, num_res_blocks=num_res_blocks
        )
        self.spatial_dims = 2
        self.multiple = 4
        self.pad_value = -1.0  # air
        self.encoded_blocks = sorted({min(block, num_res_blocks) for block in ENCODED_BLOCKS})
        self.encode_channels = [in_channels, 2 * channels, *(4 * channels for _ in [0, *self.encoded_blocks])]
        widths = [channels, 2 * channels]
        self.stem = stem(in_channels, channels)
        self.downs = nn.ModuleList(down_convolution(width, antialias=antialias) for width in widths)
        self.behind_downs = nn.ModuleList(behind_down(width, antialias=antialias) for width in widths)
        self.blocks = nn.ModuleList(ResidualBlock(4 * channels) for _ in range(num_res_blocks))
        self.ups = nn.ModuleList(upsampling(2 * width, antialias=antialias) for width in reversed(widths))
        self.head = head(channels, out_channels)
        start_normal(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate `(B, C, H, W)` in [-1, 1] to `(B, out_channels, H, W)` in (-1, 1)."""
        check_image_dims(image, 2)
        feature = self.stem(pad_to_multiple(image, self.multiple, self.pad_value))
        for down, behind in zip(self.downs, self.behind_downs):
            feature = behind(down(feature))
        for block in self.blocks:
            feature = block(feature)
        for up in self.ups:
            feature = up(feature)
        return crop_like(torch.tanh(self.head(feature)), image)

    def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return what CUT compares: the image, both down-sampling convolutions, the first and the fifth block.

        Args:
            image: `(B, C, H, W)` in [-1, 1].

        Returns:
            For each level `(B, encode_channels[level], H', W')` of the padded image, not cropped; the last block
            instead of the fifth where there are fewer.
        """
        check_image_dims(image, 2)
        padded = pad_to_multiple(image, self.multiple, self.pad_value)
        features, feature = [padded], self.stem(padded)
        for down, behind in zip(self.downs, self.behind_downs):
            features.append(down(feature))
            feature = behind(features[-1])
        for number, block in enumerate(self.blocks[: self.encoded_blocks[-1]], start=1):
            feature = block(feature)
            if number in self.encoded_blocks:
                features.append(feature)
        return features
