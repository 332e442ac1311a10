"""Random patches of lungs for training super-resolution, unpaired or with ground truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from ..images.downsampling import DOWNSAMPLINGS
from .many import LazyVolumes, are_many, sampled
from .seeded import Entries, SeededDataset, apply_seeded, draw_seed

MAX_TRIES = 1000  # patches drawn in one volume until it is refused


class PatchVolume:
    """A volume to draw patches from.

    Args:
        image: Encoded volume, (1, X, Y, Z) in [-1, 1], axial slices along Z.
        mask: Boolean mask (X, Y, Z) that patches lie within; None: anywhere.
        name: Name in messages.

    Raises:
        ValueError: If the mask has another shape, or is empty.
    """

    def __init__(self, image: torch.Tensor, mask: np.ndarray | None = None, *, name: str = "the volume") -> None:
        shape = tuple(image.shape[1:])
        if mask is not None and mask.shape != shape:
            raise ValueError(f"the mask of {name} must have its shape {shape}, got {mask.shape}.")
        self.image, self.mask, self.name = image, mask, name
        # Box around the mask: the first voxel, and one beyond the last.
        self.first: tuple[int, ...] = (0, 0, 0)
        self.last: tuple[int, ...] = shape
        if mask is not None:
            spans = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
            if not len(spans[0]):
                raise ValueError(f"the mask of {name} is empty: there is no lung to draw patches from.")
            self.first = tuple(int(span[0]) for span in spans)
            self.last = tuple(int(span[-1]) + 1 for span in spans)

    def nbytes(self) -> int:
        """Return the bytes of image and mask."""
        return self.image.nbytes + (0 if self.mask is None else self.mask.nbytes)


def draw_patch(
    volume: PatchVolume, size: Sequence[int], rng: np.random.Generator, *, max_tries: int = MAX_TRIES
) -> torch.Tensor:
    """Draw an axial patch at a random place; a patch with a voxel outside the mask is rejected and drawn again.

    Args:
        volume: Volume to draw from.
        size: Pixels along X and Y.
        rng: Random number generator of the places.
        max_tries: Maximal number of draws, >= 1.

    Returns:
        A patch of shape (1, *size).

    Raises:
        ValueError: If the volume is smaller than a patch, or every try was rejected.

    Example:
        >>> volume = PatchVolume(torch.arange(32.0).reshape(1, 4, 4, 2), name="ramp")
        >>> draw_patch(volume, (2, 2), np.random.default_rng(0)).shape
        torch.Size([1, 2, 2])
    """
    width, height = size
    first, last = volume.first, volume.last
    if min(volume.image.shape[1] - width, volume.image.shape[2] - height) < 0:
        raise ValueError(
            f"{volume.name} must be at least as large as a patch, {width} x {height} voxels, got "
            f"{volume.image.shape[1]} x {volume.image.shape[2]}: choose smaller patches, or leave the volume out."
        )
    if min(last[0] - first[0] - width, last[1] - first[1] - height) < 0:
        raise ValueError(_rejection(volume, size, "none fits its extent"))
    for _ in range(max_tries):
        x = int(rng.integers(first[0], last[0] - width + 1))
        y = int(rng.integers(first[1], last[1] - height + 1))
        z = int(rng.integers(first[2], last[2]))
        if volume.mask is None or volume.mask[x : x + width, y : y + height, z].all():
            return volume.image[:, x : x + width, y : y + height, z].clone()
    raise ValueError(_rejection(volume, size, f"{max_tries} tries found none"))


class UnpairedPatchDataset(SeededDataset):
    """Unpaired patches of clinical and micro CT.

    Zheng et al., SPIE Medical Imaging 2020, sections 2.5 and 3.2: 32x32 and 256x256 pixels, 2000 patches per volume;
    a clinical patch with a voxel outside the lung mask is rejected.

    Each epoch draws new patches; the paper draws them once.

    Args:
        source: Clinical volumes, with lung masks unless they show nothing but lung.
        target: Micro CT volumes.
        factor: Width of a clinical pixel in micro CT pixels.
        source_size: Pixels per side of a clinical patch; a micro CT patch has `factor` times as many.
        patches_per_volume: Number of patches per clinical volume and epoch.
        transform: Applied to `{"source": (1, h, w), "target": (1, H, W)}`; MONAI's random transforms are seeded for
            each item.
        downsampled_every: Every n-th clinical patch is the micro CT patch itself, down-sampled to clinical pixels, as
            in the authors' later code (4); 0: none.
        downsampling: How, see `common.images.downsampling`: "mean", or "spline" as in the authors' later code.
        max_tries: Maximal number of draws per patch.
        data: Entries of the datalist that the volumes come from, see `SeededDataset`.
        seed: Seed of the draws.

    Raises:
        ValueError: If an argument is out of its range, a volume is smaller than a patch, or no patch fits its mask.
    """

    def __init__(
        self,
        source: Sequence[PatchVolume],
        target: Sequence[PatchVolume],
        *,
        factor: int = 8,
        source_size: int = 32,
        patches_per_volume: int = 2000,
        transform: Callable | None = None,
        downsampled_every: int = 0,
        downsampling: str = "mean",
        max_tries: int = MAX_TRIES,
        data: Entries = None,
        seed: int = 0,
    ) -> None:
        if not source or not target:
            raise ValueError(
                f"there must be volumes of both domains, got {len(source)} `source`, {len(target)} `target`."
            )
        counts = {"factor": factor, "source_size": source_size, "patches_per_volume": patches_per_volume}
        for name, value in {**counts, "max_tries": max_tries}.items():
            if value < 1:
                raise ValueError(f"`{name}` must be >= 1, got {value}.")
        if downsampled_every < 0:
            raise ValueError(f"`downsampled_every` must be >= 1, or 0 for never, got {downsampled_every}.")
        if downsampling not in DOWNSAMPLINGS:
            raise ValueError(f"`downsampling` must be one of {tuple(DOWNSAMPLINGS)}, got {downsampling!r}.")
        self.downsample = DOWNSAMPLINGS[downsampling]
        self.source, self.target = source, target
        self.factor, self.source_size = factor, source_size
        self.patches_per_volume, self.transform = patches_per_volume, transform
        self.downsampled_every, self.max_tries = downsampled_every, max_tries
        self.data, self.seed = data, seed
        for volumes, scale in ((self.source, 1), (self.target, factor)):  # fail now if a volume has no patch
            for volume in sampled(volumes, "Whether patches fit"):
                self._draw(volume, scale, np.random.default_rng(seed))

    def __len__(self) -> int:
        return len(self.source) * self.patches_per_volume

    def draw(self, epoch: int, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        item = {"target": self._draw(self.target[int(rng.integers(len(self.target)))], self.factor, rng)}
        if self.downsampled_every and index % self.downsampled_every == 0:
            item["source"] = self.downsample(item["target"], self.factor)
        else:
            item["source"] = self._draw(self.source[index // self.patches_per_volume], 1, rng)
        item = apply_seeded(self.transform, item, draw_seed(rng))
        return {name: torch.as_tensor(image) for name, image in item.items()}

    def _draw(self, volume: PatchVolume, factor: int, rng: np.random.Generator) -> torch.Tensor:
        side = factor * self.source_size
        return draw_patch(volume, (side, side), rng, max_tries=self.max_tries)


class PairedPatchDataset(SeededDataset):
    """Patches of clinical volumes and the same places of their fine ground truth, which only phantoms have.

    A fine slice is the mean of those within the clinical slice.

    Args:
        source: Clinical volumes, optionally with masks that patches lie within.
        target: Fine volumes of the same patients, in the same order.
        factor: Width of a clinical pixel in fine pixels.
        source_size: Pixels per side of a clinical patch; a fine patch has `factor` times as many.
        patches_per_volume: Number of patches per clinical volume and epoch.
        transform: Applied to `{"source": (1, h, w), "target": (1, H, W)}`; MONAI's random transforms are seeded for
            each item.
        data: Entries of the datalist that the volumes come from, see `SeededDataset`.
        seed: Seed of the draws.

    Raises:
        ValueError: If the grids of source and target do not match.

    Example:
        >>> coarse, fine = (PatchVolume(torch.zeros(1, side, side, 2 * side // 8)) for side in (8, 16))
        >>> item = PairedPatchDataset([coarse], [fine], factor=2, source_size=4)[0, 0]
        >>> {name: tuple(patch.shape) for name, patch in item.items()}
        {'source': (1, 4, 4), 'target': (1, 8, 8)}
    """

    def __init__(
        self,
        source: Sequence[PatchVolume],
        target: Sequence[PatchVolume],
        *,
        factor: int = 8,
        source_size: int = 32,
        patches_per_volume: int = 2000,
        transform: Callable | None = None,
        data: Entries = None,
        seed: int = 0,
    ) -> None:
        if not source or len(source) != len(target):
            raise ValueError(
                f"`target` must hold the truth of each `source` volume, got {len(source)} and {len(target)}."
            )
        self.source, self.target = source, target
        self.factor, self.source_size = factor, source_size
        self.volumes: Sequence[PatchVolume]
        if are_many(source):
            self.volumes = LazyVolumes(range(len(source)), self._join, size=PatchVolume.nbytes, mapped=False)
        else:
            self.volumes = [self._join(place) for place in range(len(source))]
        self.patches_per_volume, self.transform = patches_per_volume, transform
        self.data, self.seed = data, seed

    def __len__(self) -> int:
        return len(self.volumes) * self.patches_per_volume

    def draw(self, epoch: int, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        volume = self.volumes[index // self.patches_per_volume]
        patch = draw_patch(volume, (self.source_size, self.source_size), rng)
        item = {"source": patch[:1], "target": pixel_shuffle(patch[1:], self.factor)}
        item = apply_seeded(self.transform, item, draw_seed(rng))
        return {name: torch.as_tensor(image) for name, image in item.items()}

    def _join(self, place: int) -> PatchVolume:
        return _joined(self.source[place], self.target[place], self.factor)


def random_patches(volumes: Sequence[PatchVolume], size: int, *, each: int, seed: int = 0) -> list[torch.Tensor]:
    """Draw patches of every volume, or of some of many, the same ones each time.

    Args:
        volumes: Volumes to draw from.
        size: Pixels per side of a patch.
        each: Number of patches per volume.
        seed: Seed of the places.

    Returns:
        Patches of shape (1, size, size).

    Raises:
        ValueError: As `draw_patch`.
    """
    rng = np.random.default_rng(seed)
    chosen = sampled(volumes, "Patches to compare with")
    return [draw_patch(volume, (size, size), rng) for volume in chosen for _ in range(each)]


def _rejection(volume: PatchVolume, size: Sequence[int], what: str) -> str:
    share = 1.0 if volume.mask is None else float(volume.mask.mean())
    return (
        f"{volume.name} must hold patches of {size[0]} x {size[1]} voxels completely inside its lung mask, but {what}; "
        f"the mask covers {share:.1%} of the volume. Check the mask, choose smaller patches, or leave the volume out."
    )


def _joined(coarse: PatchVolume, fine: PatchVolume, factor: int) -> PatchVolume:
    """Join both on the clinical grid: the image, and the fine pixels at each place as further channels."""
    _, width, height, depth = coarse.image.shape
    thick = fine.image.shape[3] // depth
    if tuple(fine.image.shape[1:]) != (factor * width, factor * height, thick * depth) or thick < 1:
        raise ValueError(
            f"the truth of {coarse.name} must have {factor} times its {width} x {height} pixels and whole slices of its"
            f" {depth}, got the shape {tuple(fine.image.shape[1:])}."
        )
    slices = fine.image.unflatten(3, (depth, thick)).mean(dim=4).movedim(3, 0)  # (Z, 1, fX, fY)
    channels = pixel_unshuffle(slices, factor).movedim(0, 3)
    return PatchVolume(torch.cat([coarse.image, channels]), coarse.mask, name=coarse.name)
