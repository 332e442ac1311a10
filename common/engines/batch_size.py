"""How many slices a network takes at a time, when nobody says: as many as the memory at hand holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

CROP = 128  # pixels along each side of the image on which the demand is measured
COPIES = 4  # a layer's input and output, as many again for skips and for what a convolution lays out anew
SHARE = 0.5  # of the free memory
MOST = {"cpu": 4, "cuda": 64}  # on a processor, more at a time are not faster
MEMINFO = Path("/proc/meminfo")


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


def free_memory(device: str | torch.device) -> int | None:
    """Bytes that are free on a device; None where the system does not tell."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    lines = MEMINFO.read_text().splitlines() if MEMINFO.is_file() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else None


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
