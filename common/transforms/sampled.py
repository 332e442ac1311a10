"""Some of a volume's voxels, evenly spread: enough for its distribution, and never a copy of it."""

from __future__ import annotations

import torch


def sampled(volume: torch.Tensor, most: int) -> torch.Tensor:
    """
    About so many voxels of a volume, or all of them if there are fewer.

    Args:
        volume: (C, X, Y, Z), whose voxels may lie on the disk: only those that are taken are copied.
        most: a little more may come.

    Returns:
        (N,).

    Example:
        >>> sampled(torch.arange(1000).view(1, 10, 10, 10), 100).shape, sampled(torch.zeros(1, 2, 2, 2), 100).shape
        (torch.Size([64]), torch.Size([8]))
    """
    step = 1
    while volume.numel() > most * step**3:
        step += 1
    return volume[:, ::step, ::step, ::step].reshape(-1)
