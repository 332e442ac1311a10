"""A generator whose body computes in bfloat16, and whose last layer, with all around it, computes in float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..networks.physics import RadialFilterBank
from ..networks.physics import _mirrored as mirrored

FEW = 4  # output channels up to which a convolution leaves most of a processor's registers empty
PACKED = {4: torch.channels_last, 5: torch.channels_last_3d}
FAST_LENGTH = 16  # Fourier transforms of multiples of it are fast
Convolution = nn.Conv2d | nn.Conv3d


def in_bfloat16(network: nn.Module) -> None:
    """
    Let the convolutions of a network, but for the last one and transposed ones, compute in bfloat16.

    Its weights and its state dict stay as they are; the rounded copies are made here, once.

    What is no convolution goes on with the type it gets; the head is given float32, and so is what is added to it. An
    instance norm becomes a group norm of one channel a group, the same sums in half the time on a CPU, and a radial
    filter a product of spectra.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 1, 3))
        >>> in_bfloat16(network)
        >>> network[:2](torch.zeros(1, 1, 8, 8)).dtype, network(torch.zeros(1, 1, 8, 8)).dtype
        (torch.bfloat16, torch.float32)
    """
    convolutions = [layer for layer in network.modules() if isinstance(layer, Convolution)]
    for convolution in convolutions[:-1]:
        convolution.forward = _rounded(convolution)  # type: ignore[method-assign, assignment]
    for convolution in convolutions[-1:]:
        convolution.forward = partial(_head, convolution)  # type: ignore[method-assign]
    for layer in network.modules():
        if isinstance(layer, nn.InstanceNorm2d) and not layer.track_running_stats:
            layer.forward = partial(_instance_norm, layer)  # type: ignore[method-assign]
        elif isinstance(layer, RadialFilterBank):
            layer.forward = partial(by_fourier, layer)  # type: ignore[method-assign]
        elif isinstance(layer, nn.PReLU):
            layer.forward = partial(_prelu, layer)  # type: ignore[method-assign]
        elif isinstance(layer, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            layer.forward = partial(_in_float32, layer)  # type: ignore[method-assign]


def in_float32(network: nn.Module) -> None:
    """Undo `in_bfloat16`."""
    for layer in network.modules():
        layer.__dict__.pop("forward", None)


def spread(image: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """
    A convolution that keeps the size and has few output channels: each pixel is spread over its neighbours.

    The same sum in another order: a matrix product makes what each pixel adds to each of its neighbours, `fold` adds it
    up.

    Args:
        image: (B, C, H, W), continued by zeros.
        weight: (D, C, k, l), of odd sizes.
        bias: (D,), or None.

    Returns:
        (B, D, H, W).
    """
    inputs, height, width = weight.shape[1:]
    parts = weight.flip(2, 3).permute(0, 2, 3, 1).reshape(-1, inputs) @ image.flatten(2)
    added = F.fold(parts, (image.shape[2], image.shape[3]), (height, width), padding=(height // 2, width // 2))
    return added if bias is None else added + bias[:, None, None]


def by_fourier(
    bank: RadialFilterBank, image: torch.Tensor, source: torch.Tensor, target: torch.Tensor, spacing_mm: torch.Tensor
) -> torch.Tensor:
    """What a filter bank's `forward` gives, (B, 1, H, W): a product of spectra instead of a sum over 31 x 31 pixels."""
    border, (height, width) = bank.size // 2, image.shape[2:]
    padded = mirrored(image, border)
    size = [-(-n // FAST_LENGTH) * FAST_LENGTH for n in padded.shape[2:]]
    taps = bank.taps(source, target, spacing_mm)[:, None]  # symmetric: correlation is convolution
    filtered = torch.fft.irfft2(torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(taps, s=size), s=size)
    return filtered[..., 2 * border : 2 * border + height, 2 * border : 2 * border + width]


def _rounded(layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """A layer's `forward` with its present weights, rounded; channels last, as processors multiply pairs of them."""
    layout = PACKED[layer.weight.dim()]
    weight = layer.weight.detach().to(torch.bfloat16, memory_format=layout)
    bias = None if layer.bias is None else layer.bias.detach().to(torch.bfloat16)
    return lambda image: layer._conv_forward(image.to(torch.bfloat16, memory_format=layout), weight, bias)


def _head(layer: Any, image: torch.Tensor) -> torch.Tensor:
    if layer.out_channels <= FEW and _keeps_size(layer):
        return spread(image.float(), layer.weight, layer.bias)
    result: torch.Tensor = layer._conv_forward(image.float(), layer.weight, layer.bias)
    return result


def _in_float32(layer: nn.ConvTranspose2d | nn.ConvTranspose3d, image: torch.Tensor) -> torch.Tensor:
    return type(layer).forward(layer, image.float().contiguous())  # type: ignore[arg-type]


def _keeps_size(layer: Any) -> bool:
    plain = layer.stride == (1, 1) and layer.dilation == (1, 1) and layer.groups == 1 and layer.padding_mode == "zeros"
    return plain and all(size == 2 * border + 1 for size, border in zip(layer.kernel_size, layer.padding))


def _instance_norm(layer: nn.InstanceNorm2d, image: torch.Tensor) -> torch.Tensor:
    weight, bias = (None if values is None else values.to(image.dtype) for values in (layer.weight, layer.bias))
    return F.group_norm(image, layer.num_features, weight, bias, layer.eps)


def _prelu(layer: nn.PReLU, image: torch.Tensor) -> torch.Tensor:
    return F.prelu(image, layer.weight.to(image.dtype))
