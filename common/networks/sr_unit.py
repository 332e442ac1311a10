"""Generators of SR-UNIT: encoders and decoders of two domains of different resolution with one latent space."""

from __future__ import annotations

import torch
from torch import nn

from .definition import record_arguments
from .layers import check_image_dims
from .super_resolution import (
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


class SRUNITGenerator(nn.Module):
    """SR-UNIT from a clinical slice to a micro slice of `factor` times its size: the part that is deployed (2-D).

    Zheng et al., SPIE Medical Imaging 2020, section 2.4 and figure 1; after Liu, Breuel, Kautz, "Unsupervised
    image-to-image translation networks", NeurIPS 2017. The latent space lies at the clinical resolution; its code is
    the encoders' output and the mean of UNIT's posterior, whose variance is 1. The last residual blocks of both
    encoders and the first of both decoders are shared and belong to this module; what only the way back needs is
    `SRUNITBackGenerator`.

    `forward` adds no noise and is the same in `train()` and `eval()`. The method adds the noise of training.

    The paper gives no sizes. Here: a 7x7 convolution and three private blocks, one shared block before and one behind
    the code, three private blocks and the up-sampling of `SuperResolutionGenerator`, all of 64 features: with the
    defaults 691,221 parameters. Without norm, tiles that overlap by `margin` give the result of the whole image.

    Args:
        in_channels: Channels of the clinical image.
        out_channels: Channels of the micro image.
        factor: Factor of the resolution: 2, 4 or 8.
        channels: Features of the code, a multiple of `factor`.
        num_res_blocks: Number of private residual blocks of each encoder and each decoder.
        num_shared_blocks: Number of residual blocks that both encoders share, and that both decoders share.
        norm: None, or "INSTANCE" behind each convolution of the private parts but the last.

    Attributes:
        margin: Low-resolution pixels on each side of a tile that depend on what lies beyond it; without norm only.

    Raises:
        ValueError: If an argument is outside of its range.

    Example:
        >>> network = SRUNITGenerator(factor=4, channels=8, num_res_blocks=1)
        >>> code = network.encode(torch.zeros(2, 1, 9, 12))
        >>> code.shape, network.decode(code).shape
        (torch.Size([2, 8, 9, 12]), torch.Size([2, 1, 36, 48]))
    """

    @record_arguments
    def __init__(
        self,
        in_channels: int = 1,
        *,
        out_channels: int = 1,
        factor: int = 8,
        channels: int = 64,
        num_res_blocks: int = 3,
        num_shared_blocks: int = 1,
        norm: str | None = None,
    ) -> None:
        super().__init__()
        check_scale_arguments(
            factor=factor,
            channels=channels,
            norm=norm,
            num_res_blocks=num_res_blocks,
            num_shared_blocks=num_shared_blocks,
        )
        self.spatial_dims = 2
        self.factor = factor
        self.margin = upsampling_margin(STEM_REACH + 4 * num_res_blocks + 4 * num_shared_blocks, factor)
        self.source_encoder = nn.Sequential(
            activated(convolution(in_channels, channels, 7), norm), residual_blocks(channels, num_res_blocks, norm)
        )
        self.shared_encoder = residual_blocks(channels, num_shared_blocks, None)
        self.shared_decoder = residual_blocks(channels, num_shared_blocks, None)
        self.target_decoder = nn.Sequential(
            residual_blocks(channels, num_res_blocks, norm),
            upsampling(channels, factor, norm),
            head(channels // factor, out_channels),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map `(B, in_channels, H, W)` in [-1, 1] to `(B, out_channels, factor H, factor W)` in (-1, 1)."""
        return self.decode(self.encode(image))

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Return the code `(B, channels, H, W)` of a clinical image `(B, in_channels, H, W)` in [-1, 1]."""
        check_image_dims(image, 2)
        return self.shared_encoder(self.source_encoder(image))

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        """Return the micro image `(B, out_channels, factor H, factor W)` in (-1, 1) of a code."""
        return torch.tanh(self.target_decoder(self.shared_decoder(code)))


class SRUNITBackGenerator(nn.Module):
    """Private parts of SR-UNIT from micro to clinical: the micro encoder and the clinical decoder (2-D).

    The shared blocks are those of the `SRUNITGenerator` that it is called with. With the defaults 489,803 parameters.

    Args:
        in_channels: Channels of the micro image.
        out_channels: Channels of the clinical image.
        factor: Factor of the resolution: 2, 4 or 8; the micro encoder down-samples by it.
        channels: Features of the code, as many as the generator's.
        num_res_blocks: Number of private residual blocks of each encoder and each decoder.
        norm: None, or "INSTANCE" behind each convolution but the last.

    Raises:
        ValueError: If an argument is outside of its range.

    Example:
        >>> generator = SRUNITGenerator(factor=4, channels=8, num_res_blocks=1)
        >>> back = SRUNITBackGenerator(factor=4, channels=8, num_res_blocks=1)
        >>> back(torch.zeros(2, 1, 36, 48), generator).shape
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
        num_res_blocks: int = 3,
        norm: str | None = None,
    ) -> None:
        super().__init__()
        check_scale_arguments(factor=factor, channels=channels, norm=norm, num_res_blocks=num_res_blocks)
        self.factor = factor
        self.target_encoder = nn.Sequential(
            activated(convolution(in_channels, channels // factor, 7), norm),
            downsampling(channels, factor, norm),
            residual_blocks(channels, num_res_blocks, norm),
        )
        self.source_decoder = nn.Sequential(
            residual_blocks(channels, num_res_blocks, norm), head(channels, out_channels)
        )

    def forward(self, image: torch.Tensor, generator: SRUNITGenerator) -> torch.Tensor:
        """Map `(B, in_channels, H, W)` in [-1, 1] to `(B, out_channels, H // factor, W // factor)` in (-1, 1)."""
        return self.decode(self.encode(image, generator), generator)

    def encode(self, image: torch.Tensor, generator: SRUNITGenerator) -> torch.Tensor:
        """Return the code `(B, channels, H // factor, W // factor)` of a micro image `(B, in_channels, H, W)`."""
        check_image_dims(image, 2)
        return generator.shared_encoder(self.target_encoder(image))

    def decode(self, code: torch.Tensor, generator: SRUNITGenerator) -> torch.Tensor:
        """Return the clinical image `(B, out_channels, H, W)` in (-1, 1) of a code `(B, channels, H, W)`."""
        return torch.tanh(self.source_decoder(generator.shared_decoder(code)))
