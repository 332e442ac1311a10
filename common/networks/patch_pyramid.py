"""The discriminator of Normalized Edge Consistency: PatchGANs on an image pyramid."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.layers.factories import Pool
from monai.networks.nets import PatchDiscriminator
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm as add_spectral_norm

from .definition import record_arguments
from .padding import check_image_dims


class PatchDiscriminatorPyramid(nn.Module):
    """`num_scales` patch discriminators on the image average-pooled by 1, 2, 4 ...; each gives a map of logits.

    Jaouen, Conze, Visvikis, "One-sided unsupervised medical image synthesis with normalized edge consistency",
    IEEE ISBI 2024, section 3: "a 3-layer, 3-scale patch discriminator"; the pyramid is that of Wang et al., CVPR
    2018, section 3.2. With the defaults 8,285,379 parameters in 2-D.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the judged image.
        num_scales: discriminators, >= 1; scale i sees the image pooled by 2**i.
        channels: features of the first layer, doubled by each further one.
        num_layers: layers behind the first one, >= 1. The strides multiply to 2**num_layers, so 3 layers need at
            least 24 pixels a side on the coarsest scale; take fewer for images of 64-128 pixels.
        norm: MONAI's name of the normalization, or (name, arguments), or None. Running statistics are refused: real
            and fake batches would be normalised by each other's.
        spectral_norm: constrain each convolution's largest singular value to 1 (Miyato et al., ICLR 2018); in
            `train()` each call then advances the power iteration. Needs `norm=None`, for a norm behind the
            convolution would undo the constraint. TorchScript does not compile torch's spectral norm.

    Raises:
        ValueError: when an argument is outside of its range, or an image is too small for a scale.

    Differences from the official code:
        MONAI's `MultiScalePatchDiscriminator` gives scale i `num_layers * (i + 1)` layers on the full image, with
        channels doubling without end, and cannot be built with 3 layers and 3 scales at 256 pixels. Here each scale
        has the same discriminator on a pooled image. Instance norm replaces its batch norm.

    Example:
        >>> discriminator = PatchDiscriminatorPyramid(2, 1, channels=4, num_layers=2)
        >>> [tuple(logits.shape) for logits in discriminator(torch.zeros(2, 1, 64, 64))]
        [(2, 1, 14, 14), (2, 1, 6, 6), (2, 1, 2, 2)]
    """

    @record_arguments
    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        *,
        num_scales: int = 3,
        channels: int = 64,
        num_layers: int = 3,
        norm: str | tuple[str, dict[str, Any]] | None = "INSTANCE",
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}.")
        for name, value in (("num_scales", num_scales), ("channels", channels), ("num_layers", num_layers)):
            if value < 1:
                raise ValueError(f"`{name}` must be >= 1, got {value}.")
        if spectral_norm and norm is not None:
            raise ValueError(f"`norm` must be None when `spectral_norm` is on, for it would undo it, got {norm!r}.")
        self.spatial_dims = spatial_dims
        self.num_layers = num_layers
        # Each stride-2 layer halves the side, rounding down; each of the two stride-1 layers takes one pixel off.
        self.min_size = 3 * 2**num_layers
        self.pool = Pool[Pool.AVG, spatial_dims](kernel_size=2)
        self.scales = nn.ModuleList(
            PatchDiscriminator(
                spatial_dims=spatial_dims,
                channels=channels,
                in_channels=in_channels,
                num_layers_d=num_layers,
                norm=norm,  # type: ignore[arg-type]  # MONAI's Convolution takes None
                bias=norm is None,
            )
            for _ in range(num_scales)
        )
        for module in list(self.scales.modules()):
            if getattr(module, "track_running_stats", False):
                raise ValueError(f"`norm` must keep no running statistics (instance or group norm), got {norm!r}.")
            if spectral_norm and isinstance(module, (nn.Conv2d, nn.Conv3d)):
                add_spectral_norm(module)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Judge patches of `(B, C, H, W[, D])` in [-1, 1].

        Returns:
            one map of logits `(B, 1, h, w[, d])` a scale, the finest first, without activation.
        """
        check_image_dims(image, self.spatial_dims)
        self._check_size(image)
        logits: list[torch.Tensor] = []
        for index, discriminator in enumerate(self.scales):
            if index > 0:
                image = self.pool(image)
            logits.append(discriminator(image)[-1])
        return logits

    def _check_size(self, image: torch.Tensor) -> None:
        sides = [int(side) for side in image.shape[2:]]
        for scale in range(len(self.scales)):
            if min(sides) < self.min_size:
                raise ValueError(
                    f"scale {scale} (of {len(self.scales)}, from 0) must see at least {self.min_size} pixels a side "
                    f"with `num_layers` = {self.num_layers}, but there the image {list(image.shape[2:])} is {sides}: "
                    "use fewer `num_layers` or `num_scales`, or a larger image."
                )
            sides = [side // 2 for side in sides]
