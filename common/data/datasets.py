"""Axial slices and 2.5-D stacks of encoded volumes, and data sets of unpaired or paired images of two domains.

A 2.5-D stack is three neighbouring axial slices as one image of three channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from ..images.names import file_name
from .datalist import Data, load_datalist, load_domain
from .many import LazyPlaces, LazyVolumes, sampled, sampled_patients
from .patches import random_patches
from .seeded import Entries, SeededDataset, apply_seeded, draw_seed
from .volume_cache import VolumeCache, cache_volumes, load_patch_volumes

BACKGROUND = -0.95  # encoded intensity in [-1, 1] below which a voxel counts as background
IMAGES_OF_A_VOLUME = 8  # of each of some volumes that stand for many
WHOLE = 0.999  # of a resampled mask
STACK = 3  # neighbouring slices that a 2.5-D network takes as channels


def axial_slices(
    volumes: Sequence[torch.Tensor], *, like: Sequence[torch.Tensor] | None = None, min_foreground: float = 0.05
) -> Sequence[torch.Tensor]:
    """Cut volumes into axial slices, and keep those with enough foreground.

    Args:
        volumes: Encoded volumes of shape (C, X, Y, Z) in [-1, 1].
        like: Volumes whose foreground counts instead; keeps the slices of aligned volumes together.
        min_foreground: Fraction of a slice's voxels above the background, in [0, 1).

    Returns:
        Slices of shape (C, X, Y), which are views; of many volumes `LazyImages`.

    Raises:
        ValueError: If no slice is left.
    """
    if isinstance(volumes, LazyVolumes):
        return LazyImages(volumes, _slices, like=like, min_foreground=min_foreground)
    slices = [
        slice_
        for volume, shown in zip(volumes, volumes if like is None else like, strict=True)
        for slice_, seen in zip(_slices(volume), _slices(shown), strict=True)
        if _has_foreground(seen, min_foreground)
    ]
    if not slices:
        raise ValueError(
            f"None of the {len(volumes)} volumes has an axial slice with {min_foreground:.0%} foreground."
            " Check the images, or lower `min_foreground`."
        )
    return slices


def axial_stacks(
    volumes: Sequence[torch.Tensor],
    *,
    like: Sequence[torch.Tensor] | None = None,
    min_foreground: float = 0.05,
    slices: int = STACK,
) -> Sequence[torch.Tensor]:
    """Cut volumes into 2.5-D stacks, and keep those whose middle slice has enough foreground.

    Stacks overlap: a volume of Z slices has Z - 2. They are views, which take no memory besides the volumes. For
    pairs, `UnpairedDataset(axial_stacks(sources), axial_stacks(targets, like=sources), paired=True)`
    has source and target of the same patient and slices.

    Args:
        volumes: Encoded volumes of shape (1, X, Y, Z) in [-1, 1], axial slices along Z.
        like: Volumes whose foreground counts instead; keeps the stacks of aligned volumes together.
        min_foreground: Fraction of the middle slice's voxels above the background, in [0, 1).
        slices: Number of slices in a stack, odd.

    Returns:
        Images of shape (`slices`, X, Y), in order; of many volumes `LazyImages`.

    Raises:
        ValueError: If a volume has more than one channel or too few slices, shapes in `like` differ, or no stack is
            left.

    Example:
        >>> volume = torch.arange(4.0).expand(1, 2, 2, 4)
        >>> [stack[:, 0, 0].tolist() for stack in axial_stacks([volume])]
        [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]
    """
    cut = partial(_stacks, number=slices)
    if isinstance(volumes, LazyVolumes):
        return LazyImages(volumes, cut, like=like, min_foreground=min_foreground, middle=slices // 2)
    if like is not None:
        _check_alike(volumes, like)
    stacks = [
        stack
        for volume, shown in zip(volumes, volumes if like is None else like)
        for stack, seen in zip(cut(volume), cut(shown))
        if _has_foreground(seen[slices // 2], min_foreground)
    ]
    if not stacks:
        raise ValueError(
            f"None of the {len(volumes)} volumes has an axial slice with {min_foreground:.0%} foreground between two"
            " others. Check the images, or lower `min_foreground`."
        )
    return stacks


def blank_outside(volumes: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Set what a mask leaves out to the background: for both scans of a pair, where one of them was not measured.

    Args:
        volumes: Encoded volumes of shape (1, X, Y, Z) in [-1, 1].
        masks: Masks of the same shapes, 1 where a voxel counts; what resampling has mixed with 0 does not count.

    Returns:
        Volumes; of many `LazyVolumes`.

    Raises:
        ValueError: If numbers or shapes differ.

    Example:
        >>> [blanked] = blank_outside([torch.zeros(1, 2, 1, 1)], [torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)])
        >>> blanked.flatten().tolist()
        [0.0, -1.0]
    """
    if len(volumes) != len(masks):
        raise ValueError(f"`masks` must hold a mask for each of the {len(volumes)} volumes, got {len(masks)}.")
    blanked = partial(_blanked, volumes=volumes, masks=masks)
    if isinstance(volumes, LazyVolumes):
        return LazyVolumes(range(len(volumes)), blanked, size=_bytes, mapped=False)
    return [blanked(place) for place in range(len(volumes))]


