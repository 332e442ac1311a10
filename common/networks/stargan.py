"""Generator of the CT kernel-conversion family: one network that translates into any of several domains."""

from __future__ import annotations

import torch
from torch import nn

from .definition import record_arguments
from .layers import FullPrecisionConv2d, check_at_least_one, check_image_dims, crop_like, pad_to_multiple

UPSAMPLINGS = ("pixelshuffle", "transposed")


class StarGANGenerator(nn.Module):
    """Residual encoder-decoder that maps an image in [-1, 1] and a target domain to the translated image in [-1, 1].

    Choi et al., "StarGAN: unified generative adversarial networks for multi-domain image-to-image translation", CVPR
    2018, table 4 of the appendix. With `upsample="pixelshuffle"` it is the generator of GGCL (Choi et al., MICCAI 2023,
    section 3.1, "Architecture Improvements") and of KCGAN: 3x3 convolution and 2x2 pixel shuffle instead of 4x4
    transposed convolution, whose overlap draws a checkerboard.

    With the defaults it has 9,230,912 parameters, with "transposed" 8,411,712. At 512x512 one image costs 351.8 GFLOP,
    counted by `torch.utils.flop_counter` (two operations per multiply-add, only convolutions).

    Instance norm is affine and keeps no running statistics: the same in `train()` and in `eval()`, but a tissue's
    value depends on what else is in the field of view. Images whose sides are not multiples of 4 are padded with
    air (-1) and cropped back; 512x512 and 352x472 need none.

    Args:
        num_domains: Length of the target vector. For two vendors, whose label is the kernels of both and a mask of
            the vendor, the number of kernels plus 2.
        in_channels: Channels of the source image.
        out_channels: Channels of the translated image.
        channels: Features at full resolution; twice and four times that at 1/2 and 1/4.
        num_res_blocks: Number of residual blocks (two convolutions each) at 1/4 of the resolution.
        upsample: Kind of up-sampling: "pixelshuffle" or "transposed".

    Raises:
        ValueError: If an argument is outside of its range, or the target does not fit the image or `num_domains`.

    Differences from the official code:
        The released code keeps running statistics but never calls `eval()`, so that it tests with each image's own;
        here there are none. It takes multiples of 4 only.

    Example:
        >>> network = StarGANGenerator(3, channels=4, num_res_blocks=1)
        >>> to_third = torch.tensor([[0.0, 0.0, 1.0]])
        >>> network(torch.zeros(1, 1, 30, 21), to_third).shape
        torch.Size([1, 1, 30, 21])
        >>> output, feature = network.features(torch.zeros(1, 1, 32, 24), to_third)
        >>> feature.shape
        torch.Size([1, 8, 16, 12])
    """

    @record_arguments
    def __init__(
        self,
        num_domains: int = 3,
        *,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: int = 64,
        num_res_blocks: int = 6,
        upsample: str = "pixelshuffle",
    ) -> None:
        super().__init__()
        check_at_least_one(
            num_domains=num_domains, in_channels=in_channels, out_channels=out_channels, channels=channels
        )
        if num_res_blocks < 0:
            raise ValueError(f"`num_res_blocks` must be >= 0, got {num_res_blocks}.")
        if upsample not in UPSAMPLINGS:
            raise ValueError(f"`upsample` must be one of {UPSAMPLINGS}, got {upsample!r}.")
        self.num_domains = num_domains
        self.spatial_dims = 2
        self.feature_channels = 2 * channels
        self.multiple = 4
        self.pad_value = -1.0  # air
        # Zero padding on purpose. A label is a constant channel, and a convolution over a constant that is continued by
        # itself (reflection, replication) adds a constant, which the instance norm behind it removes again: the
        # label would have no effect. Only the zeros beyond the border make its contribution vary over the image.
        self.stem = _block(nn.Conv2d(in_channels + num_domains, channels, 7, padding=3, bias=False))
        self.downs = nn.ModuleList(
            _block(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False))
            for width in (channels, 2 * channels)
        )
        self.blocks = nn.ModuleList(_ResidualBlock(4 * channels) for _ in range(num_res_blocks))
        self.ups = nn.ModuleList(_upsampling(width, upsample) for width in (4 * channels, 2 * channels))
        self.head = FullPrecisionConv2d(channels, out_channels, 7, padding=3, bias=False)

    def forward(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Translate `(B, C, H, W)` in [-1, 1] to `(B, out_channels, H, W)` in (-1, 1).

        Args:
            image: Image `(B, C, H, W)` in [-1, 1].
            target: Target `(B, num_domains)`, one-hot, or weights of a blend of domains.
        """
        return self.features(image, target)[0]

    def features(self, image: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Translate, and also return the feature that guides the discriminator.

        Returns:
            The output `(B, out_channels, H, W)`, and the activation after the first up-sampling
            `(B, feature_channels, H'/2, W'/2)`, of the padded image, not cropped.
        """
        output, decoded, _ = self.both_features(image, target)
        return output, decoded

    def both_features(
        self, image: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Translate, and also return the decoder's feature and the encoder's after the first down-sampling."""
        check_image_dims(image, 2)
        rows = target.shape[0] if target.dim() == 2 else 0
        if (rows != 1 and rows != image.shape[0]) or target.shape[-1] != self.num_domains:
            raise ValueError(
                f"`target` must have the shape (batch, num_domains), here ({image.shape[0]}, {self.num_domains}), got "
                f"{list(target.shape)}: give one row of domain weights for each image, or one for all, of the length "
                "that the network was built with."
            )
        padded = pad_to_multiple(image, self.multiple, self.pad_value)
        batch, height, width = padded.shape[0], padded.shape[2], padded.shape[3]
        labels = target.to(padded.dtype)[:, :, None, None].expand(batch, -1, height, width)
        feature = self.stem(torch.cat([padded, labels], dim=1))
        encoded = self.downs[0](feature)
        feature = self.downs[1](encoded)
        for block in self.blocks:
            feature = block(feature)
        decoded = self.ups[0](feature)
        output = torch.tanh(self.head(self.ups[1](decoded)))
        return crop_like(output, image), decoded, encoded


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm, added to their input; no activation after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *_block(nn.Conv2d(width, width, 3, padding=1, bias=False)),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.InstanceNorm2d(width, affine=True),
        )

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        return feature + self.main(feature)


def _block(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """Build a convolution with instance norm and ReLU."""
    return nn.Sequential(convolution, nn.InstanceNorm2d(convolution.out_channels, affine=True), nn.ReLU(inplace=True))


def _upsampling(width: int, upsample: str) -> nn.Sequential:
    """Build an up-sampling by 2 to half the features, with instance norm and ReLU."""
    half = width // 2
    if upsample == "transposed":
        return _block(nn.ConvTranspose2d(width, half, 4, stride=2, padding=1, bias=False))
    return nn.Sequential(
        nn.Conv2d(width, 4 * half, 3, padding=1, bias=False),
        nn.PixelShuffle(2),
        nn.InstanceNorm2d(half, affine=True),
        nn.ReLU(inplace=True),
    )
