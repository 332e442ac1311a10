"""Discriminators of several domains: is the image real, and to which domain does it belong?

StarGAN's, and GGCL's, which is StarGAN's with a decoder that learns the semantics of the generator's feature.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from .definition import record_arguments
from .layers import check_at_least_one, check_image_dims
from .spectral import SpectralConv2d

NEGATIVE_SLOPE = 0.01  # slope of each LeakyReLU


class StarGANDiscriminator(nn.Module):
    """Strided convolutions under two heads: a map of real-or-fake scores, and one logit per domain.

    Choi et al., "StarGAN: unified generative adversarial networks for multi-domain image-to-image translation", CVPR
    2018, table 5 of the appendix. There is no normalisation, as the gradient penalty requires.

    With the defaults, for 512x512 pixels, it has 44,849,632 parameters, like the plain discriminator in table 7 of the
    KCGAN thesis. StarGAN's own, for 128x128, has `channels=64` and `num_layers=6`.

    Args:
        image_size: Pixels along each side of the image, a multiple of `2**num_layers`. The domain head's kernel covers
            the whole last feature, so images of another size are refused.
        num_domains: Number of domains.
        in_channels: Channels of the judged image.
        channels: Features of the first layer, doubled by each further one.
        num_layers: Number of 4x4 convolutions of stride 2.

    Raises:
        ValueError: If an argument is out of range, or an image has another size.

    Example:
        >>> discriminator = StarGANDiscriminator(64, 3, channels=4, num_layers=4)
        >>> source_map, domain_logits = discriminator(torch.zeros(2, 1, 64, 64))
        >>> source_map.shape, domain_logits.shape
        (torch.Size([2, 1, 4, 4]), torch.Size([2, 3]))
    """

    @record_arguments
    def __init__(
        self,
        image_size: int = 512,
        num_domains: int = 3,
        *,
        in_channels: int = 1,
        channels: int = 32,
        num_layers: int = 7,
    ) -> None:
        super().__init__()
        check_discriminator_arguments(image_size, num_domains, in_channels, channels, num_layers)
        self.image_size = image_size
        self.num_layers = num_layers
        widths = [in_channels, *(channels * 2**layer for layer in range(num_layers))]
        self.downs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(NEGATIVE_SLOPE))
            for narrow, wide in pairwise(widths)
        )
        self.heads = SourceAndDomainHeads(widths[-1], num_domains, image_size // 2**num_layers)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Judge an image `(B, C, image_size, image_size)` in [-1, 1].

        Returns:
            The source map `(B, 1, h, w)`, higher for real, with h = w = `image_size / 2**num_layers`, and the domain
            logits `(B, num_domains)`; both without activation.
        """
        check_image_size(image, self.image_size, self.num_layers)
        feature = image
        for down in self.downs:
            feature = down(feature)
        return self.heads(feature)


