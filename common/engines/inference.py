"""What `inference.yaml` needs beside MONAI: the inferer that fits the weights, and their loading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.inferers import Inferer, SliceInferer, SlidingWindowInferer
from torch import nn

from ..networks import load_weights
from .checkpoint import checksum


def volume_inferer(definition: Mapping[str, Any], *, batch_size: int = 4, overlap: float = 0.5) -> Inferer:
    """
    How a network is applied to a volume of shape (B, C, X, Y, Z).

    A 2-D network sees whole axial slices: no tile, no seam. A 3-D network sees overlapping windows, blended by a
    Gaussian weight, so that neighbouring windows fade into each other.

    Args:
        definition: of `network.json`; `window` is the window's size in voxels, or None for a 2-D network.
        batch_size: slices or windows at a time.
        overlap: share of a window that it has in common with the next.
    """
    window = definition.get("window")
    if window is None:
        return SliceInferer(roi_size=(-1, -1), spatial_dim=2, sw_batch_size=batch_size)
    return SlidingWindowInferer(
        roi_size=window, sw_batch_size=batch_size, overlap=overlap, mode="gaussian", padding_mode="constant", cval=-1.0
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
