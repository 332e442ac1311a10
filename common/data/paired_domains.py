"""Aligned slices of one patient in two domains: what a supervised conversion trains on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable
from torch.utils.data import Dataset

from .multi_domain import DomainVolume


class PairedDomainsDataset(Dataset):
    """
    A slice in one domain, and the same slice in another one drawn at random.

    An item depends on (`seed`, epoch, index) alone, as in `UnpairedDataset`.

    Args:
        volumes: of patients who have several of the domains, on one grid each.
        domains: names; an item's `domain` and `target` are places in this list.
        transform: applied to `{"image": (1, X, Y) float32 in HU}` of both slices; MONAI's random transforms are seeded
            alike for both.
        seed: of the draws.

    Raises:
        ValueError: when a patient has one domain alone, or volumes of different shapes.

    Example:
        >>> soft, sharp = (DomainVolume(np.zeros((3, 8, 8), np.int16), (0.7, 0.7), k, "p") for k in ("B30f", "B70f"))
        >>> item = PairedDomainsDataset([soft, sharp], ["B30f", "B70f"], transform=lambda item: item)[1, 4]
        >>> int(item["domain"]), int(item["target"]), tuple(item["image"].shape), tuple(item["truth"].shape)
        (1, 0, (1, 8, 8), (1, 8, 8))
    """

    def __init__(
        self, volumes: Sequence[DomainVolume], domains: Sequence[str], *, transform: Callable, seed: int = 0
    ) -> None:
        self.domains, self.transform, self.seed = list(domains), transform, seed
        self.patients: dict[str, dict[str, DomainVolume]] = {}
        for volume in volumes:
            self.patients.setdefault(volume.patient, {})[volume.domain] = volume
        for patient, own in self.patients.items():
            shapes = {volume.slices.shape for volume in own.values()}
            if len(own) < 2 or len(shapes) > 1:
                raise ValueError(
                    f"patient {patient!r} must have volumes of two domains on one grid, got {sorted(own)} of the shapes"
                    f" {sorted(shapes)}."
                )
        self.places = [(v.patient, v.domain, z) for v in volumes for z in range(len(v.slices))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, epoch_and_index: tuple[int, int] | int) -> dict[str, torch.Tensor]:
        epoch, index = epoch_and_index if isinstance(epoch_and_index, tuple) else (0, epoch_and_index)
        rng = np.random.default_rng([self.seed, epoch, index])
        patient, domain, z = self.places[index]
        own = self.patients[patient]
        others = [name for name in self.domains if name in own and name != domain]
        target = others[int(rng.integers(len(others)))]
        seed = int(rng.integers(2**31))
        spacing = own[domain].spacing_mm
        return {
            "image": self._transformed(own[domain], z, seed),
            "truth": self._transformed(own[target], z, seed),
            "domain": torch.tensor(self.domains.index(domain)),
            "target": torch.tensor(self.domains.index(target)),
            "spacing_mm": torch.tensor(sum(spacing) / 2),
        }

    def _transformed(self, volume: DomainVolume, z: int, seed: int) -> torch.Tensor:
        item: dict[str, Any] = {"image": torch.from_numpy(volume.slices[z].astype(np.float32))[None]}
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed=seed)
        return torch.as_tensor(self.transform(item)["image"])
