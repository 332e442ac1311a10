"""
What `inference.yaml` needs beside MONAI: the inferer that fits the weights, and their loading.

How many slices a network takes at a time, when nobody says: as many as the memory at hand holds.

Whole volumes through a network that sees three consecutive slices: every slice is predicted up to three times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.inferers import Inferer, SliceInferer, SlidingWindowInferer
from monai.utils import convert_to_dst_type
from torch import nn

from ..data.datasets import STACK, check_depth
from ..devices import free_memory
from ..files import checksum
from ..images.names import SOURCE
from ..networks.physics import PhysicsGenerator
from ..networks.weights import load_weights
from ..networks.with_target import WithTarget, target_weights

CROP = 128  # pixels along each side of the image on which the demand is measured
COPIES = 4  # a layer's input and output, as many again for skips and for what a convolution lays out anew
SHARE = 0.5  # of the free memory
MOST = {"cpu": 4, "cuda": 64, "xpu": 64, "mps": 64}  # on a processor, more at a time are not faster


def fitting_batch_size(network: Callable[..., Any], image: torch.Tensor) -> int:
    """
    How many such images go through a network together: at least 1, at most 4 on a processor and 64 on a GPU.

    The demand of one is measured on a corner of it, by the largest input and output of a layer; half of the memory
    that is free now may be used.

    Args:
        network: from (B, C, H, W) to images.
        image: (1, C, H, W), on the network's device.

    Example:
        >>> fitting_batch_size(nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 8, 8))
        4
    """
    most = MOST.get(image.device.type, 1)
    free = free_memory(image.device)
    if free is None:
        return 1
    corner = image[..., :CROP, :CROP].as_subclass(torch.Tensor)
    demand = COPIES * _largest_layer(network, corner) * image.numel() / corner.numel()
    return max(1, min(most, int(SHARE * free / max(demand, 1))))


@torch.no_grad()
def _largest_layer(network: Callable[..., Any], image: torch.Tensor) -> int:
    """Bytes of the largest input and output of a layer together."""
    sizes = [2 * image.nbytes]

    def measure(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        sizes.append(sum(part.nbytes for part in (*inputs, output) if isinstance(part, torch.Tensor)))

    layers = list(network.modules()) if isinstance(network, nn.Module) else []
    hooks = [layer.register_forward_hook(measure) for layer in layers if not list(layer.children())]
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes)


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


class StackInferer(Inferer):
    """
    Apply a 2.5-D network (B, 3, X, Y) to every stack of three neighbouring axial slices of a volume (B, 1, X, Y, Z)
    and averages the predictions of each slice: three for an inner one, one for the first and the last.

    The average is a running mean, m + (p - m) / n: equal predictions leave it as it is, to the last bit, which
    (p + p + p) / 3 does not. So a network that copies its input gives the volume back exactly.

    Args:
        batch_size: stacks at a time; with the volume and its prediction this is all the memory needed. None: as many
            as the memory holds.

    Raises:
        ValueError: when `batch_size` is below 1; when called, for a volume that is not (B, 1, X, Y, Z) or has fewer
            than three slices (the message names the file), or for a network that does not return what it is given.

    Example:
        >>> volume = torch.rand(1, 1, 5, 7, 4)
        >>> torch.equal(StackInferer(batch_size=2)(volume, lambda stacks: stacks), volume)
        True
    """

    def __init__(self, *, batch_size: int | None = None) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"`batch_size` must be >= 1 stacks, got {batch_size}.")
        self.batch_size = batch_size

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        if inputs.dim() != 5 or inputs.shape[1] != 1:
            raise ValueError(f"`inputs` must have the shape (B, 1, X, Y, Z), got {tuple(inputs.shape)}.")
        check_depth(inputs)
        volumes = inputs.as_subclass(torch.Tensor)
        if self.batch_size is None:
            self.batch_size = fitting_batch_size(network, volumes[:1, 0, ..., :STACK].movedim(-1, 1))
        together = self.batch_size
        mean = torch.stack([self._mean(volume[0], together, network, *args, **kwargs)[None] for volume in volumes])
        return convert_to_dst_type(mean, inputs)[0]

    def _mean(
        self, volume: torch.Tensor, together: int, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The averaged prediction (X, Y, Z) of one volume (X, Y, Z)."""
        slices = volume.movedim(-1, 0)
        mean = torch.zeros_like(slices)
        count = torch.zeros(len(slices), 1, 1, dtype=slices.dtype, device=slices.device)
        for start in range(0, len(slices) - STACK + 1, together):
            stop = min(start + together, len(slices) - STACK + 1)
            stacks = slices[start : stop + STACK - 1].unfold(0, STACK, 1).movedim(-1, 1).contiguous()
            prediction = _predicted(network(stacks, *args, **kwargs), stacks)
            for place in range(STACK):
                seen = slice(start + place, stop + place)
                count[seen] += 1
                mean[seen] += (prediction[:, place] - mean[seen]) / count[seen]
        return mean.movedim(0, -1)


def _predicted(prediction: Any, stacks: torch.Tensor) -> torch.Tensor:
    shape = getattr(prediction, "shape", type(prediction).__name__)
    if shape != stacks.shape:
        raise ValueError(
            f"`network` must return the slices that it is given, shape {tuple(stacks.shape)}, got"
            f" {shape if isinstance(shape, str) else tuple(shape)}: use one with {STACK} channels in and out."
        )
    return prediction.as_subclass(torch.Tensor).to(stacks.dtype)


class ConversionInferer(AxialInferer):
    """
    Applies a network with a bound target to whole axial slices of a volume (B, C, X, Y, Z).

    A generator that starts from the source kernel in lp/mm is bound to the volume's own kernel and pixel size, which
    its meta data tell (`source_domain`, affine); the papers' generators see the image alone.

    Args:
        domains: names, in the order of the network's.
        batch_size: slices at a time; None: as many as the memory holds.
    """

    def __init__(self, domains: Sequence[str], *, batch_size: int | None = None) -> None:
        super().__init__(batch_size=batch_size)
        self.domains = list(domains)

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if isinstance(network, WithTarget) and isinstance(network.network, PhysicsGenerator):
            network = network.from_source(target_weights(self.domains, source_domain(inputs)), pixel_mm(inputs))
        return super().__call__(inputs, network, *args, **kwargs)


def pixel_mm(image: torch.Tensor) -> float:
    """The pixel size within an axial slice, from the meta data of a volume whose last axis is the patient's."""
    if not isinstance(image, MetaTensor):
        raise ValueError("`image` must carry its affine (a MetaTensor), as the network depends on the pixel size.")
    affine = np.asarray(image.affine, dtype=float).reshape(-1, 4, 4)[0]
    return float(nib.affines.voxel_sizes(affine)[:2].mean())


def source_domain(image: torch.Tensor) -> str:
    source = getattr(image, "meta", {}).get(SOURCE)
    source = source[0] if isinstance(source, (list, tuple)) else source
    if source is None:
        raise ValueError(f"`image` must say its source kernel in meta[{SOURCE!r}]; `FindSourced` puts it there.")
    return str(source)
