"""Data-parallel training without a wrapper around the networks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import distributed, nn

from ..ranks import is_distributed, joined, processes


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
    flat /= processes()
    for gradient, averaged in zip(gradients, flat.split([g.numel() for g in gradients])):
        gradient.copy_(averaged.view_as(gradient))


def check_same_epoch(epoch: int, device: torch.device) -> None:
    """
    Refuses to train when the ranks resumed different states.

    Raises:
        ValueError: on every rank.
    """
    epochs = joined(torch.tensor([epoch], device=device)).tolist()
    if len(set(epochs)) > 1:
        raise ValueError(
            f"All processes must resume the same state, but they are at the epochs {epochs}, in the order of their"
            " ranks: give an `--output_dir` that all nodes see, or `--resume False`."
        )
