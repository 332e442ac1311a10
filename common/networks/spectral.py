"""Convolutions of unit spectral norm, for discriminators whose weights are larger than their images."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from ..devices import without_autocast

MOST_PLACES = 64  # of a batch's output, up to which a layer's time is that of reading its weights


class SpectralConv2d(nn.Conv2d):
    """`torch.nn.utils.parametrizations.spectral_norm` of a `Conv2d`: the same values and state dict, in less time.

    Miyato et al., "Spectral normalization for generative adversarial networks", ICLR 2018, section 2.1: a convolution
    with W / sigma(W), where sigma is W's largest singular value, by one step of the power method per call in `train()`.

    A deep layer has far more weights than its image has voxels (134 MB for GGCL's last one), so each pass over them
    matters. Three things save passes: sigma divides the output, instead of the weights, (W x) / sigma = (W / sigma)
    x, forward and in the gradients; on a CPU few places are gathered and multiplied by the weights as they lie in
    memory; and such a product is not cast to half precision, since casting the weights would take longer.

    Args:
        in_channels: Number of input features.
        out_channels: Number of output features.
        kernel_size: Size of the kernel along both axes.
        stride: Stride along both axes.
        padding: Number of zeros on each side.
        bias: Whether to add a bias.

    Raises:
        ValueError: If the batch of a call does not divide into `passes`.

    Example:
        >>> layer = SpectralConv2d(3, 4, 1, bias=False).eval()
        >>> for _ in range(100):
        ...     _ = layer.train()(torch.zeros(1, 3, 2, 2))
        >>> bool((torch.linalg.matrix_norm(layer.eval().weight.flatten(1), 2) - 1).abs() < 1e-4)
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.pads = padding
        spectral_norm(self)

    def forward(self, feature: torch.Tensor, passes: int = 1) -> torch.Tensor:
        """Convolve a feature `(B, C, H, W)`.

        Args:
            feature: Feature to convolve.
            passes: Number of equal parts of the batch, each of which is normalised as in a call of its own.
        """
        parametrizations: Any = self.parametrizations
        kernel: torch.Tensor = parametrizations.weight.original
        sigma = torch.stack([self._sigma(kernel) for _ in range(passes)])
        if feature.shape[0] % passes:
            raise ValueError(f"a batch of {feature.shape[0]} must divide into `passes`, got {passes}.")
        output = self._product(feature, kernel)
        # In float32 under autocast, too: rounding sigma would change all values alike.
        output = output / sigma.repeat_interleave(feature.shape[0] // passes)[:, None, None, None]
        return output if self.bias is None else output + self.bias[:, None, None]

    def _sigma(self, kernel: torch.Tensor) -> torch.Tensor:
        """Compute the largest singular value from the buffers, as torch's parametrization does."""
        parametrizations: Any = self.parametrizations
        norm = parametrizations.weight[0]
        with without_autocast(kernel.device):
            matrix = kernel.flatten(1)
            if self.training:
                with torch.no_grad():
                    norm._u.copy_(F.normalize(matrix @ norm._v, dim=0, eps=norm.eps))
                    norm._v.copy_(F.normalize(matrix.T @ norm._u, dim=0, eps=norm.eps))
            # Clones, for the next call changes the buffers before this one's gradient is taken.
            return norm._u.clone() @ (matrix @ norm._v.clone())

    def _product(self, feature: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        """Convolve with the weights as they are, without bias."""
        size, stride, padding = self.kernel_size[0], self.stride[0], self.pads
        height, width = ((side + 2 * padding - size) // stride + 1 for side in feature.shape[2:])
        if feature.device.type != "cpu" or feature.shape[0] * height * width > MOST_PLACES:
            return F.conv2d(feature, kernel, None, stride, padding)
        with without_autocast(feature.device):
            columns = F.unfold(feature.to(kernel.dtype), size, padding=padding, stride=stride)
            rows = F.linear(columns.transpose(1, 2).flatten(0, 1), kernel.flatten(1))
            return rows.view(feature.shape[0], height * width, -1).transpose(1, 2).unflatten(2, (height, width))
