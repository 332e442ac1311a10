"""Super-resolution that starts at bicubic interpolation, is consistent with its source, and keeps texture apart."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..devices import without_autocast
from .definition import record_arguments
from .layers import FullPrecisionConv2d, check_image_dims
from .super_resolution import (
    STEM_REACH,
    activated,
    check_scale_arguments,
    convolution,
    residual_blocks,
    upsampling,
    upsampling_margin,
)

BICUBIC_REACH = 2  # input pixels on each side of a bicubic value
SEED = 20  # of the projections that make noise of the source's values
PHASE = 170.0  # radians of a difference of 1 in the source: 2 of 10 HU among 1600
TEXTURE_FADE = 0.25  # encoded difference over which texture fades out below its limit


class BicubicResidualGenerator(nn.Module):
    """Bicubic interpolation, plus structure, plus texture, made consistent with the source (2-D).

    - *Structure* is what the source determines: an estimate of the truth's mean, trained by regression. It starts at
      zero, so that no training begins below bicubic interpolation.
    - *Texture* is plausible and not measured: noise with the local variance and the spectrum of what the structure
      leaves out. `texture_weight` of it is added where the structure is darker than `texture_limit`: none frays the
      edge of a vessel. It has no part at the source's resolution. Its noise is a fixed function of the source's
      values around each pixel, so that a source has one output, in tiles and on any device.
    - *Consistency*: averaged over a pixel of the source, the output differs from it by `tolerance` at most. What goes
      beyond is taken away, first by bicubic interpolation of the excess (Irani and Peleg, "Improving resolution by
      image registration", CVGIP 1991), and what is left of it pixel by pixel.

    Either part is taken away by its weight: `residual_weight = 0`, `texture_weight = 0`. The convolutions are those of
    `SuperResolutionGenerator`, at the source's resolution, and end in sub-pixel stages without checkerboard.

    Args:
        factor: 2, 4 or 8.
        channels: Features at low resolution, a multiple of `factor`; halved with each doubling of the resolution.
        num_res_blocks: Residual blocks (two convolutions each) at low resolution.
        texture_weight: How much of the texture is added; 1 would give the truth's power, and twice the error.
        texture_limit: Encoded value from which on there is no texture; -0.125 are -500 HU of -1200 to 400 HU.
        texture_size: Pixels along each side of the filter that gives the texture its spectrum, odd.
        tolerance: Largest difference from the source, in its encoded unit; 15 HU of -1200 to 400 HU are 0.01875.
        corrections: Corrections by interpolation before the one by pixels.

    Attributes:
        margin: Low-resolution pixels on each side of a tile that depend on what lies beyond it.
        residual_weight: Weight of the structure, 1.

    Raises:
        ValueError: If an argument is outside of its range.

    Example:
        >>> network = BicubicResidualGenerator(factor=4, channels=8, num_res_blocks=1)
        >>> network(torch.zeros(2, 1, 9, 12)).shape, network.margin
        (torch.Size([2, 1, 36, 48]), 19)
    """

    @record_arguments
    def __init__(
        self,
        *,
        factor: int = 8,
        channels: int = 48,
        num_res_blocks: int = 6,
        texture_weight: float = 0.3,
        texture_limit: float = -0.125,
        texture_size: int = 9,
        tolerance: float = 0.0175,
        corrections: int = 2,
    ) -> None:
        super().__init__()
        check_scale_arguments(
            factor=factor, channels=channels, norm=None, num_res_blocks=num_res_blocks, corrections=corrections
        )
        for name, value in {"texture_weight": texture_weight, "tolerance": tolerance}.items():
            if not value >= 0:
                raise ValueError(f"`{name}` must be >= 0, got {value}.")
        if texture_size < 1 or texture_size % 2 == 0:
            raise ValueError(f"`texture_size` must be odd and >= 1, got {texture_size}.")
        self.spatial_dims, self.factor = 2, factor
        self.texture_weight, self.texture_limit = texture_weight, texture_limit
        self.tolerance, self.corrections = tolerance, corrections
        self.residual_weight, self.fade = 1.0, TEXTURE_FADE
        self.shuffle, self.shuffle_noise = nn.PixelShuffle(2), nn.PixelShuffle(factor)
        convolutions = STEM_REACH + 2 * num_res_blocks + 1
        texture_reach = BICUBIC_REACH + -(-texture_size // (2 * factor))
        self.margin = upsampling_margin(convolutions, factor) + texture_reach + (1 + corrections) * BICUBIC_REACH
        self.stem = activated(convolution(1, channels, 7), None)
        self.blocks = residual_blocks(channels, num_res_blocks, None)
        self.bottom = activated(convolution(channels, channels), None)
        self.ups = upsampling(channels, factor // 2, None)
        self.head = FullPrecisionConv2d(2 * channels // factor, 4, 3, padding=1, padding_mode="replicate", bias=False)
        nn.init.zeros_(self.head.weight)
        self.amplitude = FullPrecisionConv2d(channels, 1, 3, padding=1, padding_mode="replicate")
        self.texture_filter = FullPrecisionConv2d(
            1, 1, texture_size, padding=texture_size // 2, padding_mode="replicate", bias=False
        )
        generator = torch.Generator().manual_seed(SEED)
        self.projections: torch.Tensor
        self.phases: torch.Tensor
        self.register_buffer("projections", PHASE * torch.randn(factor**2, 1, 3, 3, generator=generator))
        self.register_buffer("phases", 2 * torch.pi * torch.rand(factor**2, generator=generator))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map `(B, 1, H, W)` in [-1, 1] to `(B, 1, factor H, factor W)`."""
        structure, texture = self.parts(image)
        return self.consistent(structure + self.texture_weight * texture, image)

    def parts(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return structure, with the bicubic interpolation, and texture; no gradient passes from texture to structure.

        Both are `(B, 1, factor H, factor W)`.
        """
        check_image_dims(image, 2)
        feature = self.bottom(self.blocks(self.stem(image)))
        change = self.shuffle(self.head(self.ups(feature))).float()
        structure = self.interpolate(image.float()) + self.residual_weight * change
        amplitude = self.interpolate(F.softplus(self.amplitude(feature.detach()).float()))
        texture = amplitude * self.texture_filter(self.noise(image))
        texture = (texture - self.interpolate(F.avg_pool2d(texture, self.factor))) * self.texture_share(structure)
        return structure, texture

    def noise(self, image: torch.Tensor) -> torch.Tensor:
        """Make white noise of unit variance `(B, 1, factor H, factor W)`: waves of random projections of the source."""
        image = F.pad(image.float(), (1, 1, 1, 1), mode="replicate")
        if torch.jit.is_scripting():
            phase = F.conv2d(image, self.projections, self.phases)
        else:
            with without_autocast(image.device):
                phase = F.conv2d(image, self.projections, self.phases)
        return self.shuffle_noise(2**0.5 * torch.sin(phase))

    def texture_share(self, structure: torch.Tensor) -> torch.Tensor:
        """Return how much of the texture there is beside structures: 1 in dark lung, 0 from `texture_limit` on."""
        return ((self.texture_limit - structure.detach()) / self.fade).clamp(0.0, 1.0)

    def interpolate(self, image: torch.Tensor) -> torch.Tensor:
        """Interpolate bicubically."""
        if torch.jit.is_scripting():
            return F.interpolate(image, scale_factor=float(self.factor), mode="bicubic", align_corners=False)
        with without_autocast(image.device):
            return F.interpolate(image, scale_factor=float(self.factor), mode="bicubic", align_corners=False)

    def consistent(self, output: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Take from an output what is not consistent with its source, and limit it to [-1, 1]."""
        image = image.float()
        for _ in range(self.corrections):
            output = output - self.interpolate(self._excess(output, image))
        output = (output - self._repeat(self._excess(output, image))).clamp(-1.0, 1.0)
        # The limits may have shifted a mean again: there the source itself is mixed in, which lies within them.
        difference = (F.avg_pool2d(output, self.factor) - image).abs()
        kept = self._repeat((self.tolerance / difference.clamp_min(1e-6)).clamp(max=1.0))
        return kept * output + (1 - kept) * self._repeat(image)

    def _excess(self, output: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Return by how much the output, averaged over the source's pixels, exceeds the tolerance."""
        difference = F.avg_pool2d(output, self.factor) - image
        return difference - difference.clamp(-self.tolerance, self.tolerance)

    def _repeat(self, image: torch.Tensor) -> torch.Tensor:
        return F.interpolate(image, scale_factor=float(self.factor), mode="nearest")
