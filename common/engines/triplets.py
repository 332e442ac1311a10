"""Whole volumes through a network that sees three consecutive slices: every slice is predicted up to three times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type

from ..data.triplets import TRIPLET, check_depth
from .batch_size import fitting_batch_size


class TripletInferer(Inferer):
    """
    Applies a network for triplets (B, 3, X, Y) to every triplet of consecutive axial slices of a volume (B, 1, X, Y, Z)
    and averages the predictions of each slice: three for an inner one, one for the first and the last.

    The average is a running mean, m + (p - m) / n: equal predictions leave it as it is, to the last bit, which
    (p + p + p) / 3 does not. So a network that copies its input gives the volume back exactly.

    Args:
        batch_size: triplets at a time; with the volume and its prediction this is all the memory needed. None: as many
            as the memory holds.

    Raises:
        ValueError: when `batch_size` is below 1; when called, for a volume that is not (B, 1, X, Y, Z) or has fewer
            than three slices (the message names the file), or for a network that does not return what it is given.

    Example:
        >>> volume = torch.rand(1, 1, 5, 7, 4)
        >>> torch.equal(TripletInferer(batch_size=2)(volume, lambda triplets: triplets), volume)
        True
    """

    def __init__(self, *, batch_size: int | None = None) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"`batch_size` must be >= 1 triplets, got {batch_size}.")
        self.batch_size = batch_size

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        if inputs.dim() != 5 or inputs.shape[1] != 1:
            raise ValueError(f"`inputs` must have the shape (B, 1, X, Y, Z), got {tuple(inputs.shape)}.")
        check_depth(inputs)
        volumes = inputs.as_subclass(torch.Tensor)
        if self.batch_size is None:
            self.batch_size = fitting_batch_size(network, volumes[:1, 0, ..., :TRIPLET].movedim(-1, 1))
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
        for start in range(0, len(slices) - TRIPLET + 1, together):
            stop = min(start + together, len(slices) - TRIPLET + 1)
            triplets = slices[start : stop + TRIPLET - 1].unfold(0, TRIPLET, 1).movedim(-1, 1).contiguous()
            prediction = _predicted(network(triplets, *args, **kwargs), triplets)
            for place in range(TRIPLET):
                seen = slice(start + place, stop + place)
                count[seen] += 1
                mean[seen] += (prediction[:, place] - mean[seen]) / count[seen]
        return mean.movedim(0, -1)


def _predicted(prediction: Any, triplets: torch.Tensor) -> torch.Tensor:
    shape = getattr(prediction, "shape", type(prediction).__name__)
    if shape != triplets.shape:
        raise ValueError(
            f"`network` must return the slices that it is given, shape {tuple(triplets.shape)}, got"
            f" {shape if isinstance(shape, str) else tuple(shape)}: use one with {TRIPLET} channels in and out."
        )
    return prediction.as_subclass(torch.Tensor).to(triplets.dtype)
