"""GGCL's discriminator: StarGAN's with a decoder that learns the semantics of the generator's feature."""

from __future__ import annotations

import torch
from torch import nn

from .definition import record_arguments
from .spectral import SpectralConv2d
from .stargan_discriminator import (
    NEGATIVE_SLOPE,
    SourceAndDomainHeads,
    check_discriminator_arguments,
    check_image_size,
)


class SemanticDiscriminator(nn.Module):
    """U-Net under StarGAN's two heads; the decoder gives a semantic map at half of the resolution.

    Choi et al., "CT kernel conversion using multi-domain image-to-image translation with generator-guided contrastive
    learning", MICCAI 2023, section 3.1, "Architecture Improvements"; the KCGAN thesis uses the same. The encoder is
    StarGAN's (strided 4x4 convolutions, LeakyReLU 0.01). Each of the `num_layers - 1` decoder layers is a 1x1
    convolution and a 2x2 pixel shuffle; the encoder's feature of equal size is concatenated before the next. Spectral
    normalisation (Miyato et al., ICLR 2018) on all but the two heads, no other.

    With the defaults it has 58,874,336 parameters, with the generator 68,105,248 (table 7 of the thesis: 68.1M). At
    512x512 `features` costs 11.1 GFLOP an image, counted by `torch.utils.flop_counter`.

    In `train()` each call advances the power iteration of the spectral norm; in `eval()` it rests. TorchScript does
    not compile torch's spectral norm.

    Args:
        image_size: pixels along each side of the image, a multiple of `2**num_layers`; others are refused.
        num_domains: domains to tell apart.
        in_channels: channels of the judged image.
        channels: features of the first layer, doubled by each further one. The semantic map has `4 * channels`, which
            must be the guiding generator's `feature_channels`: half of its `channels`.
        num_layers: strided convolutions, >= 2.

    Raises:
        ValueError: when an argument is outside of its range, or an image has another size.

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
        # What a layer gives is as wide as the encoder's feature of equal size: a quarter of it behind the shuffle.
        inputs = [widths[-1], *(2 * width for width in widths[-2:0:-1])]
        outputs = [*widths[-2:0:-1], self.feature_channels]
        self.ups = nn.ModuleList(
            _Layer(SpectralConv2d(wide, 4 * narrow, 1, bias=False), nn.PixelShuffle(2), nn.LeakyReLU(NEGATIVE_SLOPE))
            for wide, narrow in zip(inputs, outputs)
        )
        self.heads = SourceAndDomainHeads(widths[-1], num_domains, image_size // 2**num_layers)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Judge `(B, C, image_size, image_size)` in [-1, 1], without the decoder.

        Returns:
            the source map `(B, 1, h, w)`, higher for real, with h = w = `image_size / 2**num_layers`, and the domain
            logits `(B, num_domains)`; both without activation.
        """
        return self.heads(self._encode(image)[-1])

    def features(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Judge, and return with it the semantic map `(B, feature_channels, image_size / 2, image_size / 2)`."""
        skips = self._encode(image)
        return *self.heads(skips[-1]), self._decode(skips)

    def compare(
        self, real: torch.Tensor, fake: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Judge real and fake images `(B, C, image_size, image_size)` of equal number, reading the weights once.

        Returns:
            source map and domain logits of the real ones, as `forward` gives them, then source map and semantic map of
            the fake ones, as `features` does afterwards.
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
    """A spectrally normalised convolution, and what follows it."""

    def forward(self, feature: torch.Tensor, passes: int = 1) -> torch.Tensor:
        convolution, *following = self
        feature = convolution(feature, passes)
        for module in following:
            feature = module(feature)
        return feature
