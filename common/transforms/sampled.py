"""Looking at a volume without a copy of it, as it may be a view of the disk: voxels evenly spread, and its planes."""

from __future__ import annotations

import torch


def planes(volume: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """
    The slices of a volume (C, X, Y, Z) along the axis in which it is stored.

    Example:
        >>> len(planes(torch.zeros(1, 4, 5, 6))), len(planes(torch.zeros(6, 5, 4, 1).permute(3, 2, 1, 0)))
        (4, 6)
    """
    return volume.as_subclass(torch.Tensor).unbind(max((1, 2, 3), key=volume.stride))


def extremes(volume: torch.Tensor) -> tuple[float, float]:
    """Smallest and largest value of a volume (C, X, Y, Z), plane by plane."""
    parts = planes(volume)
    return min(float(part.min()) for part in parts), max(float(part.max()) for part in parts)


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
