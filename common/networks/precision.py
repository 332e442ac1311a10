"""What stays in float32 under autocast: the last layer of a generator, whose rounding would be seen in the image.

bfloat16 has 8 bits: between 0.5 and 1 it knows steps of 1/256, 8 HU of a range of 4096. The layers before the last one
are normalised again, or their errors average out; what the last one rounds is final.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Inside, operations on `device` keep the types of what they are given."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def in_full_precision(layer: Callable[[torch.Tensor], torch.Tensor], feature: torch.Tensor) -> torch.Tensor:
    """`layer(feature)`, in float32 under autocast; in the precision of its weights elsewhere.

    Example:
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     in_full_precision(nn.Linear(1, 1), torch.zeros(1, 1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    if not torch.amp.is_autocast_available(feature.device.type) or not torch.is_autocast_enabled(feature.device.type):
        return layer(feature)
    with without_autocast(feature.device):
        return layer(feature.float())


class FullPrecisionConv2d(nn.Conv2d):
    """A convolution that is computed in float32 under autocast: the last one of a generator.

    Example:
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     FullPrecisionConv2d(1, 1, 3)(torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16)).dtype
        torch.float32
    """

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Convolve `(B, C, H, W)`."""
        if torch.jit.is_scripting():
            return self._conv_forward(feature, self.weight, self.bias)
        else:
            return in_full_precision(super().forward, feature)


class FullPrecisionConv3d(nn.Conv3d):
    """The same in 3-D."""

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Convolve `(B, C, H, W, D)`."""
        if torch.jit.is_scripting():
            return self._conv_forward(feature, self.weight, self.bias)
        else:
            return in_full_precision(super().forward, feature)