class LazyImages(Sequence[torch.Tensor]):
    """Slices or stacks of many volumes that have enough foreground; a volume is loaded when an image of it is used.

    Args:
        volumes: Volumes.
        cut: Function from a volume to its images.
        like: Volumes whose foreground counts instead.
        min_foreground: Fraction of an image's voxels above the background, in [0, 1).
        middle: Channel of an image that is the slice whose foreground counts; None: all channels count.

    Raises:
        ValueError: If `like` has another length; when used, if two volumes of a pair differ in their shapes.
    """

    def __init__(
        self,
        volumes: LazyVolumes[torch.Tensor],
        cut: Callable[[torch.Tensor], Sequence[torch.Tensor]],
        *,
        like: Sequence[torch.Tensor] | None = None,
        min_foreground: float = 0.05,
        middle: int | None = None,
    ) -> None:
        if like is not None and len(volumes) != len(like):
            raise ValueError(f"`like` must hold a volume for each of the {len(volumes)} volumes, got {len(like)}.")
        self.volumes, self.cut, self.like = volumes, cut, like
        self.min_foreground, self.middle = min_foreground, slice(None) if middle is None else middle
        self._shown: dict[int, list[int]] = {}  # images with enough foreground, by volume
        self.places = LazyPlaces(volumes, self._number, "Number of slices")

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        volume, place = self.places[index]
        return self.cut(self.volumes[volume])[self._usable(volume)[place]]

    def sample(self, each: int = IMAGES_OF_A_VOLUME) -> list[torch.Tensor]:
        """Return some images of some volumes, always the same ones, which stand for all.

        Args:
            each: Largest number of images of a volume.
        """
        steps = np.unique(np.linspace(0, self.places.each - 1, min(each, self.places.each)).round().astype(int))
        chosen = sampled(range(len(self.volumes)), "Slices to compare with", many=True)
        return [self[volume * self.places.each + int(step)] for volume in chosen for step in steps]

    def _usable(self, place: int) -> list[int]:
        if place not in self._shown:
            volume = self.volumes[place]
            shown = volume if self.like is None else self.like[place]
            _check_alike([volume], [shown])
            self._shown[place] = [
                n for n, seen in enumerate(self.cut(shown)) if _has_foreground(seen[self.middle], self.min_foreground)
            ]
        return self._shown[place]

    def _number(self, place: int) -> int:
        return len(self._usable(place))


def check_depth(volume: torch.Tensor, slices: int = STACK) -> None:
    """Check that a volume has enough slices for a 2.5-D stack.

    Args:
        volume: Shape (..., Z).
        slices: Number of slices in a stack.

    Raises:
        ValueError: If it has fewer slices along the last axis; the message names the file.
    """
    if volume.shape[-1] < slices:
        raise ValueError(
            f"{file_name(volume)} has {volume.shape[-1]} axial slice(s), but the network sees each slice together with"
            f" its neighbours: at least {slices} are needed. Give the whole series, not a part of it."
        )


def validation_images(
    data: Data,
    source: str,
    target: str,
    transform: Callable,
    *,
    volumes: bool = False,
    labels: bool = True,
    cache: VolumeCache | None = None,
) -> list[dict[str, torch.Tensor]]:
    """Load the images that validation translates; of a long list those of some patients.

    Args:
        data: Data folder, datalist, or the entries of its list `validation`.
        source: Source domain.
        target: Target domain.
        transform: Maps `{"image": path}` to `{"image": encoded volume}`.
        volumes: Return volumes (C, X, Y, Z) instead of slices (C, X, Y).
        labels: Whether a target image of the same patient is the truth; False where the two are not aligned.
        cache: Cache of encoded volumes, see `cache_volumes`.

    Returns:
        Items `{"image": source}`, with the target under `label` if the validation list is paired.
    """
    entries = sampled_patients(load_datalist(data, "validation"), [source], "Validation")
    sources = cache_volumes(load_domain(entries, "validation", source), transform, cache=cache)
    paired = labels and all(source in entry and target in entry for entry in entries)
    targets = cache_volumes(entries, transform, key=target, cache=cache) if paired else None
    images = sources if volumes else axial_slices(sources)
    if targets is None:
        return [{"image": image} for image in images]
    truths = targets if volumes else axial_slices(targets, like=sources)
    return [{"image": image, "label": truth} for image, truth in zip(images, truths, strict=True)]


