"""Discriminators of patches and of whole images.

The PatchGANs on an image pyramid of Normalized Edge Consistency, and the DCGAN of neural contrast enhancement, which
distinguishes more than two kinds of image.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.networks.layers.factories import Pool
from monai.networks.nets import PatchDiscriminator
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm as add_spectral_norm

from .definition import record_arguments
from .layers import check_at_least_one, check_image_dims

NEGATIVE_SLOPE = 0.2  # slope of each LeakyReLU; section 4.1
INITS = ("normal", "torch")
POOLED_SIZE = 4  # side of the feature under the head: DCGAN's figure 1


class PatchDiscriminatorPyramid(nn.Module):
    """Patch discriminators on the image average-pooled by 1, 2, 4 ...; each returns a map of logits.

    Jaouen, Conze, Visvikis, "One-sided unsupervised medical image synthesis with normalized edge consistency",
    IEEE ISBI 2024, section 3: "a 3-layer, 3-scale patch discriminator"; the pyramid is that of Wang et al., CVPR
    2018, section 3.2. With the defaults 8,285,379 parameters and a receptive field of 70 pixels in 2-D.

    The paper's words have three readings, between which it does not decide: (1) this one, Isola et al.'s count, in
    which "3 layers" follow the first, and the one that scores follows them; (2) the count of the author's own class,
    in which 3 convolutions are all there are: `num_layers=1, bias=True, pool_size=3`, 403,011 parameters, a field of
    16 pixels; (3) the class of MONAI that the paper names, which cannot be built with these numbers (below).

    Args:
        spatial_dims: Number of spatial dimensions, 2 or 3.
        in_channels: Channels of the judged image.
        num_scales: Number of discriminators, >= 1; scale i sees the image pooled by 2**i.
        channels: Features of the first layer, doubled by each further one.
        num_layers: Number of layers after the first one, >= 1. The strides multiply to 2**num_layers, so 3 layers need
            at least 24 pixels per side on the coarsest scale; take fewer for images of 64-128 pixels.
        norm: MONAI's name of the normalization, or (name, arguments), or None. Running statistics are refused: real
            and fake batches would be normalised by each other's.
        spectral_norm: Whether to constrain each convolution's largest singular value to 1 (Miyato et al., ICLR 2018);
            in `train()` each call then advances the power iteration. Requires `norm=None`, since a norm after the
            convolution would undo the constraint. TorchScript does not compile torch's spectral norm.
        bias: Whether convolutions before a norm have a bias, which the norm removes again; None: only without a norm.
        pool_size: Side of the average between scales, at stride 2: 2, or 3, which overlaps (Wang et al.'s code).
        init: "normal", weights of mean 0 and SD 0.02, as in CycleGAN and MONAI; "torch", torch's own.

    Raises:
        ValueError: If an argument is outside of its range, or an image is too small for a scale.

    Differences from the official code:
        MONAI's `MultiScalePatchDiscriminator`, which the paper names, gives scale i `num_layers * (i + 1)` layers on
        the full image, with channels doubling endlessly, and cannot be built with 3 layers and 3 scales of 256 pixels.
        The released notebook does not use it, but a class of its own with 4 convolutions, 2 scales and 128 features:
        `num_layers=2, num_scales=2, channels=128, bias=True, pool_size=3, init="torch"`, 5,265,154 parameters, a field
        of 34 pixels (`configs/official.yaml`).

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
        bias: bool | None = None,
        pool_size: int = 2,
        init: str = "normal",
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"`spatial_dims` must be 2 or 3, got {spatial_dims}.")
        check_at_least_one(num_scales=num_scales, channels=channels, num_layers=num_layers)
        if pool_size not in (2, 3):
            raise ValueError(f"`pool_size` must be 2 or 3, got {pool_size}.")
        if init not in INITS:
            raise ValueError(f"`init` must be one of {INITS}, got {init!r}.")
        if spectral_norm and norm is not None:
            raise ValueError(f"`norm` must be None when `spectral_norm` is on, since it would undo it, got {norm!r}.")
        self.spatial_dims = spatial_dims
        self.num_layers = num_layers
        # Each stride-2 layer halves the side, rounding down; each of the two stride-1 layers removes one pixel.
        self.min_size = 3 * 2**num_layers
        self.overlap = pool_size - 2  # pixel by which the pooled areas reach over the image's edge
        self.pool = Pool[Pool.AVG, spatial_dims](
            kernel_size=pool_size, stride=2, padding=self.overlap, count_include_pad=False
        )
        self.scales = nn.ModuleList(
            PatchDiscriminator(
                spatial_dims=spatial_dims,
                channels=channels,
                in_channels=in_channels,
                num_layers_d=num_layers,
                norm=norm,  # type: ignore[arg-type]  # MONAI's Convolution takes None
                bias=norm is None if bias is None else bias,
            )
            for _ in range(num_scales)
        )
        if init == "torch":
            self.scales.apply(_reset)
        for module in list(self.scales.modules()):
            if getattr(module, "track_running_stats", False):
                raise ValueError(f"`norm` must keep no running statistics (instance or group norm), got {norm!r}.")
            if spectral_norm and isinstance(module, (nn.Conv2d, nn.Conv3d)):
                add_spectral_norm(module)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Judge the patches of an image `(B, C, H, W[, D])` in [-1, 1].

        Returns:
            One map of logits `(B, 1, h, w[, d])` per scale, the finest first, without activation.
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
                    f"scale {scale} (of {len(self.scales)}, from 0) must see at least {self.min_size} pixels per side "
                    f"with `num_layers` = {self.num_layers}, but there the image {list(image.shape[2:])} is {sides}: "
                    "use fewer `num_layers` or `num_scales`, or a larger image."
                )
            sides = [(side + self.overlap) // 2 for side in sides]


def _reset(module: nn.Module) -> None:
    """Draw a convolution's weights as torch does when it is built."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d)):
        module.reset_parameters()


class DCGANDiscriminator(nn.Module):
    """Convolutions with bilinear down-sampling by 2, and one score per class for the whole image (2-D).

    Radford et al., "Unsupervised representation learning with deep convolutional generative adversarial networks",
    ICLR 2016, with the changes of Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, sections 3.3
    and 4.1: bilinear down-sampling instead of strides, group norm after all convolutions, LeakyReLU with slope 0.2.
    With the defaults it has 25,249,347 parameters.

    What the paper leaves open, and what was chosen: kernels are 3x3, since without stride DCGAN's even or 5x5 kernels
    have no purpose; group norm has 8 groups. Like DCGAN's, the last feature is flattened under a linear head. It is
    first pooled to 4x4, so that any image size fits; at the paper's 256x256 pixels and six layers it is 4x4 already.
    Down-sampling by exactly 2 is the mean of 2x2 voxels, bilinear or not.

    Args:
        in_channels: Channels of the judged image.
        num_classes: Number of scores per image; 1 for a discriminator of real and synthetic.
        channels: Features of each layer, at full, 1/2, 1/4 ... of the resolution.
        num_groups: Groups of the group norm; must divide each of `channels`.

    Raises:
        ValueError: If an argument is outside of its range, or an image has fewer than 2**len(channels) pixels per side.

    Example:
        >>> discriminator = DCGANDiscriminator(channels=(8, 16))
        >>> discriminator(torch.zeros(2, 3, 30, 21)).shape
        torch.Size([2, 3])
    """

    @record_arguments
    def __init__(
        self,
        in_channels: int = 3,
        *,
        num_classes: int = 3,
        channels: Sequence[int] = (64, 128, 256, 512, 1024, 2048),
        num_groups: int = 8,
    ) -> None:
        super().__init__()
        _check_arguments(in_channels, num_classes, channels, num_groups)
        self.spatial_dims = 2
        self.min_size = 2 ** len(channels)
        self.layers = nn.Sequential(
            *(_layer(inputs, outputs, num_groups) for inputs, outputs in pairwise([in_channels, *channels]))
        )
        self.pool = nn.AdaptiveAvgPool2d(POOLED_SIZE)
        self.head = nn.Linear(channels[-1] * POOLED_SIZE**2, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Judge an image `(B, C, H, W)` in [-1, 1]; return the logits `(B, num_classes)`, without activation."""
        check_image_dims(image, 2)
        if min(image.shape[2], image.shape[3]) < self.min_size:
            raise ValueError(
                f"`image` must have at least {self.min_size} pixels per side, which {len(self.layers)} layers halve to "
                f"1, got {image.shape[2]} x {image.shape[3]}: use fewer `channels`, or a larger image."
            )
        return self.head(self.pool(self.layers(image)).flatten(1))


def _layer(in_channels: int, out_channels: int, num_groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),  # the norm's shift is a bias
        nn.GroupNorm(num_groups, out_channels),
        nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
        nn.AvgPool2d(2),
    )


def _check_arguments(in_channels: int, num_classes: int, channels: Sequence[int], num_groups: int) -> None:
    check_at_least_one(in_channels=in_channels, num_classes=num_classes, num_groups=num_groups)
    if len(channels) < 1 or any(width < 1 or width % num_groups for width in channels):
        raise ValueError(
            f"`channels` must hold the features of at least 1 layer, each a multiple of `num_groups` ({num_groups}), "
            f"got {list(channels)}."
        )
