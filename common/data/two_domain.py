"""Training data of one pair of CT domains: a slice of the source, and an unpaired one of the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from .multi_domain import DomainVolume, MultiDomainDataset


class TwoDomainDataset(Dataset):
    """
    Slice `i` of the source, and a slice of the target drawn at random: what the methods of two domains train on.

    An item depends on (`seed`, epoch, index) alone, as in `UnpairedDataset`.

    Args:
        volumes: of these domains, and maybe of others; each holds at least one slice.
        domains: names of the source and the target.
        transform: see `MultiDomainDataset`; source and target get random transforms of their own.
        seed: of the draws.

    Raises:
        ValueError: when there are not two different domains, or one of them has no volume.

    Example:
        >>> soft, sharp = (DomainVolume(np.zeros((3, 8, 8), np.int16), (0.7, 0.7), k, "p") for k in ("B30f", "B70f"))
        >>> item = TwoDomainDataset([soft, sharp], ["B70f", "B30f"], transform=lambda item: item)[1, 2]
        >>> {name: tuple(image.shape) for name, image in item.items()}
        {'source': (1, 8, 8), 'target': (1, 8, 8)}
    """

    def __init__(
        self, volumes: Sequence[DomainVolume], domains: Sequence[str], *, transform: Callable, seed: int = 0
    ) -> None:
        if len(domains) != 2 or domains[0] == domains[1]:
            raise ValueError(f"`domains` must be two different ones, source and target, got {list(domains)}.")
        self.source, self.target = (
            MultiDomainDataset([v for v in volumes if v.domain == domain], [domain], transform=transform, seed=seed + k)
            for k, domain in enumerate(domains)
        )
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, epoch_and_index: tuple[int, int] | int) -> dict[str, torch.Tensor]:
        epoch, index = epoch_and_index if isinstance(epoch_and_index, tuple) else (0, epoch_and_index)
        other = int(np.random.default_rng([self.seed, epoch, index]).integers(len(self.target)))
        return {"source": self.source[epoch, index]["image"], "target": self.target[epoch, other]["image"]}
