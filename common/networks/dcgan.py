"""The discriminator of neural contrast enhancement: a DCGAN that tells more than two kinds of image apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from .definition import record_arguments
from .padding import check_image_dims

NEGATIVE_SLOPE = 0.2  # of each LeakyReLU; section 4.1
POOLED_SIZE = 4  # a side of the feature under the head: DCGAN's figure 1


class DCGANDiscriminator(nn.Module):
    """Convolutions, each followed by bilinear down-sampling by 2, and one score a class for the whole image (2-D).

    Radford et al., "Unsupervised representation learning with deep convolutional generative adversarial networks",
    ICLR 2016, with the changes of Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, sections 3.3
    and 4.1: bilinear down-sampling instead of strides, group norm behind all convolutions, LeakyReLU with slope 0.2.
    With the defaults it has 25,249,347 parameters.

    What the paper leaves open, and what was chosen: kernels are 3x3, since without stride DCGAN's even or 5x5 kernels
    have no purpose; group norm has 8 groups. Like DCGAN's, the last feature is flattened under a linear head. It is
    first pooled to 4x4, so that any image size fits; at the paper's 256x256 pixels and six layers it is 4x4 already.
    Down-sampling by exactly 2 is the mean of 2x2 voxels, bilinear or not.

    Args:
        in_channels: channels of the judged image.
        num_classes: scores an image; 1 for a discriminator of real and synthetic.
        channels: features of each layer, at full, 1/2, 1/4 ... of the resolution.
        num_groups: groups of the group norm; must divide each of `channels`.

    Raises:
        ValueError: when an argument is outside of its range, or an image has fewer than 2**len(channels) pixels a side.

    Example:
        >>> discriminator = DCGANDiscriminator(channels=(8, 16))
        >>> discriminator(torch.zeros(2, 3, 30, 21)).shape
        torch.Size([2, 3])
    """

    @record_arguments
    def __init__(
        self,
        in_channels: int = 3,
        *,
        num_classes: int = 3,
        channels: Sequence[int] = (64, 128, 256, 512, 1024, 2048),
        num_groups: int = 8,
    ) -> None:
        super().__init__()
        _check_arguments(in_channels, num_classes, channels, num_groups)
        self.spatial_dims = 2
        self.min_size = 2 ** len(channels)
        self.layers = nn.Sequential(
            *(_layer(inputs, outputs, num_groups) for inputs, outputs in pairwise([in_channels, *channels]))
        )
        self.pool = nn.AdaptiveAvgPool2d(POOLED_SIZE)
        self.head = nn.Linear(channels[-1] * POOLED_SIZE**2, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Judge `(B, C, H, W)` in [-1, 1]; return the logits `(B, num_classes)`, without activation."""
        check_image_dims(image, 2)
        if min(image.shape[2], image.shape[3]) < self.min_size:
            raise ValueError(
                f"`image` must have at least {self.min_size} pixels a side, which {len(self.layers)} layers halve to "
                f"1, got {image.shape[2]} x {image.shape[3]}: use fewer `channels`, or a larger image."
            )
        return self.head(self.pool(self.layers(image)).flatten(1))


def _layer(in_channels: int, out_channels: int, num_groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),  # the norm's shift is a bias
        nn.GroupNorm(num_groups, out_channels),
        nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
        nn.AvgPool2d(2),
    )


def _check_arguments(in_channels: int, num_classes: int, channels: Sequence[int], num_groups: int) -> None:
    sizes = {"in_channels": in_channels, "num_classes": num_classes, "num_groups": num_groups}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"`{name}` must be >= 1, got {value}.")
    if len(channels) < 1 or any(width < 1 or width % num_groups for width in channels):
        raise ValueError(
            f"`channels` must hold the features of at least 1 layer, each a multiple of `num_groups` ({num_groups}), "
            f"got {list(channels)}."
        )
