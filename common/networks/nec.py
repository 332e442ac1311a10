"""Generator of Normalized Edge Consistency: a deep residual U-Net for images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets import UNet
from torch import nn

from .definition import record_arguments
from .layers import check_image_dims, crop_like, in_full_precision, pad_to_multiple

DEFAULT_CHANNELS: dict[int, tuple[int, ...]] = {2: (64, 128, 256, 512, 512, 512, 512, 512), 3: (64, 128, 256, 512, 512)}


class NECGenerator(nn.Module):
    """Residual U-Net of 8 levels (2-D) or 5 levels (3-D) that maps an image in [-1, 1] to one of the target domain.

    Jaouen, Conze, Visvikis, "One-sided unsupervised medical image synthesis with normalized edge consistency",
    IEEE ISBI 2024, section 3: "a residual 8-layer U-Net generator architecture with 9 residual blocks". Built from
    MONAI's `UNet`: stride 2 between the levels, instance norm without affine parameters, PReLU, no activation at the
    output. At the paper's size it has 145,316,960 parameters (581 MB in float32). The norm keeps no running
    statistics, so the network computes the same in `train()` and in `eval()`.

    The state dict's keys are those of MONAI's `UNet`, so weights of a bare `UNet` of the same shape load as they are.

    Args:
        spatial_dims: Number of spatial dimensions, 2 or 3.
        in_channels: Channels of the source image.
        out_channels: Channels of the translated image.
        channels: Features of each level, the finest first; by default the paper's 8 levels in 2-D, its first 5 in 3-D.
        num_res_units: Convolutions in the residual unit of each encoder level (paper: 9); 0 for plain convolutions.
        pad_value: Intensity of the padding: the background in [-1, 1].

    Raises:
        ValueError: If an argument is outside of its range.

    Differences from the official code:
        - The notebook builds 18 residual units where the paper says 9: set `num_res_units=18` for it.
        - MONAI's `UNet` fails where a side is not a multiple of 2**(levels - 1), or leaves one voxel at the bottom
          (below 256 for 8 levels). `forward` pads with the background and crops back.

    Example:
        >>> network = NECGenerator(2, 1, channels=(4, 8, 16), num_res_units=1)
        >>> network(torch.zeros(2, 1, 30, 21)).shape
        torch.Size([2, 1, 30, 21])
        >>> network.encode_channels
        [4, 8, 16]
    """

    @record_arguments
    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        *,
        out_channels: int = 1,
        channels: Sequence[int] | None = None,
        num_res_units: int = 9,
        pad_value: float = -1.0,
    ) -> None:
        super().__init__()
        if spatial_dims not in DEFAULT_CHANNELS:
            raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}.")
        widths = list(DEFAULT_CHANNELS[spatial_dims] if channels is None else channels)
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"`channels` must hold at least 2 levels of >= 1 features each, got {widths}.")
        if num_res_units < 0:
            raise ValueError(f"`num_res_units` must be >= 1, or 0 for plain convolutions, got {num_res_units}.")
        self.spatial_dims = spatial_dims
        self.encode_channels = widths
        self.pad_value = float(pad_value)
        self.multiple = 2 ** (len(widths) - 1)
        self.model = UNet(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            channels=widths,
            strides=[2] * (len(widths) - 1),
            num_res_units=num_res_units,
            act="PRELU",
            norm="INSTANCE",
        ).model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate `(B, C, H, W[, D])` in [-1, 1] to `(B, out_channels, H, W[, D])`, unbounded."""
        check_image_dims(image, self.spatial_dims)
        padded = pad_to_multiple(image, self.multiple, self.pad_value)
        if torch.jit.is_scripting():
            output = self.model(padded)
        else:
            finest: Any = self.model  # down, the levels below, up: each level of MONAI's UNet
            down, below, up = finest
            output = in_full_precision(up, below(down(padded)))
        return crop_like(output, image)

    def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of each encoder level, the finest (stride 2) first, the bottom last.

        Args:
            image: Image `(B, C, H, W[, D])` in [-1, 1].

        Returns:
            For each level `(B, encode_channels[level], H', W'[, D'])` of the padded image; the padding is not
            cropped, since the levels' grids are not aligned with the image's edge.
        """
        check_image_dims(image, self.spatial_dims)
        feature = pad_to_multiple(image, self.multiple, self.pad_value)
        features: list[torch.Tensor] = []
        block: Any = self.model
        # Each level of MONAI's UNet is [down, SkipConnection(next level), up]; the last "next level" is the bottom.
        for _ in range(len(self.encode_channels) - 1):
            feature = block[0](feature)
            features.append(feature)
            block = block[1].submodule
        features.append(block(feature))
        return features
