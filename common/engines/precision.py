"""`--precision fast`: bfloat16 where the processor has it and the network, measured before it is used, can bear it."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import torch
from ignite.engine import Engine, Events
from monai.networks.layers import GaussianFilter
from torch import nn

from .bfloat16 import in_bfloat16, in_float32

logger = logging.getLogger(__name__)
EXACT, FAST = "exact", "fast"
FLOAT32, BFLOAT16 = "float32", "bfloat16"
LIMIT = 0.05  # of the noise in what the network makes
PROBE = 256  # pixels along each side of the image on which the error is measured
SOURCE_NOISE = 0.006  # in [-1, 1] units; 12 HU of the range of 4095, as a soft kernel has


class Rounding(NamedTuple):
    """
    What bfloat16 does to a network's output, in [-1, 1] units.

    Attributes:
        error: root mean square of the difference to float32.
        noise: standard deviation of the noise of the float32 output.
    """

    error: float
    noise: float


class SetPrecision:
    """
    Decides, when a run starts and its weights are loaded, in what a network's body computes.

    `exact` is float32. `fast` is bfloat16 in all but the last layer, where the device multiplies it and the error,
    measured on a phantom with the very weights of the run, is at most 5 % of the output's noise; else it is float32 as
    well, and the log says why.

    Args:
        network: from (B, C, H, W) to images.
        precision: `exact` or `fast`.
        noise: of the source images, in [-1, 1] units.
        facts: of the run, for JSON; what was decided is noted there, under `precision`.

    Raises:
        ValueError: when `precision` is another.
    """

    def __init__(
        self,
        network: nn.Module,
        precision: str,
        facts: dict[str, Any] | None = None,
        *,
        noise: float = SOURCE_NOISE,
    ) -> None:
        if precision not in (EXACT, FAST):
            raise ValueError(f"`precision` must be {EXACT!r} or {FAST!r}, got {precision!r}.")
        self.network, self.precision, self.noise = network, precision, noise
        self.facts = {} if facts is None else facts

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda engine: self.decide(engine.state.device))

    def decide(self, device: str | torch.device) -> dict[str, Any]:
        """Set the network's precision for a device; returns what was decided, for JSON."""
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


def multiplies_bfloat16(device: str | torch.device) -> bool:
    """Whether a device does so by itself; where torch cannot tell, it does not."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


@torch.no_grad()
def rounding(network: nn.Module, device: str | torch.device = "cpu", *, noise: float = SOURCE_NOISE) -> Rounding:
    """Measure what bfloat16 does to a network's output on a `phantom`, and leave the network in bfloat16."""
    channels = int(getattr(generator(network), "arguments", {}).get("in_channels", 1))
    first, second = (phantom(channels, noise=noise, seed=seed).to(device) for seed in (0, 1))
    exact = network(first).float()
    differing = exact - network(second).float()  # what is equal in both is no noise
    in_bfloat16(network)
    error = network(first).float() - exact
    height, width = exact.shape[2:]
    uniform = differing[:, :, 7 * height // 16 : 9 * height // 16, 7 * width // 16 : 9 * width // 16]
    return Rounding(float(error.square().mean().sqrt()), float(uniform.std()) / 2**0.5)


def phantom(channels: int = 1, *, noise: float = SOURCE_NOISE, seed: int = 0) -> torch.Tensor:
    """
    A trunk with two dark lungs, uniform but for noise as that of a soft kernel.

    Args:
        channels: each has noise of its own.
        noise: standard deviation.
        seed: of the noise.

    Returns:
        (1, channels, 256, 256) in [-1, 1].
    """
    axis = torch.linspace(-1, 1, PROBE)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    body = torch.hypot(x / 0.9, y / 0.7) < 1
    lungs = torch.hypot((x.abs() - 0.5) / 0.25, y / 0.4) < 1
    plane = torch.where(lungs, -0.9, torch.where(body, -0.48, -0.97))
    white = torch.randn(1, channels, PROBE, PROBE, generator=torch.Generator().manual_seed(seed))
    soft = GaussianFilter(2, sigma=1.0)(white)
    return (plane + noise * soft / soft.std()).clamp(-1, 1)


def generator(network: nn.Module) -> nn.Module:
    """The network, or that to which it binds a target."""
    inner = getattr(network, "network", network)
    return inner if isinstance(inner, nn.Module) else network
