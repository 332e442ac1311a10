"""What a training cost: updates, seconds, parameters, floating-point operations, memory."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .budget import Schedule


def training_cost(folder: Path, configs: Path, plan: Schedule) -> dict[str, Any]:
    """
    The cost of the training in `folder`, as found in what it left there.

    Args:
        folder: holds `training/`, `models/` and `memory.json`.
        configs: of the bundle.
        plan: the schedule that it followed.

    Returns:
        numbers of generator images, generator and discriminator updates, seconds in all and a generator update,
        parameters trained and deployed, GFLOP of one translation of an image of the training's size, peaks in MB.
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
        **json.loads((folder / "memory.json").read_text()),
    }


def training_seconds(losses: Path) -> float:
    """Seconds of a training from its `losses.csv`, whose clock starts anew where the training was resumed."""
    with losses.open(newline="") as file:
        readings = [float(row["seconds"]) for row in csv.DictReader(file)]
    falls = [before for before, after in itertools.pairwise(readings) if after < before]
    return sum(falls) + (readings[-1] if readings else 0.0)


def deployed_network(configs: Path, models: Path) -> tuple[nn.Module, int]:
    """The network of one tensor that `inference.yaml` runs, and the channels of that tensor."""
    parser = ConfigParser()
    parser.read_config(str(configs / "inference.yaml"))
    parser.update({"bundle_root": str(configs.parent), "models_dir": str(models), "device": "$torch.device('cpu')"})
    metadata = json.loads((configs / "metadata.json").read_text())
    image = next(iter(metadata["network_data_format"]["inputs"].values()))
    return parser.get_parsed_content("network"), int(image["num_channels"])


def forward_flop(network: nn.Module, channels: int, size: int) -> int:
    """
    Floating-point operations of one image (1, channels, size, size), counted by torch: a multiply-add is two.

    Example:
        >>> forward_flop(nn.Conv2d(1, 2, 3, padding=1), 1, 8) == 2 * 2 * 9 * 8 * 8
        True
    """
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.eval()(torch.zeros(1, channels, size, size))
    return counter.get_total_flops()


def _steps(optimizer: dict[str, Any]) -> int:
    """Updates that an Adam counted."""
    return max((int(state["step"]) for state in optimizer["state"].values()), default=0)


def _size(weights: dict[str, torch.Tensor]) -> int:
    """Numbers in a state dict, without the vectors of the spectral norm, which are not trained."""
    kept = (tensor for name, tensor in weights.items() if not name.endswith(("._u", "._v", "num_batches_tracked")))
    return sum(tensor.numel() for tensor in kept)