class SourceAndDomainHeads(nn.Module):
    """Heads that judge real or fake at each place of a feature, and the domain from all of it.

    Args:
        in_channels: Channels of the feature.
        num_domains: Number of domains.
        size: Pixels along each side of the feature.
    """

    def __init__(self, in_channels: int, num_domains: int, size: int) -> None:
        super().__init__()
        self.source = nn.Conv2d(in_channels, 1, 3, padding=1, bias=False)
        self.domain = nn.Conv2d(in_channels, num_domains, size, bias=False)

    def forward(self, feature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map `(B, in_channels, size, size)` to `(B, 1, size, size)` and `(B, num_domains)`."""
        return self.source(feature), self.domain(feature).flatten(1)


def check_discriminator_arguments(
    image_size: int, num_domains: int, in_channels: int, channels: int, num_layers: int, *, min_layers: int = 1
) -> None:
    """Raise a ValueError for arguments with which no discriminator of this family can be built."""
    check_at_least_one(num_domains=num_domains, in_channels=in_channels, channels=channels)
    if num_layers < min_layers:
        raise ValueError(f"`num_layers` must be >= {min_layers}, got {num_layers}.")
    if image_size < 1 or image_size % 2**num_layers:
        raise ValueError(
            f"`image_size` must be a multiple of 2**num_layers = {2**num_layers} pixels, got {image_size}: "
            "choose another size, or fewer `num_layers`."
        )


def check_image_size(image: torch.Tensor, image_size: int, num_layers: int) -> None:
    """Raise a ValueError for an image that the domain head does not cover."""
    check_image_dims(image, 2)
    if image.shape[2] != image_size or image.shape[3] != image_size:
        raise ValueError(
            f"`image` must be {image_size} x {image_size} pixels, since the domain head covers the whole image, got "
            f"{image.shape[2]} x {image.shape[3]}: crop or pad it, or build the discriminator with another "
            f"`image_size` (any multiple of {2**num_layers}, with `num_layers` = {num_layers})."
        )


class SemanticDiscriminator(nn.Module):
    """U-Net under StarGAN's two heads; the decoder returns a semantic map at half the resolution.

    Choi et al., "CT kernel conversion using multi-domain image-to-image translation with generator-guided contrastive
    learning", MICCAI 2023, section 3.1, "Architecture Improvements"; the KCGAN thesis uses the same. The encoder is
    StarGAN's (strided 4x4 convolutions, LeakyReLU 0.01). Each of the `num_layers - 1` decoder layers is a 1x1
    convolution and a 2x2 pixel shuffle; the encoder's feature of equal size is concatenated before the next. All but
    the two heads have spectral normalisation (Miyato et al., ICLR 2018), and no other.

    With the defaults it has 58,874,336 parameters, with the generator 68,105,248 (table 7 of the thesis: 68.1M). At
    512x512 `features` costs 11.1 GFLOP per image, counted by `torch.utils.flop_counter`.

    In `train()` each call advances the power iteration of the spectral norm; in `eval()` it rests. TorchScript does
    not compile torch's spectral norm.

    Args:
        image_size: Pixels along each side of the image, a multiple of `2**num_layers`; others are refused.
        num_domains: Number of domains.
        in_channels: Channels of the judged image.
        channels: Features of the first layer, doubled by each further one. The semantic map has `4 * channels`, which
            must be the guiding generator's `feature_channels`: half of its `channels`.
        num_layers: Number of strided convolutions, >= 2.

    Raises:
        ValueError: If an argument is out of range, or an image has another size.

    Example:
        >>> discriminator = SemanticDiscriminator(64, 3, channels=2, num_layers=4)
        >>> source_map, domain_logits, semantic_map = discriminator.features(torch.zeros(2, 1, 64, 64))
        >>> source_map.shape, domain_logits.shape, semantic_map.shape
        (torch.Size([2, 1, 4, 4]), torch.Size([2, 3]), torch.Size([2, 8, 32, 32]))
    """

    @record_arguments
    def __init__(
        self,
        image_size: int = 512,
        num_domains: int = 3,
        *,
        in_channels: int = 1,
        channels: int = 32,
        num_layers: int = 7,
    ) -> None:
        super().__init__()
        check_discriminator_arguments(image_size, num_domains, in_channels, channels, num_layers, min_layers=2)
        self.image_size = image_size
        self.num_layers = num_layers
        self.feature_channels = 4 * channels
        widths = [channels * 2**layer for layer in range(num_layers)]
        self.downs = nn.ModuleList(
            _Layer(SpectralConv2d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(NEGATIVE_SLOPE))
            for narrow, wide in zip([in_channels, *widths], widths)
        )
        # The output of a layer is as wide as the encoder's feature of equal size: a quarter of it after the shuffle.
        inputs = [widths[-1], *(2 * width for width in widths[-2:0:-1])]
        outputs = [*widths[-2:0:-1], self.feature_channels]
        self.ups = nn.ModuleList(
            _Layer(SpectralConv2d(wide, 4 * narrow, 1, bias=False), nn.PixelShuffle(2), nn.LeakyReLU(NEGATIVE_SLOPE))
            for wide, narrow in zip(inputs, outputs)
        )
        self.heads = SourceAndDomainHeads(widths[-1], num_domains, image_size // 2**num_layers)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Judge an image `(B, C, image_size, image_size)` in [-1, 1], without the decoder.

        Returns:
            The source map `(B, 1, h, w)`, higher for real, with h = w = `image_size / 2**num_layers`, and the domain
            logits `(B, num_domains)`; both without activation.
        """
        return self.heads(self._encode(image)[-1])

    def features(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Judge an image, and also return its semantic map `(B, feature_channels, image_size / 2, image_size / 2)`."""
        skips = self._encode(image)
        return *self.heads(skips[-1]), self._decode(skips)

    def compare(
        self, real: torch.Tensor, fake: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Judge equal numbers of real and fake images `(B, C, image_size, image_size)`, reading the weights once.

        Returns:
            Source map and domain logits of the real images, as `forward` returns them, then source map and semantic map
            of the fake images, as `features` returns them afterwards.
        """
        number = len(real)
        skips = self._encode(torch.cat([real, fake]), passes=2)
        source_map, domain_logits = self.heads(skips[-1])
        semantic_map = self._decode([skip[number:] for skip in skips])
        return source_map[:number], domain_logits[:number], source_map[number:], semantic_map

    def _encode(self, image: torch.Tensor, passes: int = 1) -> list[torch.Tensor]:
        check_image_size(image, self.image_size, self.num_layers)
        features = [image]
        for down in self.downs:
            features.append(down(features[-1], passes))
        return features[1:]

    def _decode(self, skips: list[torch.Tensor]) -> torch.Tensor:
        semantic_map = self.ups[0](skips[-1])
        for skip, up in zip(skips[-2:0:-1], self.ups[1:]):
            semantic_map = up(torch.cat([semantic_map, skip], dim=1))
        return semantic_map


class _Layer(nn.Sequential):
    """Spectrally normalised convolution with the layers that follow it."""

    def forward(self, feature: torch.Tensor, passes: int = 1) -> torch.Tensor:
        convolution, *following = self
        feature = convolution(feature, passes)
        for module in following:
            feature = module(feature)
        return feature
