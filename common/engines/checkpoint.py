"""Writing and reading the full state of a training, as plain tensors and numbers."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..networks.tensor_file import DamagedFileError, read_tensors

if TYPE_CHECKING:
    from .trainer import TranslationTrainer

logger = logging.getLogger(__name__)
LAST = "last.pt"


def checksum(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:
    """`hashlib.file_digest` came with Python 3.11."""
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


def training_state(trainer: TranslationTrainer) -> dict[str, Any]:
    """
    Everything that a training needs to go on as if it had not stopped.

    Random numbers are not in it: data, transforms and networks are seeded anew for each (seed, epoch), so that the
    state at the end of an epoch determines all that follows.
    """
    method = trainer.method
    return {
        "epoch": trainer.state.epoch,
        "epoch_length": trainer.state.epoch_length,
        "best_metric": trainer.best_metric,
        "best_epoch": trainer.best_epoch,
        "networks": {name: network.state_dict() for name, network in method.networks.items()},
        "optimizers": {name: optimizer.state_dict() for name, optimizer in method.optimizers.items()},
        "pools": {name: pool.state_dict() for name, pool in method.pools.items()},
        "schedulers": [scheduler.state_dict() for scheduler in trainer.lr_schedulers],
        "scaler": trainer.grad_scaler.state_dict(),
        "ema": None if trainer.ema is None else trainer.ema.state_dict(),
    }


def restore_training(trainer: TranslationTrainer, path: str | Path) -> None:
    """
    Puts a state of `training_state` back.

    Raises:
        ValueError: when the file is not such a state, or belongs to other networks.
    """
    try:
        state = read_tensors(path, map_location=trainer.state.device)
        epoch = state["epoch"]
    except (DamagedFileError, KeyError, TypeError) as err:
        raise ValueError(
            f"{str(path)!r} is not the state of a training, or is damaged ({type(err).__name__}: {err}). Remove it to"
            " start anew, put a copy of it back, or give another `output_dir`."
        ) from err
    method = trainer.method
    try:
        for group, parts in (("networks", method.networks), ("optimizers", method.optimizers), ("pools", method.pools)):
            if state[group].keys() != parts.keys():
                raise ValueError(f"it holds {group} {sorted(state[group])}, the config has {sorted(parts)}")
            for name, part in parts.items():
                part.load_state_dict(state[group][name])
        for scheduler, saved in zip(trainer.lr_schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        if (trainer.ema is None) != (state["ema"] is None):
            raise ValueError("`ema_decay` is set in only one of the checkpoint and the config")
    except (RuntimeError, ValueError, KeyError) as err:
        raise ValueError(
            f"The training in {str(path)!r} does not fit this config: {str(err).splitlines()[0]}. Resume with the"
            " config that it was started with, give another `--output_dir`, or start anew with `--resume False`."
        ) from err
    if trainer.ema is not None:
        trainer.ema.load_state_dict(state["ema"])
    trainer.grad_scaler.load_state_dict(state["scaler"])
    trainer.best_metric, trainer.best_epoch = state["best_metric"], state["best_epoch"]
    if (before := state.get("epoch_length", trainer.state.epoch_length)) != trainer.state.epoch_length:
        logger.warning(
            f"An epoch of the training in {str(path)!r} had {before} iterations and now has"
            f" {trainer.state.epoch_length}: it does not go on as it began. With the same data, choose `batch_size` so"
            " that it is the same number as before when it is multiplied by the number of processes."
        )
    trainer.state.epoch = epoch
    trainer.state.iteration = epoch * trainer.state.epoch_length
