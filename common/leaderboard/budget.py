"""One budget for all methods: how many epochs of how many images give each generator equally many updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from monai.bundle import ConfigParser


@dataclass(frozen=True)
class Schedule:
    """
    The length of a training.

    Attributes:
        epochs: of the training.
        samples_per_epoch: images that the data loader gives in an epoch.
        batch_size: images in an iteration.
        critic_steps: iterations for each update of the generator.
        image_size: pixels along each side of a training image.
    """

    epochs: int
    samples_per_epoch: int
    batch_size: int
    critic_steps: int
    image_size: int


def schedule(files: Sequence[Path], budget: int, *, epochs: int | None = None) -> Schedule:
    """
    The schedule with which a method's generator is updated with `budget` images.

    StarGAN and its kin update the generator in every `critic_steps`-th iteration, and get as many more images.

    Args:
        files: the configs of a training, in order.
        budget: images with which the generator is updated.
        epochs: their number; default: the configs'.

    Raises:
        ValueError: when the budget cannot be divided into whole batches and equal epochs.
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
