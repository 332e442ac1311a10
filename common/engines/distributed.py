"""Data-parallel training without a wrapper around the networks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import distributed, nn


def is_distributed() -> bool:
    """Whether this process is one of several, started by `torchrun`."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """This process's number; 0 when it is alone. Rank 0 writes the files."""
    return distributed.get_rank() if is_distributed() else 0


def broadcast_weights(networks: Iterable[nn.Module]) -> None:
    """Gives every rank the weights and buffers of rank 0."""
    if is_distributed():
        for network in networks:
            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, src=0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """
    Averages the gradients over the ranks, in one message.

    `DistributedDataParallel` does this from hooks in `forward`; a GAN calls parts of a network (`encode`), calls it
    several times before one backward pass, and freezes it in between, each of which those hooks forbid or restrict.
    Averaging after the backward pass has the same result and leaves the networks what they are.
    """
    if not is_distributed():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, averaged in zip(gradients, flat.split([g.numel() for g in gradients])):
        gradient.copy_(averaged.view_as(gradient))
