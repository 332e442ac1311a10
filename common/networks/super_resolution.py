"""The two generators of SR-CycleGAN: from clinical to micro CT and back, between images of different size."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .definition import record_arguments
from .padding import check_image_dims
from .scale_blocks import (
    STEM_REACH,
    activated,
    check_scale_arguments,
    convolution,
    downsampling,
    head,
    residual_blocks,
    upsampling,
    upsampling_margin,
)


class SuperResolutionGenerator(nn.Module):
    """G1, from a clinical slice in [-1, 1] to one of `factor` times its height and width (2-D).

    Zheng et al., "Multi-modality super-resolution loss for GAN-based super-resolution of clinical CT images using micro
    CT image database", SPIE Medical Imaging 2020, section 2 and figure 1 ("Resnet-based SR network"): residual blocks
    at low resolution, then pixel shuffles. Pixels are areas, not points: the corners of the output's field coincide
    with those of the input's.

    The paper gives no sizes. The defaults are those of the authors' later code: a 7x7 convolution, nine residual blocks
    of 64 features and one more convolution at low resolution, three up-samplings to 32, 16 and 8 features, a 7x7
    convolution; here 802,007 parameters.

    Without norm each output pixel depends on `margin` pixels of the input around it and on nothing else. An image cut
    into tiles that overlap by `margin` on each side, which are cut away again, gives what the whole image gives.

    Args:
        in_channels: channels of the clinical image.
        out_channels: channels of the micro image.
        factor: 2, 4 or 8.
        channels: features at low resolution, a multiple of `factor`; halved with each doubling of the resolution.
        num_res_blocks: residual blocks (two convolutions each) at low resolution.
        norm: None, or "INSTANCE" behind each convolution but the last, whose statistics are those of the whole image:
            then tiles differ by more than any margin removes.
        output: "tanh", in (-1, 1); "linear", unbounded; "residual" (not in the paper), the bilinearly interpolated
            image plus the last convolution, which starts at 0, so that the network starts as the interpolation.

    Attributes:
        margin: low-resolution pixels on each side of a tile that depend on what lies beyond it; without norm only.

    Raises:
        ValueError: when an argument is outside of its range.

    Differences from the official code:
        Instance norm is off; it is `norm="INSTANCE"`. Borders are continued by their value instead of mirrored or,
        in the up-sampling, by zeros.

    Example:
        >>> network = SuperResolutionGenerator(factor=4, channels=8, num_res_blocks=1)
        >>> network(torch.zeros(2, 1, 9, 12)).shape, network.margin
        (torch.Size([2, 1, 36, 48]), 9)
    """

    @record_arguments
    def __init__(
        self,
        in_channels: int = 1,
        *,
        out_channels: int = 1,
        factor: int = 8,
        channels: int = 64,
        num_res_blocks: int = 9,
        norm: str | None = None,
        output: str = "tanh",
    ) -> None:
        super().__init__()
        _check_image_channels(in_channels, out_channels, output)
        check_scale_arguments(factor=factor, channels=channels, norm=norm, output=output, num_res_blocks=num_res_blocks)
        self.spatial_dims = 2
        self.factor = factor
        self.output = output
        self.margin = upsampling_margin(STEM_REACH + 2 * num_res_blocks + 1, factor)
        self.stem = activated(convolution(in_channels, channels, 7), norm)
        self.blocks = residual_blocks(channels, num_res_blocks, norm)
        self.bottom = activated(convolution(channels, channels), norm)
        self.ups = upsampling(channels, factor, norm)
        self.head = _head(channels // factor, out_channels, output)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map `(B, in_channels, H, W)` in [-1, 1] to `(B, out_channels, factor H, factor W)`."""
        check_image_dims(image, 2)
        change = self.head(self.ups(self.bottom(self.blocks(self.stem(image)))))
        if self.output == "residual":
            scale = float(self.factor)
            return F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False) + change
        return torch.tanh(change) if self.output == "tanh" else change


class DownSamplingGenerator(nn.Module):
    """G2, from a micro slice in [-1, 1] to one of 1 / `factor` of its height and width (2-D).

    Zheng et al., SPIE Medical Imaging 2020, section 2 and figure 1: a "network of which the length and width of output
    image size is 1/8 of input". The paper says no more of it. It is G1's mirror image: a 7x7 convolution, strided
    convolutions that double the features, residual blocks at low resolution, a 7x7 convolution; with the defaults
    711,374 parameters.

    Args:
        in_channels: channels of the micro image.
        out_channels: channels of the clinical image.
        factor: 2, 4 or 8.
        channels: features at low resolution, a multiple of `factor`.
        num_res_blocks: residual blocks at low resolution.
        norm: None, or "INSTANCE" behind each convolution but the last.
        output: "tanh"; "linear"; "residual" (not in the paper), the average-pooled image plus the last convolution,
            which starts at 0.

    Raises:
        ValueError: when an argument is outside of its range.

    Differences from the official code:
        That code halves the resolution twice before its residual blocks of 256 features, doubles it twice, and then
        goes down to 1/8 with up to 512 features, 13 million parameters in all.

    Example:
        >>> network = DownSamplingGenerator(factor=4, channels=8, num_res_blocks=1)
        >>> network(torch.zeros(2, 1, 36, 48)).shape
        torch.Size([2, 1, 9, 12])
    """

    @record_arguments
    def __init__(
        self,
        in_channels: int = 1,
        *,
        out_channels: int = 1,
        factor: int = 8,
        channels: int = 64,
        num_res_blocks: int = 9,
        norm: str | None = None,
        output: str = "tanh",
    ) -> None:
        super().__init__()
        _check_image_channels(in_channels, out_channels, output)
        check_scale_arguments(factor=factor, channels=channels, norm=norm, output=output, num_res_blocks=num_res_blocks)
        self.spatial_dims = 2
        self.factor = factor
        self.output = output
        self.stem = activated(convolution(in_channels, channels // factor, 7), norm)
        self.downs = downsampling(channels, factor, norm)
        self.blocks = residual_blocks(channels, num_res_blocks, norm)
        self.head = _head(channels, out_channels, output)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map `(B, in_channels, H, W)` in [-1, 1] to `(B, out_channels, H // factor, W // factor)`."""
        check_image_dims(image, 2)
        change = self.head(self.blocks(self.downs(self.stem(image))))
        if self.output == "residual":
            return F.avg_pool2d(image, self.factor) + change
        return torch.tanh(change) if self.output == "tanh" else change


def _head(in_channels: int, out_channels: int, output: str) -> nn.Conv2d:
    """The last convolution."""
    layer = head(in_channels, out_channels)
    if output == "residual":
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # it has one
    return layer


def _check_image_channels(in_channels: int, out_channels: int, output: str) -> None:
    for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
        if value < 1:
            raise ValueError(f"`{name}` must be >= 1, got {value}.")
    if output == "residual" and in_channels != out_channels:
        raise ValueError(
            "`output` = 'residual' adds the image to the output and needs as many channels of both, got `in_channels` "
            f"= {in_channels} and `out_channels` = {out_channels}."
        )
