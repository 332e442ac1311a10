"""A trainer of a small method on random images, and what it leaves: its weights and the rows of its files."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from torch.optim import Adam
from torch.utils.data import DataLoader

from common.data import EpochSampler, UnpairedDataset
from common.engines import TranslationTrainer

from .methods import method, schedulers


def images(seed: int, count: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(1, 32, 32, generator=generator) * 2 - 1 for _ in range(count)]


def trainer(
    name: str, folder: Path | None, *, epochs: int = 4, batch_size: int = 2, seed: int = 0, optimizer=Adam, **options
) -> TranslationTrainer:
    dataset = UnpairedDataset(images(1), images(2))
    loader = DataLoader(dataset, batch_size, sampler=EpochSampler(len(dataset)))
    built = method(name, seed=seed, optimizer=optimizer)
    options.setdefault("lr_schedulers", schedulers(built, 4))
    places = {} if folder is None else {"output_dir": folder / "out", "models_dir": folder / "models"}
    return TranslationTrainer("cpu", epochs, loader, built, progress=False, log_interval=1, **places, **options)


def weights(run: TranslationTrainer) -> dict[str, torch.Tensor]:
    return {
        f"{n}.{key}": value.clone()
        for n, network in run.method.networks.items()
        for key, value in network.state_dict().items()
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def losses(path: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(path)]
