"""Small networks and methods of super-resolution for its tests."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import SGD, Optimizer

from common.losses import AdversarialLoss, MultiModalitySRLoss
from common.methods import SRUNIT, SRCycleGAN
from common.networks import (
    DownSamplingGenerator,
    PatchDiscriminatorPyramid,
    SRUNITBackGenerator,
    SRUNITGenerator,
    SuperResolutionGenerator,
)

FACTOR = 2
SIZE = 12  # of a clinical patch


def sgd(*networks: nn.Module) -> Optimizer:
    return SGD([p for network in networks for p in network.parameters()], lr=1e-2)


def batch(size: int = 2) -> dict[str, torch.Tensor]:
    """`source` clinical (size, 1, 12, 12) and `target` micro (size, 1, 24, 24), in [-1, 1]."""
    random = torch.Generator().manual_seed(0)
    sides = {"source": SIZE, "target": FACTOR * SIZE}
    return {name: torch.rand(size, 1, side, side, generator=random) * 2 - 1 for name, side in sides.items()}


def super_resolution_method(name: str, *, factor: int = FACTOR, **options: float | None) -> SRCycleGAN | SRUNIT:
    torch.manual_seed(0)
    sizes = {"factor": factor, "channels": 8, "num_res_blocks": 1}
    if name == "sr_cyclegan":
        networks = SuperResolutionGenerator(**sizes), DownSamplingGenerator(**sizes)
    else:
        networks = SRUNITGenerator(**sizes), SRUNITBackGenerator(**sizes)
    target = PatchDiscriminatorPyramid(num_scales=1, channels=4, num_layers=2)
    source = PatchDiscriminatorPyramid(num_scales=1, channels=4, num_layers=1)
    method = SRCycleGAN if name == "sr_cyclegan" else SRUNIT
    return method(
        *networks,
        target_discriminator=target,
        source_discriminator=source,
        generator_optimizer=sgd(*networks),
        discriminator_optimizer=sgd(target, source),
        adversarial_loss=AdversarialLoss("least_squares"),
        **{"mmsr_loss": MultiModalitySRLoss(factor), **options},
    )
