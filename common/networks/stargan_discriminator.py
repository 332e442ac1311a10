"""The discriminator of StarGAN: is the image real, and of which domain is it?"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from .definition import record_arguments
from .padding import check_image_dims

NEGATIVE_SLOPE = 0.01  # of each LeakyReLU


class StarGANDiscriminator(nn.Module):
    """Strided convolutions under two heads: a map of real-or-fake scores, and one logit a domain.

    Choi et al., "StarGAN: unified generative adversarial networks for multi-domain image-to-image translation", CVPR
    2018, table 5 of the appendix. Without normalisation, as the gradient penalty wants it.

    With the defaults, for 512x512 pixels, it has 44,849,632 parameters, the plain discriminator in table 7 of the KCGAN
    thesis. StarGAN's own, for 128x128, has `channels=64` and `num_layers=6`.

    Args:
        image_size: pixels along each side of the image, a multiple of `2**num_layers`. The domain head's kernel covers
            the whole last feature, so that images of another size are refused.
        num_domains: domains to tell apart.
        in_channels: channels of the judged image.
        channels: features of the first layer, doubled by each further one.
        num_layers: 4x4 convolutions of stride 2.

    Raises:
        ValueError: when an argument is outside of its range, or an image has another size.

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
        """Judge `(B, C, image_size, image_size)` in [-1, 1].

        Returns:
            the source map `(B, 1, h, w)`, higher for real, with h = w = `image_size / 2**num_layers`, and the domain
            logits `(B, num_domains)`; both without activation.
        """
        check_image_size(image, self.image_size, self.num_layers)
        feature = image
        for down in self.downs:
            feature = down(feature)
        return self.heads(feature)


class SourceAndDomainHeads(nn.Module):
    """Real or fake at each place of a feature, and the domain from all of it.

    Args:
        in_channels: channels of the feature.
        num_domains: domains to tell apart.
        size: voxels along each side of the feature.
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
    """Refuse what no discriminator of this family can be built with."""
    for name, value in (("num_domains", num_domains), ("in_channels", in_channels), ("channels", channels)):
        if value < 1:
            raise ValueError(f"`{name}` must be >= 1, got {value}.")
    if num_layers < min_layers:
        raise ValueError(f"`num_layers` must be >= {min_layers}, got {num_layers}.")
    if image_size < 1 or image_size % 2**num_layers:
        raise ValueError(
            f"`image_size` must be a multiple of 2**num_layers = {2**num_layers} pixels, got {image_size}: "
            "choose another size, or fewer `num_layers`."
        )


def check_image_size(image: torch.Tensor, image_size: int, num_layers: int) -> None:
    """Refuse an image that the domain head does not cover."""
    check_image_dims(image, 2)
    if image.shape[2] != image_size or image.shape[3] != image_size:
        raise ValueError(
            f"`image` must be {image_size} x {image_size} pixels, for the domain head covers the whole image, got "
            f"{image.shape[2]} x {image.shape[3]}: crop or pad it, or build the discriminator with another "
            f"`image_size` (any multiple of {2**num_layers}, with `num_layers` = {num_layers})."
        )
