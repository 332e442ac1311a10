"""What every translation method is: networks, optimizers, and one training iteration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer


class TrainingServices(Protocol):
    """What an engine offers to a method; `common.engines.TranslationTrainer` implements it."""

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 1."""

    @property
    def step(self) -> int:
        """The number of the optimizers' step in progress since the training began, from 1; of one or more batches."""

    def autocast(self) -> AbstractContextManager:
        """Mixed precision, when the training uses it."""

    def update(self, optimizer: Optimizer | Sequence[Optimizer], loss: torch.Tensor) -> None:
        """Back-propagates `loss` and steps one optimizer or several, with all that belongs to a step."""


class TranslationMethod:
    """
    Base of the method classes: it names the parts that an engine saves, resumes and moves.

    A subclass performs one iteration in `__call__(trainer, batch)` and returns a flat dict: scalar losses, and
    the images `real_source`, `fake_target`, `real_target` for the pictures.

    Args:
        generator: the network that will be deployed.
        networks: all networks by name; must hold the generator.
        optimizers: all optimizers by name.
        pools: image pools by name.
    """

    def __init__(
        self,
        generator: nn.Module,
        *,
        networks: dict[str, nn.Module],
        optimizers: dict[str, Optimizer],
        pools: dict[str, Any] | None = None,
    ) -> None:
        self.generator = generator
        self.networks = networks
        self.optimizers = optimizers
        self.pools = pools or {}

    def __call__(self, trainer: TrainingServices, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One iteration on a batch of images in [-1, 1]: `source` and `target`, each (B, C, H, W[, D]), as a rule."""
        raise NotImplementedError


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Inside, the weights of `networks` receive no gradient; what flows through them does."""
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
