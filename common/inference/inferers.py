"""Inferers of whole volumes for 2-D, 2.5-D and 3-D networks, and the loading of their weights.

They refuse volumes that are not encoded to [-1, 1]. Further arguments do not reach the network, which takes one image:
MONAI Deploy hands every other tensor of an item to the inferer. Without a given batch size a network takes as many
slices at a time as the free memory holds.
"""

from __future__ import annotations

import logging
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
from ..networks.definition import changed_by_hand
from ..networks.physics import PhysicsGenerator
from ..networks.weights import load_weights
from ..networks.with_target import WithTarget, target_weights
from ..transforms.guards.contract import check_encoded

logger = logging.getLogger(__name__)
CROP = 128  # pixels along each side of the image on which the demand is measured
COPIES = 4  # a layer's input and output, and as much again for skips and for a convolution's own copies
SHARE = 0.5  # of the free memory
MOST = {"cpu": 2, "cuda": 64, "xpu": 64, "mps": 64}  # on a CPU, more images at a time are not faster


def volume_inferer(definition: Mapping[str, Any], *, batch_size: int | None = None, overlap: float = 0.5) -> Inferer:
    """Return the inferer that applies a network to volumes (B, C, X, Y, Z).

    A 2-D network sees whole axial slices, without tiles and seams, and their neighbours if it takes several channels. A
    3-D network sees overlapping windows, which are blended with Gaussian weights.

    Args:
        definition: Content of `network.json`; `window` is the window's size in voxels, or None for a 2-D network, and
            `in_channels` among the arguments is the number of neighbouring slices.
        batch_size: Number of slices or windows at a time; default: as many slices as the memory holds, or one window.
        overlap: Share of a window that overlaps with the next one.
    """
    window = definition.get("window")
    if window is None:
        slices = definition.get("arguments", {}).get("in_channels", 1)
        return AxialInferer(batch_size=batch_size, slices=slices)
    return WindowInferer(
        roi_size=window,
        sw_batch_size=batch_size or 1,
        overlap=overlap,
        mode="gaussian",
        padding_mode="constant",
        cval=-1.0,
    )


class WindowInferer(SlidingWindowInferer):
    """MONAI's `SlidingWindowInferer` for encoded volumes (B, C, X, Y, Z) and a network of one tensor."""

    context: int | None = None  # a slice depends on all others, see `translated_slabs`

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        check_encoded(inputs)
        return super().__call__(inputs, network)


class AxialInferer(SliceInferer):
    """Apply a 2-D network to whole axial slices of volumes (B, C, X, Y, Z).

    Args:
        batch_size: Number of slices at a time; default: as many as the memory holds, see `fitting_batch_size`.
        slices: Neighbouring slices of a volume (B, 1, X, Y, Z) that the network sees as channels, an odd number; it
            translates the middle one. Beyond an end of the volume, its last slice is repeated.

    Raises:
        ValueError: If `slices` is even; when called with several, for a volume of more than one channel.

    Example:
        >>> AxialInferer()(torch.zeros(1, 1, 8, 8, 5), nn.Conv2d(1, 2, 3, padding=1)).shape
        torch.Size([1, 2, 8, 8, 5])
        >>> volume = torch.linspace(0, 1, 3).expand(1, 1, 2, 2, 3)
        >>> AxialInferer(slices=3)(volume, lambda stacks: stacks.mean(dim=1, keepdim=True))[0, 0, 0, 0]
        tensor([0.1667, 0.5000, 0.8333])
    """

    def __init__(self, *, batch_size: int | None = None, slices: int = 1) -> None:
        if slices < 1 or slices % 2 == 0:
            raise ValueError(f"`slices` must be odd, with the translated slice in the middle, got {slices}.")
        super().__init__(roi_size=(-1, -1), spatial_dim=2, sw_batch_size=batch_size or 1)
        self.batch_size, self.slices, self.context = batch_size, slices, slices // 2

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.inner(inputs, network, 0, 0)

    def inner(self, inputs: torch.Tensor, network: Callable[..., Any], below: int, above: int) -> Any:
        """Translate all slices but the first `below` and the last `above`, which are seen as neighbours alone."""
        check_encoded(inputs)
        if self.slices > 1:
            inputs = with_neighbours(inputs, self.slices)
        inputs = inputs[..., below : inputs.shape[-1] - above]
        if self.batch_size is None:
            self.batch_size = fitting_batch_size(network, inputs[:1, ..., 0])
            self.sw_batch_size = self.batch_size
        return super().__call__(inputs, network)


