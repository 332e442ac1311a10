"""Data sets and a sampler whose items and order depend on seed and epoch alone, so that training can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader
from monai.transforms import Randomizable
from torch.utils.data import Dataset, Sampler

from ..distributed import processes, rank

LONG = 10**7  # samples from which on an epoch of fewer is drawn without a permutation of all, which takes 8 bytes each
Entries = Sequence[Mapping[str, Any]] | None


class SeededDataset(Dataset):
    """A data set whose items depend on (`seed`, epoch, index) alone, whatever was drawn before and in any process.

    A resumed training sees what an uninterrupted one would have seen, and no generator state has to be saved.
    Subclasses set `seed` and make an item in `draw`.

    Attributes:
        seed: Seed of the items.
        data: Entries of the datalist that the images come from: MONAI's `train#dataset#data`, which its programs read
            and replace, and which its trackers log. In the bundles' configs the volumes are loaded from them.
    """

    seed: int
    data: Entries = None

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, epoch_and_index: tuple[int, int] | int) -> dict[str, torch.Tensor]:
        """Draw an item by (epoch, index); an index alone belongs to epoch 0."""
        epoch, index = epoch_and_index if isinstance(epoch_and_index, tuple) else (0, epoch_and_index)
        if not 0 <= index < len(self):
            raise IndexError(f"index must lie in 0 ... {len(self) - 1}, got {index}.")
        return self.draw(epoch, index, np.random.default_rng([self.seed, epoch, index]))

    def draw(self, epoch: int, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Make the item of an epoch and an index.

        Args:
            epoch: Epoch, counted from 1.
            index: Index of the item, from 0.
            rng: The only source of its random numbers.
        """
        raise NotImplementedError


def apply_seeded(transform: Callable | None, item: dict[str, Any], seed: int) -> dict[str, Any]:
    """Apply a transform to an item, if there is one; MONAI's random transforms draw from `seed`."""
    if isinstance(transform, Randomizable):
        transform.set_random_state(seed=seed)
    return item if transform is None else transform(item)


def draw_seed(rng: np.random.Generator) -> int:
    """Draw the seed of a transform."""
    return int(rng.integers(2**31))


class EpochSampler(Sampler):
    """One permutation of the data per epoch, as pairs (epoch, index), split over the ranks of distributed training.

    The permutation depends on (`seed`, epoch). Ranks take turns within it, so that the batches of all ranks together
    are the batch that a single process with the joined batch size would have drawn.

    Args:
        length: Number of samples in the data set.
        samples_per_epoch: Number of samples per epoch (repeated if larger than `length`); default: all.
        seed: Seed of the permutations.
    """

    def __init__(self, length: int, *, samples_per_epoch: int | None = None, seed: int = 0) -> None:
        self.length, self.seed, self.epoch = length, seed, 1
        self.samples_per_epoch = samples_per_epoch or length

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 1; the trainer calls this when an epoch starts."""
        self.epoch = epoch

    def _ranks(self) -> tuple[int, int]:
        return rank(), processes()

    def __len__(self) -> int:
        return self.samples_per_epoch // self._ranks()[1]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        own, world_size = self._ranks()
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.samples_per_epoch <= self.length >= LONG:
            order = rng.choice(self.length, self.samples_per_epoch, replace=False)
        else:
            order = self._permutations(rng)
        for index in order[own::world_size][: len(self)]:
            yield self.epoch, int(index)

    def _permutations(self, rng: np.random.Generator) -> np.ndarray:
        rounds = -(-self.samples_per_epoch // self.length)
        return np.concatenate([rng.permutation(self.length) for _ in range(rounds)])[: self.samples_per_epoch]


def epoch_loader(
    dataset: Dataset,
    *,
    batch_size: int,
    samples_per_epoch: int | None = None,
    num_workers: int = 0,
    seed: int = 0,
    sampler: Sampler | Mapping[str, Any] | None = None,
    drop_last: bool = True,
    **options: Any,
) -> DataLoader:
    """Build the loader of a training, whose epochs depend on (`seed`, epoch) alone.

    Args:
        dataset: A `SeededDataset`: its items depend on (epoch, index).
        batch_size: Items in an iteration of one process.
        samples_per_epoch: Items in an epoch, see `EpochSampler`; default: all.
        num_workers: Processes that prepare items; 0: the training itself.
        seed: Seed of the order.
        sampler: Another sampler than `EpochSampler`, or further arguments of it.
        drop_last: Whether to leave out the rest of an epoch that fills no batch.
        options: Further arguments of MONAI's `DataLoader`.

    Raises:
        ValueError: If `sampler` gives an argument that `EpochSampler` has not.

    Example:
        >>> loader = epoch_loader([0.0, 1.0, 2.0], batch_size=2, samples_per_epoch=4)
        >>> len(loader), loader.sampler.length
        (2, 3)
    """
    if sampler is None or isinstance(sampler, Mapping):
        arguments = {"samples_per_epoch": samples_per_epoch, "seed": seed}
        if unknown := sorted(set(sampler or ()) - {"length", *arguments}):
            raise ValueError(f"`sampler` may give length, samples_per_epoch and seed of the order, got {unknown}.")
        sampler = EpochSampler(**{"length": len(dataset), **arguments, **(sampler or {})})  # type: ignore[arg-type]
    return DataLoader(
        dataset, num_workers=num_workers, batch_size=batch_size, sampler=sampler, drop_last=drop_last, **options
    )
