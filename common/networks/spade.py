"""Generator of neural contrast enhancement: SPADE residual blocks that see the image at every resolution."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks import SPADE
from torch import nn
from torch.nn import functional as F

from .definition import record_arguments
from .layers import FullPrecisionConv2d, check_at_least_one, check_image_dims, crop_like, pad_to_multiple

NEGATIVE_SLOPE = 0.2  # of each LeakyReLU; section 4.1


class SPADEGenerator(nn.Module):
    """SPADE residual blocks with bilinear up-sampling by 2 that map an image in [-1, 1] to another (2-D).

    Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, sections 3.3 and 4.1; the block is that of
    Park et al., "Semantic image synthesis with spatially-adaptive normalization", CVPR 2019, appendix A. The channels
    of the image are three consecutive slices. The first of the six blocks works at 1/64 of the resolution, the last at
    1/2; the image, area-averaged to a block's resolution, modulates each normalization and is concatenated after each
    up-sampling. With the defaults it has 23,770,228 parameters.

    What the paper leaves open, and what was chosen:

    - The first block's input is a 3x3 convolution of the area-averaged image, as in Park et al.
    - The output is a 3x3 convolution, without activation, of the last up-sampling and the image.
    - The hidden features of a modulation are 128, as in Park et al.; no spectral norm is mentioned, and there is none.
    - Group norm has 8 groups and no weights of its own, since the modulation follows it. The concatenated image keeps
      its values: it goes to the convolutions beside the normalised features.
    - A block's shortcut is a modulated 1x1 convolution where the image was concatenated, else the identity.

    Group norm keeps no running statistics: the same in `train()` and in `eval()`, but its statistics are those of the
    whole image. MONAI's SPADE would normalise the modulation itself, so that a tissue's value would cancel, and resize
    the image by nearest neighbour: the first is removed, the second then has nothing to do.

    Args:
        in_channels: Channels of the source image.
        out_channels: Channels of the translated image.
        channels: Features of each block, coarsest first; n blocks work at 1/2**n ... 1/2 of the resolution.
        num_groups: Groups of the group norm; must divide each of `channels`.
        spade_channels: Hidden features of a modulation.
        residual: Whether the output is the image plus the last convolution, which starts at 0, so that the network
            starts as the identity; not in the paper.
        pad_value: Intensity of the padding to a multiple of 2**n: the background in [-1, 1].

    Raises:
        ValueError: If an argument is outside of its range.

    Example:
        >>> network = SPADEGenerator(channels=(16, 8), spade_channels=8, residual=True)
        >>> image = torch.rand(1, 3, 30, 21)
        >>> bool((network(image) == image).all())
        True
    """

    @record_arguments
    def __init__(
        self,
        in_channels: int = 3,
        *,
        out_channels: int = 3,
        channels: Sequence[int] = (512, 512, 256, 128, 64, 32),
        num_groups: int = 8,
        spade_channels: int = 128,
        residual: bool = False,
        pad_value: float = -1.0,
    ) -> None:
        super().__init__()
        _check_arguments(in_channels, out_channels, channels, num_groups, spade_channels, residual)
        self.spatial_dims = 2
        self.residual = residual
        self.pad_value = float(pad_value)
        self.multiple = 2 ** len(channels)
        self.stem = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        blocks = [_SPADEResidualBlock(channels[0], channels[0], in_channels, num_groups, spade_channels, beside=False)]
        for wide, narrow in pairwise(channels):
            blocks.append(_SPADEResidualBlock(wide, narrow, in_channels, num_groups, spade_channels, beside=True))
        self.blocks = nn.ModuleList(blocks)
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE)
        self.head = FullPrecisionConv2d(channels[-1] + in_channels, out_channels, 3, padding=1)
        if residual:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate `(B, C, H, W)` in [-1, 1] to `(B, out_channels, H, W)`, unbounded."""
        check_image_dims(image, 2)
        averaged = [pad_to_multiple(image, self.multiple, self.pad_value)]
        for _ in range(len(self.blocks)):
            averaged.append(F.avg_pool2d(averaged[-1], 2))
        feature = self.stem(averaged[-1])
        for level, block in enumerate(self.blocks):
            feature = block(feature, averaged[len(averaged) - 1 - level])
            feature = F.interpolate(feature, scale_factor=2.0, mode="bilinear", align_corners=False)
        output = self.head(torch.cat([self.activation(feature), averaged[0]], dim=1))
        output = crop_like(output, image)
        return image + output if self.residual else output


