"""The option `--precision fast`: bfloat16 if the device supports it and a network's measured error is small.

The body of a generator computes in bfloat16, its last layer and everything around the network in float32.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from ignite.engine import Engine, Events
from monai.networks.layers import GaussianFilter
from torch import nn
from torch.nn import functional as F

from ..devices import multiplies_bfloat16
from ..networks.definition import input_channels
from ..networks.physics import RadialFilterBank, mirrored

logger = logging.getLogger(__name__)

EXACT, FAST = "exact", "fast"
FLOAT32, BFLOAT16 = "float32", "bfloat16"
LIMIT = 0.05  # of the noise in the network's output
PROBE = 256  # pixels along each side of the image on which the error is measured
SOURCE_NOISE = 0.006  # in [-1, 1] units; 12 HU in a range of 4095 HU, as with a soft kernel
FEW = 4  # output channels up to which a convolution leaves most of a CPU's registers empty
PACKED = {4: torch.channels_last, 5: torch.channels_last_3d}
FAST_LENGTH = 16  # Fourier transforms are fast for multiples of this length
Convolution = nn.Conv2d | nn.Conv3d


class SetPrecision:
    """A handler that decides at the start of a run, after the weights are loaded, in which type a network computes.

    `exact` is float32. `fast` is bfloat16 in all but the last layer, if the device multiplies bfloat16 and the error,
    measured on a phantom with the weights of the run, is at most 5 % of the output's noise. Otherwise it is float32 as
    well, and the log says why.

    Args:
        network: Network from images (B, C, H, W) to images.
        precision: Precision, `exact` or `fast`.
        facts: Facts of the run for JSON, to which the decision is added under `precision`.
        noise: Standard deviation of the noise in source images, in [-1, 1] units.

    Raises:
        ValueError: If `precision` is neither.
    """

    def __init__(
        self, network: nn.Module, precision: str, facts: dict[str, Any] | None = None, *, noise: float = SOURCE_NOISE
    ) -> None:
        if precision not in (EXACT, FAST):
            raise ValueError(f"`precision` must be {EXACT!r} or {FAST!r}, got {precision!r}.")
        self.network, self.precision, self.noise = network, precision, noise
        self.facts = {} if facts is None else facts

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda engine: self.decide(engine.state.device))

    def decide(self, device: str | torch.device) -> dict[str, Any]:
        """Set the network's precision for a device, and return the decision for JSON."""
        in_float32(self.network)
        decided = {"asked": self.precision, "body": FLOAT32}
        if self.precision == FAST:
            decided |= self._fast(torch.device(device))
        self.facts["precision"] = decided
        return decided

    def _fast(self, device: torch.device) -> dict[str, Any]:
        if getattr(generator(self.network), "spatial_dims", 2) != 2:
            logger.warning("`--precision fast` is for 2-D networks: this one stays in float32.")
            return {}
        if not multiplies_bfloat16(device):
            logger.warning(f"`--precision fast`: this {device.type} does not multiply bfloat16, it stays float32.")
            return {}
        found = rounding(self.network, device, noise=self.noise)
        share = found.error / found.noise if found.noise > 0 else float("inf")
        told = f"its error in bfloat16 is {share:.1%} of the noise, {LIMIT:.0%} are allowed"
        if not share <= LIMIT:
            logger.warning(f"`--precision fast`: the network stays in float32, {told}.")
            in_float32(self.network)
            return {"error_over_noise": float(f"{share:.3g}")} if share < float("inf") else {}
        logger.info(f"`--precision fast`: the network computes in bfloat16, {told}.")
        return {"body": BFLOAT16, "error_over_noise": float(f"{share:.3g}")}


class Rounding(NamedTuple):
    """The effect of bfloat16 on a network's output, in [-1, 1] units.

    Attributes:
        error: Root mean square of the difference from float32.
        noise: Standard deviation of the noise in the float32 output.
    """

    error: float
    noise: float


