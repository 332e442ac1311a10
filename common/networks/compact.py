"""Generator of the demo: small enough to train on a CPU in minutes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks import Convolution, ResidualUnit, SubpixelUpsample
from monai.networks.layers.factories import Conv
from monai.networks.utils import icnr_init
from torch import nn

from .definition import record_arguments
from .layers import FullPrecisionConv2d, FullPrecisionConv3d, check_image_dims, crop_like, pad_to_multiple


class CompactGenerator(nn.Module):
    """Residual encoder-decoder of about 0.2 million parameters (2-D) that maps an image in [-1, 1] to another.

    One thin level at full resolution, one strided convolution for each entry of `channels`, residual units at the
    bottom, and as many sub-pixel up-samplings, to each of which the encoder's feature of equal size is added. No
    activation at the output. Group norm keeps no running statistics: the same in `train()` and in `eval()`.

    The full-resolution level is about half of the cost; without it (a sub-pixel head on half the resolution) edges
    remain soft. The up-sampling convolutions start as nearest-neighbour interpolation and have no bias, hence no
    checkerboard (Aitken et al., "Checkerboard artifact free sub-pixel convolution", arXiv 2017, section 3).

    Args:
        spatial_dims: Number of spatial dimensions, 2 or 3.
        in_channels: Channels of the source image.
        out_channels: Channels of the translated image.
        channels: Features of the levels at 1/2, 1/4, 1/8 ... of the resolution; the first is also that of the
            full-resolution level.
        num_res_units: Number of residual units (two convolutions each) at the bottom, >= 0.
        num_groups: Groups of the group norm; must divide each of `channels`. 0 omits the norm: its statistics are
            those of the whole image, so that with it the same tissue looks different in a larger field of view.
        pad_value: Intensity of the padding: the background in [-1, 1].
        margin: Voxels of background that are added around the image and removed again, so that the zeros with which
            convolutions pad (mid-grey in these images) do not draw a frame; the reach of the convolutions is enough.

    Raises:
        ValueError: If an argument is outside of its range.

    Example:
        >>> network = CompactGenerator(2, 1)
        >>> network(torch.zeros(2, 1, 30, 21)).shape
        torch.Size([2, 1, 30, 21])
        >>> network.encode_channels
        [16, 16, 32, 64]
    """

    @record_arguments
    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        *,
        out_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64),
        num_res_units: int = 2,
        num_groups: int = 8,
        pad_value: float = -1.0,
        margin: int = 0,
    ) -> None:
        super().__init__()
        if margin < 0:
            raise ValueError(f"`margin` must be >= 0, got {margin}.")
        widths = [*channels[:1], *channels]
        _check_arguments(spatial_dims, widths, num_res_units, num_groups)
        self.spatial_dims = spatial_dims
        self.encode_channels = widths
        self.pad_value = float(pad_value)
        self.margin = [margin] * (2 * spatial_dims)
        self.multiple = 2 ** (len(widths) - 1)

        def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
            return Convolution(spatial_dims, inputs, outputs, strides=stride, kernel_size=3, act=act, norm=norm)

        act = ("RELU", {"inplace": True})
        norm = ("GROUP", {"num_groups": num_groups}) if num_groups else None
        pairs = list(pairwise(widths))
        self.stem = convolution(in_channels, widths[0])
        self.downs = nn.ModuleList([convolution(fine, coarse, 2) for fine, coarse in pairs])
        self.bottom = nn.Sequential(
            *(
                ResidualUnit(spatial_dims, widths[-1], widths[-1], subunits=2, act=act, norm=norm)
                for _ in range(num_res_units)
            )
        )
        self.ups = nn.ModuleList([_subpixel_upsample(spatial_dims, coarse, fine) for fine, coarse in reversed(pairs)])
        self.merges = nn.ModuleList([convolution(fine, fine) for fine, _ in reversed(pairs)])
        last = FullPrecisionConv2d if spatial_dims == 2 else FullPrecisionConv3d
        self.head = last(widths[0], out_channels, kernel_size=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate `(B, C, H, W[, D])` in [-1, 1] to `(B, out_channels, H, W[, D])`, unbounded."""
        features = self.encode(image)
        feature = self.bottom(features[-1])
        for level, (up, merge) in enumerate(zip(self.ups, self.merges)):
            feature = merge(up(feature) + features[-2 - level])
        return crop_like(self.head(feature), image)

    def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of each encoder level, full resolution first, the bottom's input last.

        Args:
            image: Image `(B, C, H, W[, D])` in [-1, 1].

        Returns:
            For each level `(B, encode_channels[level], H', W'[, D'])` of the padded image, not cropped.
        """
        check_image_dims(image, self.spatial_dims)
        framed = nn.functional.pad(image, self.margin, mode="constant", value=self.pad_value)
        feature = self.stem(pad_to_multiple(framed, self.multiple, self.pad_value))
        features = [feature]
        for down in self.downs:
            feature = down(feature)
            features.append(feature)
        return features


def _check_arguments(spatial_dims: int, widths: list[int], num_res_units: int, num_groups: int) -> None:
    if spatial_dims not in (2, 3):
        raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}.")
    if not widths:
        raise ValueError("`channels` must hold at least 1 level, got none.")
    if num_groups < 0:
        raise ValueError(f"`num_groups` must be >= 0, got {num_groups}.")
    if min(widths) < 1 or (num_groups and any(width % num_groups for width in widths)):
        raise ValueError(f"each of `channels` must be a multiple of `num_groups` ({num_groups}), got {widths[1:]}.")
    if num_res_units < 0:
        raise ValueError(f"`num_res_units` must be >= 0, got {num_res_units}.")


def _subpixel_upsample(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
    """Build an up-sampling by 2 whose initial weights are nearest-neighbour interpolation."""
    convolution = Conv[Conv.CONV, spatial_dims](in_channels, out_channels * 2**spatial_dims, kernel_size=1, bias=False)
    icnr_init(convolution, 2)
    return SubpixelUpsample(
        spatial_dims, in_channels, out_channels, scale_factor=2, conv_block=convolution, apply_pad_pool=False
    )