class _Modulation(SPADE):
    """Group norm, then a scale and a shift per voxel and feature, which two convolutions compute from the image.

    Park et al., equations (1) to (3). MONAI puts an instance norm behind the convolutions that give scale and shift; it
    would remove the image's mean, and with it the information in the HU. They are plain here, as in the paper.
    """

    def __init__(self, channels: int, image_channels: int, num_groups: int, hidden_channels: int) -> None:
        group_norm = {"num_groups": num_groups, "affine": False}
        super().__init__(
            image_channels, channels, hidden_channels=hidden_channels, norm="GROUP", norm_params=group_norm
        )
        self.mlp_shared.adn = nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)
        self.mlp_gamma = self.mlp_gamma.conv  # type: ignore[assignment]
        self.mlp_beta = self.mlp_beta.conv  # type: ignore[assignment]


class _SPADEResidualBlock(nn.Module):
    """Twice modulation, LeakyReLU and 3x3 convolution, added to the shortcut; Park et al., appendix A.

    Args:
        in_channels: Number of input features.
        out_channels: Number of output features.
        image_channels: Channels of the image.
        num_groups: Groups of the group norm.
        hidden_channels: Hidden features of the modulations.
        beside: Whether the image is concatenated to the input features.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        image_channels: int,
        num_groups: int,
        hidden_channels: int,
        *,
        beside: bool,
    ) -> None:
        super().__init__()
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE)
        inputs = in_channels + (image_channels if beside else 0)
        self.beside = beside
        self.first_modulation = _Modulation(in_channels, image_channels, num_groups, hidden_channels)
        self.first = nn.Conv2d(inputs, out_channels, 3, padding=1)
        self.second_modulation = _Modulation(out_channels, image_channels, num_groups, hidden_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if beside:
            self.shortcut_modulation: nn.Module = _Modulation(in_channels, image_channels, num_groups, hidden_channels)
            self.shortcut: nn.Module = nn.Conv2d(inputs, out_channels, 1, bias=False)
        else:
            self.shortcut_modulation = _Unmodulated()
            self.shortcut = nn.Identity()

    def forward(self, feature: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Map `(B, in_channels, h, w)`, with the image `(B, image_channels, h, w)`, to `(B, out_channels, h, w)`."""
        shortcut = self.shortcut(self._with_image(self.shortcut_modulation(feature, image), image))
        activated = self.activation(self.first_modulation(feature, image))
        hidden = self.first(self._with_image(activated, image))
        return shortcut + self.second(self.activation(self.second_modulation(hidden, image)))

    def _with_image(self, feature: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([feature, image], dim=1) if self.beside else feature


class _Unmodulated(nn.Module):
    """Identity in place of a modulation: TorchScript compiles both kinds of shortcut from the same lines."""

    def forward(self, feature: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return feature


def _check_arguments(
    in_channels: int, out_channels: int, channels: Sequence[int], num_groups: int, spade_channels: int, residual: bool
) -> None:
    check_at_least_one(
        in_channels=in_channels, out_channels=out_channels, num_groups=num_groups, spade_channels=spade_channels
    )
    if len(channels) < 1 or any(width < 1 or width % num_groups for width in channels):
        raise ValueError(
            f"`channels` must hold the features of at least 1 block, each a multiple of `num_groups` ({num_groups}), "
            f"got {list(channels)}."
        )
    if residual and in_channels != out_channels:
        raise ValueError(
            "`residual` adds the image to the output and needs the same number of channels in both, got "
            f"`in_channels` = {in_channels} and `out_channels` = {out_channels}."
        )
