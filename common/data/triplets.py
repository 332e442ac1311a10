"""Three consecutive axial slices as one image of three channels: what a 2.5-D network sees of a volume."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..transforms import file_name
from .datasets import BACKGROUND

TRIPLET = 3


def axial_triplets(
    volumes: Sequence[torch.Tensor], *, like: Sequence[torch.Tensor] | None = None, min_foreground: float = 0.05
) -> list[torch.Tensor]:
    """
    The triplets of consecutive axial slices whose middle slice shows something, for `UnpairedDataset`.

    They overlap: a volume of Z slices has Z - 2 triplets. They are views, so that they cost no memory beside the
    volumes. For pairs, `UnpairedDataset(axial_triplets(sources), axial_triplets(targets, like=sources), paired=True)`
    has the source and the target of the same patient and slices.

    Args:
        volumes: encoded volumes of shape (1, X, Y, Z) in [-1, 1], axial slices along Z.
        like: look for the foreground in these instead; keeps the triplets of a patient's volumes together.
        min_foreground: share of the middle slice's voxels, in [0, 1).

    Returns:
        images of shape (3, X, Y), the slices in order.

    Raises:
        ValueError: when a volume has more than one channel or fewer than three slices, when `like` is not of the same
            shapes, or when no triplet is left.

    Example:
        >>> volume = torch.arange(4.0).expand(1, 2, 2, 4)
        >>> [triplet[:, 0, 0].tolist() for triplet in axial_triplets([volume])]
        [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]
    """
    if like is not None:
        _check_alike(volumes, like)
    triplets = [
        triplet
        for volume, shown in zip(volumes, volumes if like is None else like)
        for triplet, seen in zip(_triplets(volume), _triplets(shown))
        if (seen[1] > BACKGROUND).float().mean().item() >= min_foreground
    ]
    if not triplets:
        raise ValueError(
            f"None of the {len(volumes)} volumes has an axial slice with {min_foreground:.0%} foreground between two"
            " others. Check the images, or lower `min_foreground`."
        )
    return triplets


def check_depth(volume: torch.Tensor) -> None:
    """Refuses a volume (..., Z) that is too short for a triplet.

    Raises:
        ValueError: when it has fewer than three slices along its last axis; the message names the file.
    """
    if volume.shape[-1] < TRIPLET:
        raise ValueError(
            f"{file_name(volume)} has {volume.shape[-1]} axial slice(s), but the network sees each slice together with"
            f" its neighbours: at least {TRIPLET} are needed. Give the whole series, not a part of it."
        )


def _triplets(volume: torch.Tensor) -> list[torch.Tensor]:
    check_depth(volume)
    if volume.dim() != 4 or volume.shape[0] != 1:
        raise ValueError(
            f"`volumes` must have the shape (1, X, Y, Z), but {file_name(volume)} has {tuple(volume.shape)}: give one"
            " intensity channel."
        )
    slices = torch.as_tensor(volume).as_subclass(torch.Tensor)[0].movedim(-1, 0)
    return [slices[z : z + TRIPLET] for z in range(len(slices) - TRIPLET + 1)]


def _check_alike(volumes: Sequence[torch.Tensor], like: Sequence[torch.Tensor]) -> None:
    if len(volumes) != len(like):
        raise ValueError(f"`like` must hold a volume for each of the {len(volumes)} volumes, got {len(like)}.")
    for volume, shown in zip(volumes, like):
        if volume.shape != shown.shape:
            raise ValueError(
                f"{file_name(volume)}, shape {tuple(volume.shape)}, and {file_name(shown)}, shape"
                f" {tuple(shown.shape)}, must have one shape to be a pair: resample them to one grid first."
            )
