"""The budget of a leaderboard, which gives every generator equally many updates, and the cost of a training."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from monai.bundle import ConfigParser
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..networks.definition import input_channels


@dataclass(frozen=True)
class Schedule:
    """The length of a training.

    Args:
        epochs: Number of epochs.
        samples_per_epoch: Number of images that the data loader gives per epoch.
        batch_size: Number of images per iteration.
        critic_steps: Number of iterations per update of the generator.
        image_size: Number of pixels along each side of a training image.
    """

    epochs: int
    samples_per_epoch: int
    batch_size: int
    critic_steps: int
    image_size: int


def schedule(files: Sequence[Path], budget: int, *, epochs: int | None = None) -> Schedule:
    """Return the schedule that updates a method's generator with `budget` images.

    Methods of the StarGAN family update the generator in every `critic_steps`-th iteration and get more images by that
    factor.

    Args:
        files: Configs of a training, in order.
        budget: Number of images with which the generator is updated.
        epochs: Number of epochs; default: that of the configs.

    Raises:
        ValueError: If the budget cannot be divided into whole batches and equal epochs.
    """
    parser = ConfigParser()
    parser.read_config([str(path) for path in files])
    length = epochs or int(parser.get_parsed_content("max_epochs"))
    batch = int(parser.get_parsed_content("batch_size"))
    config = cast(dict[str, Any], parser.config)
    steps = int(parser.get_parsed_content("method#critic_steps")) if "critic_steps" in config["method"] else 1
    size = parser.get_parsed_content("image_size" if "image_size" in config else "patch_size")
    unit = length * batch
    if budget < unit or budget % unit:
        lower = budget // unit * unit
        choices = f"{lower} or {lower + unit}" if lower else f"{unit}"
        raise ValueError(
            f"`budget` must be a multiple of {unit} images ({length} epochs of batches of {batch}, so that each"
            f" generator gets exactly as many), got {budget}: give {choices}, or other `epochs`."
        )
    return Schedule(length, budget // length * steps, batch, steps, int(size))


def training_cost(folder: Path, configs: Path, plan: Schedule) -> dict[str, Any]:
    """Measure the cost of a training by the files that it left.

    Args:
        folder: Folder of the run, with `training/`, `models/` and `memory.json`.
        configs: Folder of the bundle's configs.
        plan: Schedule that the training followed.

    Returns:
        Numbers of generator images, of updates of the generator and of the discriminator, and of parameters trained
        and deployed; seconds in total and per update of the generator; GFLOP of the translation of one image of the
        training's size; peak memory in MB.
    """
    state = torch.load(folder / "training" / "last.pt", map_location="cpu", weights_only=True)
    updates = {name: _steps(optimizer) for name, optimizer in state["optimizers"].items()}
    seconds = training_seconds(folder / "training" / "losses.csv")
    network, channels = deployed_network(configs, folder / "models")
    generator = max((steps for name, steps in updates.items() if "discriminator" not in name), default=0)
    return {
        "generator_images": generator * plan.batch_size,
        "generator_updates": generator,
        "discriminator_updates": max((steps for name, steps in updates.items() if "discriminator" in name), default=0),
        "seconds": round(seconds, 1),
        "seconds_per_update": round(seconds / max(generator, 1), 4),
        "parameters_trained": sum(_size(weights) for weights in state["networks"].values()),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "gflop": round(forward_flop(network, channels, plan.image_size) / 1e9, 4),
        "image_size": plan.image_size,
        **json.loads((folder / "memory.json").read_text(encoding="utf-8")),
    }


def training_seconds(losses: Path) -> float:
    """Read the seconds of a training from its `losses.csv`, whose clock restarts where the training was resumed."""
    with losses.open(newline="", encoding="utf-8") as file:
        readings = [float(row["seconds"]) for row in csv.DictReader(file)]
    falls = [before for before, after in itertools.pairwise(readings) if after < before]
    return sum(falls) + (readings[-1] if readings else 0.0)


def deployed_network(configs: Path, models: Path) -> tuple[nn.Module, int]:
    """Build the network that `inference.yaml` runs; return it with the number of channels of its one input."""
    parser = ConfigParser()
    parser.read_config(str(configs / "inference.yaml"))
    parser.update({"bundle_root": str(configs.parent), "models_dir": str(models), "device": "$torch.device('cpu')"})
    network = parser.get_parsed_content("network")
    return network, input_channels(network)


def forward_flop(network: nn.Module, channels: int, size: int) -> int:
    """Count the floating-point operations of one image `(1, channels, size, size)`; a multiply-add is two.

    Example:
        >>> forward_flop(nn.Conv2d(1, 2, 3, padding=1), 1, 8) == 2 * 2 * 9 * 8 * 8
        True
    """
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.eval()(torch.zeros(1, channels, size, size))
    return counter.get_total_flops()


def _steps(optimizer: dict[str, Any]) -> int:
    """Return the number of updates that an Adam optimizer counted."""
    return max((int(state["step"]) for state in optimizer["state"].values()), default=0)


def _size(weights: dict[str, torch.Tensor]) -> int:
    """Return the number of values in a state dict, without the vectors of the spectral norm, which are not trained."""
    kept = (tensor for name, tensor in weights.items() if not name.endswith(("._u", "._v", "num_batches_tracked")))
    return sum(tensor.numel() for tensor in kept)
