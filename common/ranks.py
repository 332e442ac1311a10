"""The processes of one training: which one this is, and what they draw and hold together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import distributed


def is_distributed() -> bool:
    """Whether this process is one of several, started by `torchrun`."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """This process's number; 0 when it is alone. Rank 0 writes the files."""
    return distributed.get_rank() if is_distributed() else 0


def processes() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if is_distributed() else 1


def joined(part: torch.Tensor) -> torch.Tensor:
    """
    The batch of all processes together, in the order in which a single process would have drawn it.

    Args:
        part: this process's, (B, ...), of equal shape in all of them.

    Returns:
        (B * processes, ...), detached: image `b` of process `r` is at `b * processes + r`, as `EpochSampler` deals.

    Example:
        >>> joined(torch.tensor([3, 1])).tolist()  # alone
        [3, 1]
    """
    part = part.detach()
    if processes() == 1:
        return part
    parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(processes())]
    distributed.all_gather(parts, part.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)


def own_part(batch: torch.Tensor) -> torch.Tensor:
    """
    This process's part of the batch of all processes: (B * processes, ...) to (B, ...); undoes `joined`.

    Example:
        >>> own_part(torch.tensor([3, 1])).tolist()  # alone
        [3, 1]
    """
    return batch[rank() :: processes()]


def draw_for_each(count: int, draw: Callable[[int], torch.Tensor]) -> torch.Tensor:
    """
    Random numbers of each image of this process's batch: those that a single process would draw for the joined batch.

    All processes have the same random state (`TranslationTrainer` sees to it), draw for all images, and take their own.

    Args:
        count: number B of this process's images.
        draw: from a number of images to that many draws, (number, ...).

    Returns:
        (B, ...).

    Example:
        >>> draw_for_each(2, lambda number: torch.rand(number, 1)).shape
        torch.Size([2, 1])
    """
    return own_part(draw(count * processes()))
