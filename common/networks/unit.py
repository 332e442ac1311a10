"""Generators of UNIT: encoders and decoders of two domains with one latent space."""

from __future__ import annotations

import torch
from torch import nn

from .definition import record_arguments
from .layers import check_image_dims, crop_like, pad_to_multiple
from .resnet import ResidualBlock, behind_down, down_convolution, head, start_normal, stem, upsampling


class UNITGenerator(nn.Module):
    """UNIT from source to target: the part that is deployed (2-D).

    Liu, Breuel, Kautz, "Unsupervised image-to-image translation networks", NeurIPS 2017, section 3 and appendix A. The
    code is the encoders' output and the mean of the posterior, whose variance is 1. The last residual blocks of both
    encoders and the first of both decoders are shared and belong to this module; what only the way back needs is
    `UNITBackGenerator`.

    `forward` adds no noise and is the same in `train()` and `eval()`; the method adds the noise of training. Images
    whose sides are not multiples of 4 are padded with air (-1); `forward` crops them back. With the defaults
    10,185,473 parameters.

    Args:
        in_channels: Channels of the source image.
        out_channels: Channels of the target image.
        channels: Features at full resolution; the code has four times as many, at 1/4 of the resolution.
        num_res_blocks: Number of private residual blocks of each encoder and each decoder.
        num_shared_blocks: Number of residual blocks that both encoders share, and that both decoders share.

    Raises:
        ValueError: If an argument is outside of its range.

    Differences from the official code:
        The code shares no weights, only the codes' distribution, like its successor MUNIT; the paper shares the blocks.
        Its up-sampling repeats pixels and its decoders have layer norm; here they are the paper's transposed
        convolutions, with the encoders' instance norm.

    Example:
        >>> network = UNITGenerator(channels=4, num_res_blocks=1)
        >>> code = network.encode(torch.zeros(2, 1, 16, 24))
        >>> code.shape, network.decode(code).shape
        (torch.Size([2, 16, 4, 6]), torch.Size([2, 1, 16, 24]))
    """

    @record_arguments
    def __init__(
        self,
        in_channels: int = 1,
        *,
        out_channels: int = 1,
        channels: int = 64,
        num_res_blocks: int = 3,
        num_shared_blocks: int = 1,
    ) -> None:
        super().__init__()
        _check(in_channels=in_channels, out_channels=out_channels, channels=channels)
        _check(0, num_res_blocks=num_res_blocks, num_shared_blocks=num_shared_blocks)
        self.spatial_dims = 2
        self.multiple = 4
        self.pad_value = -1.0  # air
        self.source_encoder = _encoder(in_channels, channels, num_res_blocks)
        self.shared_encoder = _blocks(channels, num_shared_blocks)
        self.shared_decoder = _blocks(channels, num_shared_blocks)
        self.target_decoder = _decoder(channels, out_channels, num_res_blocks)
        start_normal(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate `(B, in_channels, H, W)` in [-1, 1] to `(B, out_channels, H, W)` in (-1, 1)."""
        return crop_like(self.decode(self.encode(image)), image)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Return the code `(B, 4 channels, H / 4, W / 4)` of a source image, padded to multiples of 4."""
        check_image_dims(image, 2)
        return self.shared_encoder(self.source_encoder(pad_to_multiple(image, self.multiple, self.pad_value)))

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        """Return the target image in (-1, 1) of a code, of four times its size."""
        return torch.tanh(self.target_decoder(self.shared_decoder(code)))


class UNITBackGenerator(nn.Module):
    """Private parts of UNIT from target to source: the target encoder and the source decoder (2-D).

    The shared blocks are those of the `UNITGenerator` that it is called with. With the defaults 7,825,153 parameters.

    Args:
        in_channels: Channels of the target image.
        out_channels: Channels of the source image.
        channels: Features at full resolution, as many as the generator's.
        num_res_blocks: Number of private residual blocks of the encoder and the decoder.

    Raises:
        ValueError: If an argument is outside of its range.

    Example:
        >>> generator = UNITGenerator(channels=4, num_res_blocks=1)
        >>> UNITBackGenerator(channels=4, num_res_blocks=1)(torch.zeros(2, 1, 18, 24), generator).shape
        torch.Size([2, 1, 18, 24])
    """

    @record_arguments
    def __init__(
        self, in_channels: int = 1, *, out_channels: int = 1, channels: int = 64, num_res_blocks: int = 3
    ) -> None:
        super().__init__()
        _check(in_channels=in_channels, out_channels=out_channels, channels=channels)
        _check(0, num_res_blocks=num_res_blocks)
        self.multiple = 4
        self.pad_value = -1.0  # air
        self.target_encoder = _encoder(in_channels, channels, num_res_blocks)
        self.source_decoder = _decoder(channels, out_channels, num_res_blocks)
        start_normal(self)

    def forward(self, image: torch.Tensor, generator: UNITGenerator) -> torch.Tensor:
        """Translate `(B, in_channels, H, W)` in [-1, 1] to `(B, out_channels, H, W)` in (-1, 1)."""
        return crop_like(self.decode(self.encode(image, generator), generator), image)

    def encode(self, image: torch.Tensor, generator: UNITGenerator) -> torch.Tensor:
        """Return the code `(B, 4 channels, H / 4, W / 4)` of a target image, padded to multiples of 4."""
        check_image_dims(image, 2)
        return generator.shared_encoder(self.target_encoder(pad_to_multiple(image, self.multiple, self.pad_value)))

    def decode(self, code: torch.Tensor, generator: UNITGenerator) -> torch.Tensor:
        """Return the source image in (-1, 1) of a code, of four times its size."""
        return torch.tanh(self.source_decoder(generator.shared_decoder(code)))


def _encoder(in_channels: int, channels: int, num_res_blocks: int) -> nn.Sequential:
    downs = [
        layer
        for width in (channels, 2 * channels)
        for layer in (down_convolution(width, antialias=False), behind_down(width, antialias=False))
    ]
    return nn.Sequential(stem(in_channels, channels), *downs, _blocks(channels, num_res_blocks))


def _decoder(channels: int, out_channels: int, num_res_blocks: int) -> nn.Sequential:
    ups = [upsampling(width, antialias=False) for width in (4 * channels, 2 * channels)]
    return nn.Sequential(_blocks(channels, num_res_blocks), *ups, head(channels, out_channels))


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(4 * channels) for _ in range(count)))


def _check(smallest: int = 1, **sizes: int) -> None:
    for name, value in sizes.items():
        if value < smallest:
            raise ValueError(f"`{name}` must be >= {smallest}, got {value}.")
