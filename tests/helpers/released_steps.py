"""What the tests of the official overlays share: weights without a random generator, images, and a step taken apart.

`released_steps.json` holds the loss terms of one training step of each released code and, of each network's gradient,
its length and its product with a fixed vector. It was made by running those codes (their commits stand in the file) on
the CPU, with the weights of `fill` in the order of `parameters()` and the images of `image`; places and orders that
they draw were given. Of their code nothing is here: `released_nec.py`, `released_sr.py` and `released_ggcl.py` are
written anew from what it does, and are themselves held to those numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import nn

VALUES = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))


def scatter(shape, seed: float) -> torch.Tensor:
    """Numbers in [-0.5, 0.5) that look random and are the same for every version of torch."""
    place = torch.arange(int(torch.tensor(shape).prod()), dtype=torch.float64)
    values = (12.9898 * (place + 1) + 78.233 * seed).sin() * 43758.5453
    return (values - values.floor() - 0.5).reshape(shape)


def image(seed: int, *shape: int) -> torch.Tensor:
    """Smooth images in [-1, 1] with some noise."""
    axes = [torch.linspace(0, 3 + seed, side, dtype=torch.float64) for side in shape[2:]]
    waves = axes[0].sin()[:, None] * (1.7 * axes[1] + seed).cos()[None]
    batch = torch.linspace(0.6, 0.9, shape[0], dtype=torch.float64)[:, None, None, None]
    return (batch * waves + 0.2 * scatter(shape, 31 + seed)).clamp(-1, 1).float()


@torch.no_grad()
def fill(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give each parameter its values: kernels of unit gain, small biases, slopes near those of the layers."""
    for index, (name, parameter) in enumerate(network.named_parameters()):
        values = scatter(parameter.shape, index + 101 * seed)
        if parameter.dim() > 1:
            values = values * (12 / parameter[0].numel()) ** 0.5
        elif name.endswith("bias"):
            values = 0.2 * values
        else:
            values = (0.25 if parameter.numel() == 1 else 1.0) + 0.2 * values
        parameter.copy_(values)
    return network


@torch.no_grad()
def fill_power_vectors(network: nn.Module) -> nn.Module:
    """Give torch's old spectral norm the vectors to which its power iteration converges.

    The released codes begin with random ones; torch's present spectral norm with converged ones, and it takes the two
    halves of an iteration in the other order, which then makes no difference.
    """
    for module in network.modules():
        if hasattr(module, "weight_orig"):
            left, _, right = torch.linalg.svd(module.weight_orig.flatten(1).double(), full_matrices=False)
            module.weight_u.copy_(left[:, 0])
            module.weight_v.copy_(right[0])
    return network


@contextmanager
def given_draws() -> Iterator[None]:
    """Make `torch.rand` and `torch.randperm` return the same numbers for every version of torch."""
    rand, randperm = torch.rand, torch.randperm

    def shape_of(size):
        return tuple(size[0]) if size and not isinstance(size[0], int) else size

    torch.rand = lambda *size, **_: (scatter(shape_of(size), 5) + 0.5).float()  # type: ignore[assignment]
    torch.randperm = lambda number, **_: scatter((number,), 6).argsort()  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.rand, torch.randperm = rand, randperm


def gradient(network: nn.Module) -> torch.Tensor:
    """The gradient of all parameters in one vector; 0 where there is none."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in network.parameters()])


def summary(vector: torch.Tensor) -> list[float]:
    """Length of a gradient and its product with a fixed vector."""
    vector = vector.double()
    return [float(vector.norm()), float(vector @ scatter(vector.shape, 7))]


class RecordedStep:
    """Stands in for an engine: each update's gradients of the networks that it steps, before any step is taken."""

    def __init__(self, method, *, epoch: int = 2, step: int = 1) -> None:
        self.method, self.epoch, self.step = method, epoch, step
        self.gradients: dict[str, torch.Tensor] = {}

    def autocast(self) -> nullcontext:
        return nullcontext()

    def update(self, optimizer, loss) -> None:
        for network in self.method.networks.values():
            network.zero_grad(set_to_none=True)
        loss.backward()
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, network in self.method.networks.items():
            if all(id(p) in held for p in network.parameters()):
                self.gradients[name] = gradient(network)


def receptive_field(network: nn.Module, side: int) -> int:
    """Pixels along a side of a square image that the middle of a discriminator's first map depends on.

    The image is constant: an instance norm of a constant has no slope, and is therefore left out.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.InstanceNorm2d):
                setattr(module, name, nn.Identity())
    pixels = scatter((1, 1, side, side), 3).float().requires_grad_()
    logits = network(pixels)
    logits = logits[0] if isinstance(logits, list | tuple) else logits
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    return int((pixels.grad[0, 0].abs().sum(dim=0) > 0).sum())
