"""Super-resolution of slices of any size in tiles, whose margins are cut away."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import nn

from ..devices import to_device
from ..images.grids import REGION, finer_affine
from ..transforms.guards.contract import check_encoded

logger = logging.getLogger(__name__)
Span = tuple[int, int]
Network = Callable[[torch.Tensor], torch.Tensor]


class TileInferer(Inferer):
    """Apply a 2-D network that makes pixels `factor` times smaller to axial slices, tile by tile.

    Zheng et al., SPIE Medical Imaging 2020, section 2.5: test patches are larger than the output needs, to reduce "the
    texture of junction between each patches". Here a tile is larger on each side by the network's receptive field,
    which is cut away again, so that the result is that of the whole slice. At the border of a slice nothing is added,
    as the network itself pads the image there.

    Args:
        factor: Ratio of the input's to the output's pixel size, the network's `factor`.
        margin: Number of the input's pixels added to each side of a tile, the network's `margin` or more.
        tile_size: Largest number of the input's pixels along each side of a tile without its margins; 0 for whole
            slices.
        batch_size: Number of slices at a time; memory grows with it and with the area of a tile.

    Raises:
        ValueError: If an argument is out of its range; when called, for inputs of another dimension or a network of
            another factor.

    Example:
        >>> inferer = TileInferer(2, 1, tile_size=4)
        >>> inferer(torch.rand(1, 1, 9, 6, 3), nn.Upsample(scale_factor=2)).shape
        torch.Size([1, 1, 18, 12, 3])
    """

    def __init__(self, factor: int, margin: int, *, tile_size: int = 128, batch_size: int = 1) -> None:
        for name, value, least in (
            ("factor", factor, 1),
            ("margin", margin, 0),
            ("tile_size", tile_size, 0),
            ("batch_size", batch_size, 1),
        ):
            if value < least:
                raise ValueError(f"`{name}` must be >= {least}, got {value}.")
        self.factor, self.margin, self.tile_size, self.batch_size = factor, margin, tile_size, batch_size

    def __call__(self, inputs: torch.Tensor, network: Network, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Map volumes (B, C, X, Y, Z) to (B, C', factor X, factor Y, Z) with the affine of the finer grid.

        Of volumes whose meta data name a region (`FindRegiond`), only that is mapped. Further arguments, as MONAI
        Deploy gives them, do not reach the network.
        """
        if inputs.dim() != 5:
            raise ValueError(f"`inputs` must have the shape (B, C, X, Y, Z), got {tuple(inputs.shape)}.")
        check_encoded(inputs)
        box = _region(inputs)
        volumes = inputs.as_subclass(torch.Tensor)
        outputs = torch.stack([torch.cat(list(self.slabs(volume, network, box)), dim=-1) for volume in volumes])
        if not isinstance(inputs, MetaTensor):
            return outputs
        start = (0, 0, 0) if box is None else [span[0] for span in box]
        affine = finer_affine(np.asarray(inputs.affine, dtype=float).reshape(-1, 4, 4)[0], self.factor, start)
        return MetaTensor(outputs, meta={**inputs.meta, "affine": torch.as_tensor(affine)})

    def slabs(
        self,
        volume: torch.Tensor,
        network: Network,
        box: Sequence[Sequence[int]] | None = None,
        *,
        downwards: bool = False,
        device: str | torch.device | None = None,
    ) -> Iterator[torch.Tensor]:
        """Yield the finer slices of a part of a volume, `batch_size` at a time, with its surroundings as context.

        Args:
            volume: Volume (C, X, Y, Z).
            network: Network from (B, C, H, W) to (B, C', factor H, factor W).
            box: First voxel and one beyond the last along X, Y and Z; default: the whole volume.
            downwards: Whether to begin with the last slab; the slices within a slab keep their order.
            device: Device of the network; default: that of the volume.

        Yields:
            Finer slices (C', factor w, factor h, n) on the volume's device.
        """
        spans = [(0, n) for n in volume.shape[1:]] if box is None else [(int(a), int(b)) for a, b in box]
        tiles = [(x, y) for x in _cut(spans[0], self.tile_size) for y in _cut(spans[1], self.tile_size)]
        if len(tiles) > 1 and isinstance(network, nn.Module):
            _warn_of_instance_norm(network)
        starts = range(*spans[2], self.batch_size)
        for z in reversed(starts) if downwards else starts:
            slices = volume[..., z : min(z + self.batch_size, spans[2][1])].movedim(-1, 0)
            slab: torch.Tensor | None = None
            for x, y in tiles:
                fine = self._tile(slices, network, (x, y), device or volume.device)
                if slab is None:
                    size = [self.factor * (stop - start) for start, stop in spans[:2]]
                    slab = torch.empty(*fine.shape[:2], *size, dtype=fine.dtype, device=volume.device)
                slab[..., self._fine(x, spans[0][0]), self._fine(y, spans[1][0])] = fine
            assert slab is not None  # a box has at least one tile
            yield slab.movedim(0, -1)

    def _tile(
        self, slices: torch.Tensor, network: Network, tile: Sequence[Span], device: str | torch.device
    ) -> torch.Tensor:
        """Return a tile of slices (n, C, X, Y), super-resolved with its margin, which is then cut away."""
        wide = [(max(0, a - self.margin), min(n, b + self.margin)) for (a, b), n in zip(tile, slices.shape[2:])]
        seen = to_device(slices[:, :, slice(*wide[0]), slice(*wide[1])].contiguous(), device)
        fine = network(seen)
        expected = [len(slices), *(self.factor * n for n in seen.shape[2:])]
        if fine.dim() != 4 or [fine.shape[0], *fine.shape[2:]] != expected:
            raise ValueError(
                f"`network` must make images of {seen.shape[2]} x {seen.shape[3]} pixels {self.factor} times as large,"
                f" got shape {tuple(fine.shape)}: `factor` must be the network's."
            )
        inner = [self._fine(span, start) for span, (start, _) in zip(tile, wide)]
        return fine[:, :, inner[0], inner[1]].as_subclass(torch.Tensor)

    def _fine(self, span: Span, origin: int) -> slice:
        """Return a span of pixels as a slice of fine pixels, counted from `origin`."""
        return slice(self.factor * (span[0] - origin), self.factor * (span[1] - origin))


def _region(inputs: torch.Tensor) -> list[Span] | None:
    """Return the box in the meta data of a batch, None if there is none."""
    texts = getattr(inputs, "meta", {}).get(REGION)
    if texts is None:
        return None
    different = {texts} if isinstance(texts, str) else set(texts)
    if len(different) > 1:
        raise ValueError("`inputs` must have one region in common, but its volumes have several: infer one at a time.")
    return [(int(start), int(stop)) for start, stop in json.loads(different.pop())]


def _cut(span: Span, size: int) -> list[Span]:
    """Return a span in nearly equal parts of at most `size` pixels; 0 for one part.

    Example:
        >>> _cut((3, 13), 4)
        [(3, 6), (6, 9), (9, 13)]
    """
    start, stop = span
    count = -(-(stop - start) // size) if size else 1
    ends = [start + (stop - start) * n // count for n in range(count + 1)]
    return list(pairwise(ends))


def _warn_of_instance_norm(network: nn.Module) -> None:
    if any(isinstance(module, nn.InstanceNorm2d) for module in network.modules()):
        logger.warning(
            "The network normalises by the statistics of what it sees (InstanceNorm): tiles will show at their borders,"
            " whatever their margin. Use whole slices, `--tile_size 0`, where memory allows."
        )