@torch.no_grad()
def rounding(network: nn.Module, device: str | torch.device = "cpu", *, noise: float = SOURCE_NOISE) -> Rounding:
    """Measure the effect of bfloat16 on a network's output for a `phantom`, and leave the network in bfloat16.

    Args:
        network: Network from images (B, C, H, W) to images, in float32.
        device: Device of the network.
        noise: Standard deviation of the phantom's noise, in [-1, 1] units.
    """
    channels = input_channels(network)
    first, second = (phantom(channels, noise=noise, seed=seed).to(device) for seed in (0, 1))
    exact = network(first).float()
    differing = exact - network(second).float()  # structure is equal in both and cancels, noise does not
    in_bfloat16(network)
    error = network(first).float() - exact
    height, width = exact.shape[2:]
    uniform = differing[:, :, 7 * height // 16 : 9 * height // 16, 7 * width // 16 : 9 * width // 16]
    return Rounding(float(error.square().mean().sqrt()), float(uniform.std()) / 2**0.5)


def phantom(channels: int = 1, *, noise: float = SOURCE_NOISE, seed: int = 0, pixels: int = PROBE) -> torch.Tensor:
    """Return an image of a trunk with two dark lungs, uniform except for noise like that of a soft kernel.

    Args:
        channels: Number of channels, each with noise of its own.
        noise: Standard deviation of the noise.
        seed: Seed of the noise.
        pixels: Number of pixels along each side.

    Returns:
        Image (1, channels, pixels, pixels) in [-1, 1].
    """
    axis = torch.linspace(-1, 1, pixels)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    body = torch.hypot(x / 0.9, y / 0.7) < 1
    lungs = torch.hypot((x.abs() - 0.5) / 0.25, y / 0.4) < 1
    plane = torch.where(lungs, -0.9, torch.where(body, -0.48, -0.97))
    white = torch.randn(1, channels, pixels, pixels, generator=torch.Generator().manual_seed(seed))
    soft = GaussianFilter(2, sigma=1.0)(white)
    return (plane + noise * soft / soft.std()).clamp(-1, 1)


def generator(network: nn.Module) -> nn.Module:
    """Return the network itself, or the inner network to which it binds a target."""
    inner = getattr(network, "network", network)
    return inner if isinstance(inner, nn.Module) else network


def in_bfloat16(network: nn.Module) -> None:
    """Let the convolutions of a network compute in bfloat16, except for the last one and transposed ones.

    Its weights and its state dict stay as they are; the rounded copies are made here, once.

    Other layers compute in the type of their input; the last convolution gets float32, and so does what is added to its
    output. An instance norm becomes a group norm with one channel per group, the same sums in half the time on a CPU,
    and a radial filter becomes a product of spectra.

    Args:
        network: Network whose layers are changed.

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
    """Undo `in_bfloat16` for a network."""
    for layer in network.modules():
        layer.__dict__.pop("forward", None)


def spread(image: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Compute a convolution with few output channels that keeps the size, by spreading each pixel over its neighbours.

    It is the same sum in another order: a matrix product computes what each pixel adds to each of its neighbours, and
    `fold` adds it up.

    Args:
        image: Image (B, C, H, W), padded with zeros.
        weight: Kernels (D, C, k, l) of odd sizes k and l.
        bias: Bias (D,), or None.

    Returns:
        Image (B, D, H, W).
    """
    inputs, height, width = weight.shape[1:]
    parts = weight.flip(2, 3).permute(0, 2, 3, 1).reshape(-1, inputs) @ image.flatten(2)
    added = F.fold(parts, (image.shape[2], image.shape[3]), (height, width), padding=(height // 2, width // 2))
    return added if bias is None else added + bias[:, None, None]


def by_fourier(
    bank: RadialFilterBank, image: torch.Tensor, source: torch.Tensor, target: torch.Tensor, spacing_mm: torch.Tensor
) -> torch.Tensor:
    """Compute a filter bank's `forward` as a product of spectra instead of a sum over 31 x 31 pixels.

    Args:
        bank: Filter bank.
        image: Image (B, 1, H, W).
        source: Source kernels (B, num_domains) or (1, num_domains), one-hot.
        target: Target kernels of the same shape, one-hot or the weights of a blend.
        spacing_mm: Pixel sizes (B,) or (1,) in mm.

    Returns:
        Filtered image (B, 1, H, W).
    """
    border, (height, width) = bank.size // 2, image.shape[2:]
    padded = mirrored(image, border)
    size = [-(-n // FAST_LENGTH) * FAST_LENGTH for n in padded.shape[2:]]
    taps = bank.taps(source, target, spacing_mm)[:, None]  # symmetric: correlation is convolution
    filtered = torch.fft.irfft2(torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(taps, s=size), s=size)
    return filtered[..., 2 * border : 2 * border + height, 2 * border : 2 * border + width]


def _rounded(layer: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a layer's `forward` with its present weights rounded; channels last, as CPUs multiply pairs of them."""
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
