"""Encoded volumes, prepared once: in memory, or mapped from a cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.data import MetaTensor
from tqdm import tqdm

from ..transforms import file_name
from ..transforms.check import source_path
from .patches import PatchVolume
from .volume_cache import VolumeCache


def cache_volumes(
    entries: Sequence[dict[str, Any]], transform: Callable, *, key: str = "image", cache: VolumeCache | None = None
) -> list[torch.Tensor]:
    """
    Loads and encodes volumes once, with a progress bar.

    Args:
        entries: data items; `entries[i][key]` is the path of a volume.
        transform: from the path to an encoded volume of shape (C, X, Y, Z) in [-1, 1], axial slices along Z.
        cache: where the encoded volumes are kept and mapped from, for archives larger than the memory; default: memory.

    Returns:
        tensors of shape (C, X, Y, Z) that know their file, in the order of `entries`. Each axial slice is one piece of
        memory.

    Raises:
        ValueError: when there is no entry.
    """
    if not entries:
        raise ValueError("`entries` must hold at least one volume to cache, got none.")
    cache = cache or VolumeCache()
    contents = [cache.get(entry[key], transform, _encoded) for entry in tqdm(entries, desc="loading volumes")]
    return [MetaTensor(content["image"], meta={"filename_or_obj": content["file"]}) for content in contents]


def load_patch_volumes(
    entries: Sequence[dict[str, Any]],
    transform: Callable,
    *,
    mask_key: str | None = None,
    cache: VolumeCache | None = None,
) -> list[PatchVolume]:
    """
    Loads and encodes volumes once, with their masks.

    Args:
        entries: data items `{"image": path}`.
        transform: from such an item to `image` (1, X, Y, Z) in [-1, 1] and, under `mask_key`, a mask of equal shape.
        mask_key: None: the volumes have no mask.
        cache: where the encoded volumes are kept and mapped from, for archives larger than the memory; default: memory.

    Raises:
        ValueError: when there is no entry.
    """
    if not entries:
        raise ValueError("`entries` must hold at least one volume to draw patches from, got none.")
    cache = cache or VolumeCache()
    arrange = partial(_with_mask, mask_key=mask_key)
    contents = [cache.get(entry["image"], transform, arrange) for entry in tqdm(entries, desc="loading volumes")]
    masks = [None if each["mask"] is None else each["mask"].numpy() for each in contents]
    return [PatchVolume(each["image"], mask, name=each["name"]) for each, mask in zip(contents, masks)]


def slice_by_slice(volume: torch.Tensor) -> torch.Tensor:
    """
    The same volume (..., Z) as a plain tensor with each axial slice in one piece of memory, or of a file.

    Example:
        >>> slice_by_slice(torch.zeros(1, 4, 5, 6)).stride()
        (20, 5, 1, 20)
    """
    plain = torch.as_tensor(volume).as_subclass(torch.Tensor)
    return plain.movedim(-1, 0).contiguous().movedim(0, -1)


def _encoded(item: dict[str, Any]) -> dict[str, Any]:
    """What the cache holds of an encoded volume."""
    return {"image": slice_by_slice(item["image"]), "file": source_path(item["image"])}


def _with_mask(item: dict[str, Any], mask_key: str | None) -> dict[str, Any]:
    """What the cache holds of a volume to draw patches from."""
    mask = None if mask_key is None else slice_by_slice(item[mask_key])[0].bool()
    return {"image": slice_by_slice(item["image"]).float(), "mask": mask, "name": file_name(item["image"])}
