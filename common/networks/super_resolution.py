"""Generators of SR-CycleGAN between images of different size: from clinical to micro CT, and back.

Their stages are residual blocks, sub-pixel up-sampling and strided down-sampling. All convolutions continue the image
by its edge values: zeros (mid-grey in these images) would draw a frame, and a mirrored border would need an image
larger than the kernel. `ReleasedSRGenerator` and `ReleasedDownSamplingGenerator` do both, since the authors' released
code does.
"""

from __future__ import annotations

import torch
from monai.networks.utils import icnr_init, normal_init
from torch import nn
from torch.nn import functional as F

from .definition import record_arguments
from .layers import FullPrecisionConv2d, check_at_least_one, check_image_dims

FACTORS = (2, 4, 8)
NORMS = (None, "INSTANCE")
OUTPUTS = ("tanh", "linear", "residual")
STEM_REACH = 3  # reach in pixels on each side of the 7x7 convolutions at both ends


def convolution(in_channels: int, out_channels: int, kernel_size: int = 3, *, bias: bool = True) -> nn.Conv2d:
    """Build a convolution that keeps the size of `(B, in_channels, H, W)`."""
    padding = kernel_size // 2
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, padding_mode="replicate", bias=bias)


def head(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Build the last, 7x7 convolution."""
    return FullPrecisionConv2d(in_channels, out_channels, 7, padding=3, padding_mode="replicate")


def activated(layer: nn.Conv2d, norm: str | None) -> nn.Sequential:
    """Append norm and PReLU to a convolution."""
    return nn.Sequential(layer, _norm(layer.out_channels, norm), nn.PReLU())


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, added to their input, without activation after the sum.

    He et al., "Deep residual learning for image recognition", CVPR 2016, without the last activation.

    Args:
        channels: Number of input and output features.
        norm: Normalisation after each convolution: None or "INSTANCE".

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
    """Build `count` residual blocks in a row."""
    return nn.Sequential(*(ResidualBlock(channels, norm) for _ in range(count)))


def upsampling(channels: int, factor: int, norm: str | None) -> nn.Sequential:
    """Build log2(factor) stages of 3x3 convolution and 2x2 pixel shuffle, each of which halves the features.

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
    """Build log2(factor) strided convolutions, each of which doubles the features.

    Their 4x4 kernels are centred on the 2x2 pixels that become one, like average pooling: nothing shifts.

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
    """Compute how many low-resolution pixels from a border an up-sampled output depends on what lies beyond it.

    Args:
        convolutions: Reach of all layers before the up-sampling, in low-resolution pixels.
        factor: Factor of the up-sampling, which a 7x7 convolution follows.

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
    """Check arguments that the networks of this kind share.

    Raises:
        ValueError: If an argument is out of range; `counts` must be >= 0.
    """
    if factor not in FACTORS:
        raise ValueError(f"`factor` must be one of {FACTORS}, got {factor}.")
    if channels < factor or channels % factor:
        raise ValueError(
            f"`channels` must be a multiple of `factor` ({factor}), since they are halved with each doubling of the "
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
        in_channels: Channels of the clinical image.
        out_channels: Channels of the micro image.
        factor: 2, 4 or 8.
        channels: Features at low resolution, a multiple of `factor`; halved with each doubling of the resolution.
        num_res_blocks: Residual blocks (two convolutions each) at low resolution.
        norm: None, or "INSTANCE" behind each convolution but the last, whose statistics are those of the whole image:
            then tiles differ by more than any margin removes.
        output: "tanh", in (-1, 1); "linear", unbounded; "residual" (not in the paper), the bilinearly interpolated
            image plus the last convolution, which starts at 0, so that the network starts as the interpolation.

    Attributes:
        margin: Low-resolution pixels on each side of a tile that depend on what lies beyond it; without norm only.

    Raises:
        ValueError: If an argument is outside of its range.

    Differences from the official code:
        Instance norm is off; it is `norm="INSTANCE"`. Borders are continued by their value instead of mirrored or,
        in the up-sampling, by zeros. Residual blocks have PReLU, and the up-sampling has no bias.
        `ReleasedSRGenerator` is that code's.

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
        in_channels: Channels of the micro image.
        out_channels: Channels of the clinical image.
        factor: 2, 4 or 8.
        channels: Features at low resolution, a multiple of `factor`.
        num_res_blocks: Residual blocks at low resolution.
        norm: None, or "INSTANCE" behind each convolution but the last.
        output: "tanh"; "linear"; "residual" (not in the paper), the average-pooled image plus the last convolution,
            which starts at 0.

    Raises:
        ValueError: If an argument is outside of its range.

    Differences from the official code:
        That code halves the resolution twice before its residual blocks of 256 features, doubles it twice, and then
        goes down to 1/8 with up to 512 features, 12.94 million parameters in all: `ReleasedDownSamplingGenerator`.

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


class ReleasedSRGenerator(SuperResolutionGenerator):
    """G1 as in the authors' released code (zhuofeng/SR-cycleGAN), for `configs/official.yaml`.

    Borders are mirrored, in the up-sampling continued by zeros; residual blocks have ReLU; each convolution has a bias,
    and the weights start with mean 0 and SD 0.02. With the defaults 802,222 parameters. An image needs at least 4
    pixels per side, and tiles differ from the whole image (`norm`).

    Args:
        in_channels: Channels of the clinical image.
        out_channels: Channels of the micro image.
        factor: 2, 4 or 8.
        channels: Features at low resolution, a multiple of `factor`.
        num_res_blocks: Residual blocks at low resolution.
        norm: "INSTANCE", or None.
        output: "tanh", "linear" or "residual"; see `SuperResolutionGenerator`.

    Raises:
        ValueError: If an argument is outside of its range.

    Example:
        >>> ReleasedSRGenerator(factor=4, channels=8, num_res_blocks=1)(torch.zeros(1, 1, 9, 12)).shape
        torch.Size([1, 1, 36, 48])
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
        norm: str | None = "INSTANCE",
        output: str = "tanh",
    ) -> None:
        super().__init__(
            in_channels,
            out_channels=out_channels,
            factor=factor,
            channels=channels,
            num_res_blocks=num_res_blocks,
            norm=norm,
            output=output,
        )
        self.stem = _mirrored(in_channels, channels, 7, norm, nn.PReLU())
        self.blocks = nn.Sequential(*(_MirroredBlock(channels, norm) for _ in range(num_res_blocks)))
        self.bottom = _mirrored(channels, channels, 3, norm, nn.PReLU())
        widths = [channels >> stage for stage in range(factor.bit_length() - 1)]
        self.ups = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(width, 2 * width, 3, padding=1), _norm(2 * width, norm), nn.PixelShuffle(2), nn.PReLU()
                )
                for width in widths
            )
        )
        self.head = _released_head(channels // factor, out_channels)
        self.apply(normal_init)
        _start_residual(self.head, output)


class ReleasedDownSamplingGenerator(DownSamplingGenerator):
    """G2 as in the authors' released code (zhuofeng/SR-cycleGAN), for `configs/official.yaml`.

    CycleGAN's generator (a 7x7 convolution, down to 1/4, residual blocks of four times the features, up again), behind
    which strided 3x3 convolutions go down by `factor` and double the features each time. With the defaults 12,936,769
    parameters. Borders are mirrored, in strided convolutions continued by zeros.

    Args:
        in_channels: Channels of the micro image.
        out_channels: Channels of the clinical image.
        factor: 2, 4 or 8.
        channels: Features at full resolution, a multiple of `factor`.
        num_res_blocks: Residual blocks at a quarter of the resolution.
        norm: "INSTANCE", or None.
        output: "tanh", "linear" or "residual"; see `DownSamplingGenerator`.

    Raises:
        ValueError: If an argument is outside of its range.

    Example:
        >>> ReleasedDownSamplingGenerator(factor=4, channels=8, num_res_blocks=1)(torch.zeros(2, 1, 32, 48)).shape
        torch.Size([2, 1, 8, 12])
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
        norm: str | None = "INSTANCE",
        output: str = "tanh",
    ) -> None:
        super().__init__(
            in_channels,
            out_channels=out_channels,
            factor=factor,
            channels=channels,
            num_res_blocks=num_res_blocks,
            norm=norm,
            output=output,
        )

        def strided(width: int) -> list[nn.Module]:
            layer = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
            return [layer, _norm(2 * width, norm), nn.ReLU()]

        def transposed(width: int) -> list[nn.Module]:
            layer = nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1)
            return [layer, _norm(width // 2, norm), nn.ReLU()]

        self.stem = _mirrored(in_channels, channels, 7, norm, nn.ReLU())
        self.downs = nn.Sequential(*strided(channels), *strided(2 * channels))
        self.blocks = nn.Sequential(
            *(_MirroredBlock(4 * channels, norm) for _ in range(num_res_blocks)),
            *transposed(4 * channels),
            *transposed(2 * channels),
            *(layer for stage in range(factor.bit_length() - 1) for layer in strided(channels << stage)),
        )
        self.head = _released_head(channels * factor, out_channels)
        self.apply(normal_init)
        _start_residual(self.head, output)


class _MirroredBlock(nn.Module):
    """Two 3x3 convolutions with mirrored borders and ReLU between them, added to their input."""

    def __init__(self, channels: int, norm: str | None) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *_mirrored(channels, channels, 3, norm, nn.ReLU()), *_mirrored(channels, channels, 3, norm, None)
        )

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        return feature + self.main(feature)


def _mirrored(
    in_channels: int, out_channels: int, kernel_size: int, norm: str | None, activation: nn.Module | None
) -> nn.Sequential:
    """Build a convolution with mirrored borders, its norm and its activation."""
    padding = kernel_size // 2
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, padding_mode="reflect")
    return nn.Sequential(layer, _norm(out_channels, norm), *([] if activation is None else [activation]))


def _released_head(in_channels: int, out_channels: int) -> nn.Conv2d:
    return FullPrecisionConv2d(in_channels, out_channels, 7, padding=3, padding_mode="reflect")


def _head(in_channels: int, out_channels: int, output: str) -> nn.Conv2d:
    """Build the last convolution."""
    layer = head(in_channels, out_channels)
    _start_residual(layer, output)
    return layer


def _start_residual(layer: nn.Conv2d, output: str) -> None:
    """Let a residual network start as its interpolation."""
    if output == "residual":
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # it has one


def _check_image_channels(in_channels: int, out_channels: int, output: str) -> None:
    check_at_least_one(in_channels=in_channels, out_channels=out_channels)
    if output == "residual" and in_channels != out_channels:
        raise ValueError(
            "`output` = 'residual' adds the image to the output and needs the same number of channels in both, got "
            f"`in_channels` = {in_channels} and `out_channels` = {out_channels}."
        )