def validation_patches(
    data: Data,
    source: str,
    transform: Callable,
    *,
    size: int,
    each: int,
    mask_key: str | None = None,
    cache: VolumeCache | None = None,
    seed: int = 0,
) -> list[dict[str, torch.Tensor]]:
    """Load the source patches that validation super-resolves.

    Args:
        data: Data folder, datalist, or the entries of its list `validation`.
        source: Source domain.
        transform: As for `load_patch_volumes`.
        size: Pixels per side of a patch.
        each: Number of patches per volume.
        mask_key: As for `load_patch_volumes`.
        cache: As for `load_patch_volumes`.
        seed: Seed of the places.

    Returns:
        Items `{"image": (1, size, size)}`.

    Raises:
        ValueError: If there is no volume, or one has no patch.
    """
    chosen = sampled_patients(load_datalist(data, "validation"), [source], "Validation")
    entries = load_domain(chosen, "validation", source)
    volumes = load_patch_volumes(entries, transform, mask_key=mask_key, cache=cache)
    return [{"image": patch} for patch in random_patches(volumes, size, each=each, seed=seed)]


class UnpairedDataset(SeededDataset):
    """Pairs of a source image and a random target image, for unpaired translation.

    Args:
        source: Encoded images of shape (C, H, W[, D]).
        target: Encoded images of the target domain; with `paired`, `target[i]` belongs to `source[i]`.
        transform: Applied to `{"source": ..., "target": ...}`; MONAI's random transforms are seeded for each item.
        paired: Take `target[i]` instead of a random one (for supervised methods such as Pix2Pix).
        data: Entries of the datalist that the images come from, see `SeededDataset`.
        seed: Seed of the draws.

    Raises:
        ValueError: If `paired` and the lengths differ.
    """

    def __init__(
        self,
        source: Sequence[torch.Tensor],
        target: Sequence[torch.Tensor],
        *,
        transform: Callable | None = None,
        paired: bool = False,
        data: Entries = None,
        seed: int = 0,
    ) -> None:
        if paired and len(source) != len(target):
            raise ValueError(
                f"`paired` needs as many target as source images, got {len(source)} sources and {len(target)} targets."
            )
        self.source, self.target, self.transform = source, target, transform
        self.paired, self.data, self.seed = paired, data, seed

    def __len__(self) -> int:
        return len(self.source)

    def draw(self, epoch: int, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        other = index if self.paired else int(rng.integers(len(self.target)))
        item = {"source": self.source[index], "target": self.target[other]}
        item = apply_seeded(self.transform, item, draw_seed(rng))
        return {name: torch.as_tensor(image) for name, image in item.items()}


def _has_foreground(image: torch.Tensor, least: float) -> bool:
    return (image > BACKGROUND).float().mean().item() >= least


def _slices(volume: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.as_tensor(volume).as_subclass(torch.Tensor).unbind(-1)


def _stacks(volume: torch.Tensor, number: int) -> list[torch.Tensor]:
    check_depth(volume, number)
    if volume.dim() != 4 or volume.shape[0] != 1:
        raise ValueError(
            f"`volumes` must have the shape (1, X, Y, Z), but {file_name(volume)} has {tuple(volume.shape)}: give one"
            " intensity channel."
        )
    slices = torch.as_tensor(volume).as_subclass(torch.Tensor)[0].movedim(-1, 0)
    return [slices[z : z + number] for z in range(len(slices) - number + 1)]


def _blanked(place: int, *, volumes: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> torch.Tensor:
    _check_alike([volumes[place]], [masks[place]])
    volume, mask = (torch.as_tensor(each[place]).as_subclass(torch.Tensor) for each in (volumes, masks))
    return torch.where(mask > WHOLE, volume, -1.0)


def _bytes(volume: torch.Tensor) -> int:
    return volume.nbytes


def _check_alike(volumes: Sequence[torch.Tensor], like: Sequence[torch.Tensor]) -> None:
    if len(volumes) != len(like):
        raise ValueError(f"`like` must hold a volume for each of the {len(volumes)} volumes, got {len(like)}.")
    for volume, shown in zip(volumes, like):
        if volume.shape != shown.shape:
            raise ValueError(
                f"{file_name(volume)}, shape {tuple(volume.shape)}, and {file_name(shown)}, shape"
                f" {tuple(shown.shape)}, must have one shape to be a pair: resample them to one grid first."
            )
