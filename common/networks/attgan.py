"""Generator of AttGAN: one network that decodes an image for any of several domains."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from .definition import record_arguments
from .layers import check_at_least_one, check_image_dims, crop_like, in_full_precision, pad_to_multiple

NEGATIVE_SLOPE = 0.2  # of the encoder's LeakyReLU
WIDEST = 16  # times `channels`: the most features a layer has


class AttGANGenerator(nn.Module):
    """Encoder-decoder that maps an image in [-1, 1] and a target domain to the translated image in (-1, 1) (2-D).

    He et al., "AttGAN: facial attribute editing by only changing what you want", IEEE Trans. Image Process. 28(11),
    2019, section III and figure 2. The encoder does not know the target, whose label is concatenated to the code and,
    with `inject_layers`, to the features of the decoder; encoder features reach the decoder by `shortcut_layers`
    connections, as in a U-Net. With the defaults 43,207,297 parameters.

    Batch norm, as in the paper: the translation depends on the batch in `train()`, and on running statistics in
    `eval()`. Images whose sides are not multiples of `2**num_layers` are padded with air (-1) and cropped back.

    Args:
        num_domains: Length of the target vector.
        in_channels: Channels of the source image.
        out_channels: Channels of the translated image.
        channels: Features of the first layer, doubled by each further one up to 16 times as many.
        num_layers: Number of strided 4x4 convolutions of the encoder and of transposed ones of the decoder, >= 2.
        shortcut_layers: Number of decoder layers after which the encoder's feature of equal size is concatenated.
        inject_layers: Number of decoder layers after which the target is concatenated once more.

    Attributes:
        feature_channels: Channels of the feature that `features` returns.

    Raises:
        ValueError: If an argument is outside of its range, or the target does not fit the image or `num_domains`.

    Differences from the official code:
        It writes a label as -0.5 and 0.5 per attribute; here it is 0 and 1, or the weights of a blend.

    Example:
        >>> network = AttGANGenerator(3, channels=4, num_layers=3)
        >>> to_third = torch.tensor([[0.0, 0.0, 1.0]])
        >>> network(torch.zeros(2, 1, 30, 21), to_third).shape
        torch.Size([2, 1, 30, 21])
        >>> output, feature = network.features(torch.zeros(1, 1, 32, 24), to_third)
        >>> feature.shape
        torch.Size([1, 8, 16, 12])
    """

    @record_arguments
    def __init__(
        self,
        num_domains: int = 3,
        *,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: int = 64,
        num_layers: int = 5,
        shortcut_layers: int = 1,
        inject_layers: int = 1,
    ) -> None:
        super().__init__()
        check_at_least_one(
            num_domains=num_domains, in_channels=in_channels, out_channels=out_channels, channels=channels
        )
        if num_layers < 2:
            raise ValueError(f"`num_layers` must be >= 2, got {num_layers}.")
        for name, value in (("shortcut_layers", shortcut_layers), ("inject_layers", inject_layers)):
            if not 0 <= value < num_layers:
                raise ValueError(f"`{name}` must be >= 0 and below `num_layers` ({num_layers}), got {value}.")
        self.spatial_dims = 2
        self.num_domains = num_domains
        self.multiple = 2**num_layers
        self.pad_value = -1.0  # air
        self.shortcut_layers, self.inject_layers = shortcut_layers, inject_layers
        widths = [min(2**layer, WIDEST) * channels for layer in range(num_layers)]
        self.feature_channels = widths[1]
        self.downs = nn.ModuleList(_down(narrow, wide) for narrow, wide in pairwise([in_channels, *widths]))
        # What a decoder layer gives is as wide as the encoder's layer that it undoes.
        outputs = widths[:0:-1]
        inputs = [widths[-1] + num_domains]
        for layer, width in enumerate(outputs):
            shortcut = widths[-2 - layer] if layer < shortcut_layers else 0
            inputs.append(width + shortcut + (num_domains if layer < inject_layers else 0))
        self.ups = nn.ModuleList(_up(wide, narrow) for wide, narrow in zip(inputs, outputs))
        self.head = nn.ConvTranspose2d(inputs[-1], out_channels, 4, stride=2, padding=1)

    def forward(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Translate `(B, C, H, W)` in [-1, 1] to `(B, out_channels, H, W)` in (-1, 1).

        Args:
            image: Image `(B, C, H, W)` in [-1, 1].
            target: Target `(B, num_domains)`, one-hot, or weights of a blend of domains.
        """
        return self.features(image, target)[0]

    def features(self, image: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Translate, and also return the feature that may guide the discriminator.

        Returns:
            The output `(B, out_channels, H, W)`, and the last activation of the decoder
            `(B, feature_channels, H'/2, W'/2)`, of the padded image, not cropped.
        """
        check_image_dims(image, 2)
        rows = target.shape[0] if target.dim() == 2 else 0
        if (rows != 1 and rows != image.shape[0]) or target.shape[-1] != self.num_domains:
            raise ValueError(
                f"`target` must have the shape (batch, num_domains), here ({image.shape[0]}, {self.num_domains}), got "
                f"{list(target.shape)}: give one row of domain weights for each image, or one for all."
            )
        feature = pad_to_multiple(image, self.multiple, self.pad_value)
        encoded: list[torch.Tensor] = []
        for down in self.downs:
            feature = down(feature)
            encoded.append(feature)
        feature = _labelled(feature, target)
        guide = feature
        for layer, up in enumerate(self.ups):
            guide = up(feature)
            feature = guide
            if layer < self.shortcut_layers:
                feature = torch.cat([feature, encoded[-2 - layer]], dim=1)
            if layer < self.inject_layers:
                feature = _labelled(feature, target)
        raw = self.head(feature) if torch.jit.is_scripting() else in_full_precision(self.head, feature)
        return crop_like(torch.tanh(raw), image), guide


def _labelled(feature: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Append the label: `(B, C, H, W)` and `(B or 1, num_domains)` become `(B, C + num_domains, H, W)`."""
    label = target.to(feature.dtype)[:, :, None, None]
    return torch.cat([feature, label.expand(feature.shape[0], -1, feature.shape[2], feature.shape[3])], dim=1)


def _down(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(NEGATIVE_SLOPE))


def _up(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
