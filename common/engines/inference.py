"""What `inference.yaml` needs beside MONAI: the inferer that fits the weights, and their loading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer, SliceInferer, SlidingWindowInferer
from torch import nn

from ..networks import load_weights
from .batch_size import fitting_batch_size
from .checkpoint import checksum


class AxialInferer(SliceInferer):
    """
    Applies a 2-D network to whole axial slices of volumes (B, C, X, Y, Z).

    Args:
        batch_size: slices at a time; None: as many as the memory holds, see `fitting_batch_size`.

    Example:
        >>> AxialInferer()(torch.zeros(1, 1, 8, 8, 5), nn.Conv2d(1, 2, 3, padding=1)).shape
        torch.Size([1, 2, 8, 8, 5])
    """

    def __init__(self, *, batch_size: int | None = None) -> None:
        super().__init__(roi_size=(-1, -1), spatial_dim=2, sw_batch_size=batch_size or 1)
        self.batch_size = batch_size

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.batch_size is None:
            self.batch_size = fitting_batch_size(network, inputs[:1, ..., 0])
            self.sw_batch_size = self.batch_size
        return super().__call__(inputs, network, *args, **kwargs)


def volume_inferer(definition: Mapping[str, Any], *, batch_size: int | None = None, overlap: float = 0.5) -> Inferer:
    """
    How a network is applied to a volume of shape (B, C, X, Y, Z).

    A 2-D network sees whole axial slices: no tile, no seam. A 3-D network sees overlapping windows, blended by a
    Gaussian weight, so that neighbouring windows fade into each other.

    Args:
        definition: of `network.json`; `window` is the window's size in voxels, or None for a 2-D network.
        batch_size: slices or windows at a time; None: as many slices as the memory holds, one window.
        overlap: share of a window that it has in common with the next.
    """
    window = definition.get("window")
    if window is None:
        return AxialInferer(batch_size=batch_size)
    return SlidingWindowInferer(
        roi_size=window,
        sw_batch_size=batch_size or 1,
        overlap=overlap,
        mode="gaussian",
        padding_mode="constant",
        cval=-1.0,
    )


class LoadWeights:
    """
    Loads a flat state dict of plain tensors into a network when a run starts, in `eval` mode.

    MONAI's `CheckpointLoader` does the same; a missing file or a network of another size ends there in a list of keys.

    Args:
        network: its weights are replaced.
        path: `models/model.pt`.
    """

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        self.network, self.path = network, Path(path)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: load_weights(self.network, self.path))


def weight_facts(models_dir: str | Path) -> dict[str, str]:
    """The checksum of the weights in a folder, for `run.json`."""
    path = Path(models_dir) / "model.pt"
    return {"weights_sha256": checksum(path)} if path.is_file() else {}