def with_neighbours(volumes: torch.Tensor, slices: int) -> torch.Tensor:
    """Return volumes (B, 1, X, Y, Z) with neighbouring axial slices as channels: (B, `slices`, X, Y, Z).

    Beyond an end of the volume, its last slice is repeated.

    Raises:
        ValueError: If the volumes have more than one channel.
    """
    if volumes.dim() != 5 or volumes.shape[1] != 1:
        raise ValueError(f"`volumes` must have the shape (B, 1, X, Y, Z), got {tuple(volumes.shape)}.")
    places = torch.arange(volumes.shape[-1], device=volumes.device)
    last = volumes.shape[-1] - 1
    shifted = [volumes[..., (places + step).clamp(0, last)] for step in range(-(slices // 2), slices // 2 + 1)]
    return torch.cat(shifted, dim=1)


class StackInferer(Inferer):
    """Apply a 2.5-D network to every stack of three neighbouring axial slices, and average the predictions of a slice.

    The network maps stacks (B, 3, X, Y) of a volume (B, 1, X, Y, Z). An inner slice is predicted three times, the
    first and the last one once.

    The average is a running mean, m + (p - m) / n, which equal predictions leave unchanged to the last bit, unlike
    (p + p + p) / 3. So a network that copies its input returns the volume exactly.

    Args:
        batch_size: Number of stacks at a time; with the volume and its prediction this is all the memory needed.
            Default: as many as the memory holds.

    Raises:
        ValueError: If `batch_size` is below 1; when called, for a volume that is not (B, 1, X, Y, Z) or has fewer than
            three slices (the message names the file), or for a network whose output has another shape than its input.

    Example:
        >>> volume = torch.rand(1, 1, 5, 7, 4)
        >>> torch.equal(StackInferer(batch_size=2)(volume, lambda stacks: stacks), volume)
        True
    """

    context = STACK - 1

    def __init__(self, *, batch_size: int | None = None) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"`batch_size` must be >= 1 stacks, got {batch_size}.")
        self.batch_size = batch_size

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        if inputs.dim() != 5 or inputs.shape[1] != 1:
            raise ValueError(f"`inputs` must have the shape (B, 1, X, Y, Z), got {tuple(inputs.shape)}.")
        check_encoded(inputs)
        check_depth(inputs)
        volumes = inputs.as_subclass(torch.Tensor)
        if self.batch_size is None:
            self.batch_size = fitting_batch_size(network, volumes[:1, 0, ..., :STACK].movedim(-1, 1))
        together = self.batch_size
        mean = torch.stack([self._mean(volume[0], together, network)[None] for volume in volumes])
        return convert_to_dst_type(mean, inputs)[0]

    def _mean(self, volume: torch.Tensor, together: int, network: Callable[..., Any]) -> torch.Tensor:
        """Return the averaged prediction (X, Y, Z) of one volume (X, Y, Z)."""
        slices = volume.movedim(-1, 0)
        mean = torch.zeros_like(slices)
        count = torch.zeros(len(slices), 1, 1, dtype=slices.dtype, device=slices.device)
        for start in range(0, len(slices) - STACK + 1, together):
            stop = min(start + together, len(slices) - STACK + 1)
            stacks = slices[start : stop + STACK - 1].unfold(0, STACK, 1).movedim(-1, 1).contiguous()
            prediction = _predicted(network(stacks), stacks)
            for place in range(STACK):
                seen = slice(start + place, stop + place)
                count[seen] += 1
                mean[seen] += (prediction[:, place] - mean[seen]) / count[seen]
        return mean.movedim(0, -1)


class ConversionInferer(AxialInferer):
    """Apply a network with a bound target to whole axial slices of a volume (B, C, X, Y, Z).

    A generator that starts from the source kernel in lp/mm, or its TorchScript export, is bound to the volume's own
    kernel and pixel size, from its meta data (`source_domain`, affine); the papers' generators see the image alone.

    Args:
        domains: Names of the domains in the network's order.
        batch_size: Number of slices at a time; default: as many as the memory holds.
    """

    def __init__(self, domains: Sequence[str], *, batch_size: int | None = None) -> None:
        super().__init__(batch_size=batch_size)
        self.domains = list(domains)

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        check_encoded(inputs)
        if isinstance(network, WithTarget) and isinstance(network.network, PhysicsGenerator):
            network = network.from_source(target_weights(self.domains, source_domain(inputs)), pixel_mm(inputs))
        elif (target := _exported_target(network)) is not None:
            source = [*target_weights(self.domains, source_domain(inputs)), pixel_mm(inputs)]
            with torch.no_grad():
                target[-len(source) :] = torch.tensor(source)
        return super().__call__(inputs, network)


class LoadWeights:
    """A handler that loads a flat state dict of plain tensors into a network at the start of a run, in `eval` mode.

    MONAI's `CheckpointLoader` does the same, but fails with a list of keys for a missing file or a network of another
    size.

    Args:
        network: Network whose weights are replaced.
        path: Path of the weights, `models/model.pt`.
    """

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        self.network, self.path = network, Path(path)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self._load())

    def _load(self) -> None:
        load_weights(self.network, self.path)
        for sentence in changed_by_hand(self.path.parent) if self.path.name == "model.pt" else ():
            logger.warning(f"{self.path.parent}: {sentence} Results may be wrong; copy both files from one training.")


def weight_facts(models_dir: str | Path) -> dict[str, str]:
    """Return the checksum of the weights in a folder, for `run.json`.

    Args:
        models_dir: Folder of `model.pt`; without that file there are no facts.
    """
    path = Path(models_dir) / "model.pt"
    return {"weights_sha256": checksum(path)} if path.is_file() else {}


def fitting_batch_size(network: Callable[..., Any], image: torch.Tensor) -> int:
    """Return how many images a network takes at a time: at least 1, at most 2 on a CPU and 64 on a GPU.

    The demand of one image is measured on a corner of it, by the largest input and output of a layer; half of the
    memory that is free now may be used.

    Args:
        network: Network from images (B, C, H, W) to images.
        image: Image (1, C, H, W) on the network's device.

    Example:
        >>> fitting_batch_size(nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 8, 8))
        2
    """
    most = MOST.get(image.device.type, 1)
    free = free_memory(image.device)
    if free is None:
        return 1
    corner = image[..., :CROP, :CROP].as_subclass(torch.Tensor)
    demand = COPIES * _largest_layer(network, corner) * image.numel() / corner.numel()
    return max(1, min(most, int(SHARE * free / max(demand, 1))))


def pixel_mm(image: torch.Tensor) -> float:
    """Return the pixel size in mm within axial slices, which lie along the last axis, from a volume's meta data.

    Raises:
        ValueError: If the image has no affine.
    """
    if not isinstance(image, MetaTensor):
        raise ValueError("`image` must carry its affine (a MetaTensor), as the network depends on the pixel size.")
    affine = np.asarray(image.affine, dtype=float).reshape(-1, 4, 4)[0]
    return float(nib.affines.voxel_sizes(affine)[:2].mean())


def source_domain(image: torch.Tensor) -> str:
    """Return the source domain from a volume's meta data.

    Raises:
        ValueError: If the meta data name none.
    """
    source = getattr(image, "meta", {}).get(SOURCE)
    source = source[0] if isinstance(source, (list, tuple)) else source
    if source is None:
        raise ValueError(
            f"`image` must name its source kernel in meta[{SOURCE!r}]; `FindKerneld` puts it there. Give `--source`, or"
            " restore filters.json beside model.pt, by which the kernel is estimated."
        )
    return str(source)


def _exported_target(network: Any) -> torch.Tensor | None:
    """Return target, source and pixel size of a TorchScript export of `WithTarget`; None if it depends on no source.

    An export was made for one source kernel and pixel size, and would be wrong for any other. MONAI Deploy wraps it.
    """
    script = getattr(network, "predictor", network)
    if not isinstance(script, torch.jit.ScriptModule) or not hasattr(script, "num_weights"):
        return None
    target: torch.Tensor = script.target
    return target if len(target) > int(script.num_weights) else None


def _predicted(prediction: Any, stacks: torch.Tensor) -> torch.Tensor:
    shape = getattr(prediction, "shape", type(prediction).__name__)
    if shape != stacks.shape:
        raise ValueError(
            f"`network` must return as many slices as it is given, shape {tuple(stacks.shape)}, got"
            f" {shape if isinstance(shape, str) else tuple(shape)}: use one with {STACK} channels in and out."
        )
    return prediction.as_subclass(torch.Tensor).to(stacks.dtype)


@torch.no_grad()
def _largest_layer(network: Callable[..., Any], image: torch.Tensor) -> int:
    """Return the bytes of the largest input and output of a layer together."""
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
