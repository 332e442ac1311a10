"""What the children do: trainings, translations, phantoms, installations; small enough for a second or two."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from monai.bundle import run as run_bundle
from torch.utils.data import DataLoader, Dataset

from common.phantoms import generate_phantom
from common.release import install_release
from tests.helpers.trainers import trainer

ROOT = Path(__file__).parents[2]


def train(name: str, folder: Path, epochs: int = 3, **options: Any) -> None:
    """A method on random images, resumed where there is a state."""
    torch.set_num_threads(1)
    trainer(name, folder, epochs=epochs, resume=True, ema_decay=0.9, **options).run()


def train_bundle(bundle: str, files: tuple[str | Path, ...], dataset: Path, folder: Path, **options: Any) -> None:
    """What `python -m monai.bundle run training` does after its imports."""
    places = {"output_dir": str(folder / "out"), "models_dir": str(folder / "models")}
    _run("training", bundle, files, dataset_dir=str(dataset), **places, **options)


def translate(bundle: str, dataset: Path, models: Path, options: dict[str, Any], folder: Path) -> None:
    """What `python -m monai.bundle run inference` does after its imports."""
    places = {"output_dir": str(folder), "models_dir": str(models)}
    _run("inference", bundle, ("inference",), dataset_dir=str(dataset), **places, **options)


def evaluate(bundle: str, dataset: Path, models: Path, options: dict[str, Any], folder: Path) -> None:
    """What `python -m monai.bundle run evaluating` does after its imports."""
    places = {"output_dir": str(folder), "models_dir": str(models)}
    _run("evaluating", bundle, ("inference", "evaluate"), dataset_dir=str(dataset), **places, **options)


def _run(run_id: str, bundle: str, files: tuple[str | Path, ...], **options: Any) -> None:
    torch.set_num_threads(1)
    root = ROOT / "bundles" / bundle
    paths = [str(file if isinstance(file, Path) else root / "configs" / f"{file}.yaml") for file in files]
    run_bundle(run_id=run_id, config_file=paths, bundle_root=str(root), **options)


def make_phantom(folder: Path, workers: int = 1) -> None:
    """4 patients of 2 slices of 32 x 32 pixels."""
    generate_phantom("brain", folder, patients=4, slices=2, size=32, workers=workers)


def install(archive: str, folder: Path) -> None:
    install_release(archive, folder)


class Fatal(Dataset):
    """Random images, one of which kills the process that loads it."""

    def __init__(self, fatal: int | None, code: int | None) -> None:
        self.fatal, self.code = fatal, code

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL) if self.code is None else os._exit(self.code)
        generator = torch.Generator().manual_seed(index)
        return {name: torch.rand(1, 32, 32, generator=generator) * 2 - 1 for name in ("source", "target")}


def train_with_workers(folder: Path, fatal: int | None, code: int | None, epochs: int) -> None:
    """Two processes load the data; with `fatal`, one of them ends: by a signal, or with an exit code."""
    torch.set_num_threads(1)
    torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5  # s between two looks at the workers; 5 by default
    run = trainer("nec", folder, epochs=epochs, resume=True, ema_decay=0.9)
    run.data_loader = DataLoader(Fatal(fatal, code), 2, num_workers=2)
    run.state.dataloader = run.data_loader
    run.run()
