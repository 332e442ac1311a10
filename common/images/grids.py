"""Grids of volumes: finer and coarser ones, axial slices, and statistics of volumes that may be memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from .nifti import forget_pages

REGION = "region"  # key of a volume's meta data: the box that is processed, a JSON text, which survives collation
PIXEL_MM = 3.0  # default pixel size of coarse volumes
MOST_VOXELS = 2**24  # of a volume that is held in memory: a head at 1 mm
AT_A_TIME = 16  # slices of a mapped volume that are averaged together

FloatArray = NDArray[np.float64]


def finer_affine(affine: np.ndarray, factor: float, start: Sequence[int] = (0, 0, 0)) -> FloatArray:
    """Return the affine of a grid whose voxels are 1 / `factor` as wide along X and Y.

    Voxels are boxes, and the affine maps to their centres: the centre of the first fine voxel lies half a coarse
    voxel minus half a fine one before that of voxel `start`, so that their outer corners agree.

    Args:
        affine: Affine of the coarse volume, (4, 4), from voxel indices to mm.
        factor: Fine voxels per coarse voxel along X and along Y.
        start: Coarse voxel (x, y, z) whose corner becomes the first corner.

    Returns:
        Affine of the fine grid, (4, 4), from voxel indices to mm.

    Example:
        >>> finer_affine(np.diag([0.8, 0.8, 1.0, 1.0]), 8, (0, 0, 5))[:3].round(3).tolist()
        [[0.1, 0.0, 0.0, -0.35], [0.0, 0.1, 0.0, -0.35], [0.0, 0.0, 1.0, 5.0]]
    """
    to_coarse = np.diag([1 / factor, 1 / factor, 1.0, 1.0])
    to_coarse[:3, 3] = np.asarray(start, dtype=float) + [(1 / factor - 1) / 2, (1 / factor - 1) / 2, 0.0]
    return np.asarray(affine, dtype=float) @ to_coarse


class SliceStorage:
    """Storage layout of a RAS volume along the axes of another volume, axial slices last.

    Axes and directions are those of the other volume, with the axial axis moved to the end, so that a file can be
    written slice by slice.

    Args:
        affine: Affine of the volume to store, (4, 4); its axes point right, anterior and superior (RAS).
        shape: Shape of the volume to store, (X, Y, Z).
        like: Affine of the other volume, (4, 4).

    Attributes:
        affine: Affine as stored, (4, 4).
        shape: Shape as stored; slices along the last axis.
        downwards: Whether the first stored slice is the uppermost one.

    Example:
        >>> storage = SliceStorage(np.eye(4), (30, 20, 10), like=np.diag([-1.0, -1.0, 1.0, 1.0]))
        >>> storage.shape, storage.affine[:3, 3].tolist(), storage.downwards
        ((30, 20, 10), [29.0, 19.0, 0.0], False)
    """

    def __init__(self, affine: np.ndarray, shape: Sequence[int], *, like: np.ndarray) -> None:
        axes = nib.orientations.io_orientation(like)
        axes = np.concatenate([axes[axes[:, 0] != 2], axes[axes[:, 0] == 2]])
        self._change = nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), axes)
        self.affine: FloatArray = affine @ nib.orientations.inv_ornt_aff(self._change, shape)
        self.shape: tuple[int, ...] = tuple(int(shape[int(axis)]) for axis in axes[:, 0])
        self.downwards = bool(axes[2, 1] < 0)

    def slices(self, slab: np.ndarray) -> NDArray:
        """Reorder a slab (X, Y, n) of consecutive slices; slabs must come in the order given by `downwards`."""
        return np.asarray(nib.orientations.apply_orientation(slab, self._change))


def axial_last(array: np.ndarray, affine: np.ndarray) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """Return a view of a volume with its axial axis last, and the voxel sizes in that order.

    Args:
        array: Volume with axes in any order, shape (X, Y, Z).
        affine: Affine to RAS in mm, (4, 4).

    Example:
        >>> view, sizes = axial_last(np.zeros((5, 3, 4)), np.array([[0, 2.0, 0, 0], [0, 0, 1, 0], [6, 0, 0, 0], [0, 0, 0, 1]]))
        >>> view.shape, sizes
        ((3, 4, 5), (2.0, 1.0, 6.0))
    """  # noqa: E501
    axial = int(np.flatnonzero(nib.orientations.io_orientation(affine)[:, 0] == 2)[0])
    first, second = (axis for axis in range(3) if axis != axial)
    sizes = nib.affines.voxel_sizes(affine)
    return np.moveaxis(array, axial, -1), (float(sizes[first]), float(sizes[second]), float(sizes[axial]))


def block_factors(shape: Sequence[int], spacing_mm: Sequence[float], *, pixel_mm: float = PIXEL_MM) -> tuple[int, int]:
    """Return how many pixels along X and Y make a coarse pixel.

    Args:
        shape: Shape of the volume, (X, Y, ...).
        spacing_mm: Voxel sizes in mm.
        pixel_mm: Approximate size of a coarse pixel in mm.

    Example:
        >>> block_factors((512, 512, 9), (0.7, 0.7, 1.0))
        (4, 4)
    """
    first, second = (max(1, min(round(pixel_mm / size), n)) for size, n in zip(spacing_mm[:2], shape[:2]))
    return first, second


def block_mean(volume: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Return the float32 means of blocks of voxels; voxels at the far ends that fill no block are left out.

    Example:
        >>> block_mean(np.arange(5.0).reshape(5, 1, 1), [2, 1, 1]).ravel().tolist()
        [0.5, 2.5]
    """
    x, y, z = (n // factor for n, factor in zip(volume.shape, factors))
    fx, fy, fz = factors
    blocks = volume[: x * fx, : y * fy, : z * fz].reshape(x, fx, y, fy, z, fz)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


def coarse_volume(
    image: Any, *, pixel_mm: float = PIXEL_MM, slice_mm: float = 0.0, most: int | None = None
) -> tuple[NDArray[Any], list[float]]:
    """Average an image over blocks of voxels, which reduces noise. It may be memory-mapped: slabs are read in turn.

    Args:
        image: A MetaTensor (1, X, Y, Z).
        pixel_mm: Approximate pixel size after averaging.
        slice_mm: Approximate slice thickness after averaging; 0: slices are not averaged.
        most: Largest number of voxels after averaging; more slices are averaged if there would be more.

    Returns:
        Volume of shape (X', Y', Z'), axial slices last, and its voxel sizes in mm.
    """
    array, sizes = axial_last(torch.as_tensor(image)[0].cpu().numpy(), np.asarray(image.affine, dtype=float))
    slices = max(1, min(round(slice_mm / sizes[2]), array.shape[2]))
    factors = [*block_factors(array.shape, sizes, pixel_mm=pixel_mm), slices]
    shape = [n // factor for n, factor in zip(array.shape, factors)]
    if most is not None and (times := -(-int(np.prod(shape, dtype=np.int64)) // most)) > 1:
        factors[2] *= min(times, shape[2])
        shape[2] = array.shape[2] // factors[2]
    coarse = np.empty(shape, dtype=np.float32)
    together = max(1, AT_A_TIME // factors[2])
    for start in range(0, shape[2], together):
        stop = min(start + together, shape[2])
        coarse[..., start:stop] = block_mean(array[..., start * factors[2] : stop * factors[2]], factors)
        forget_pages(torch.as_tensor(image))
    return coarse, [size * factor for size, factor in zip(sizes, factors)]


def reduced(image: Any, most: int = MOST_VOXELS) -> tuple[NDArray[Any], list[float]]:
    """Return an image as it is or, if it has more than `most` voxels, averaged over cubes to a quarter of that at most.

    What looks at the whole image needs several times its memory: the more voxels, the wider they become.

    Args:
        image: A MetaTensor (1, X, Y, Z).
        most: Largest number of voxels of an image that is not averaged.

    Returns:
        Volume (X', Y', Z') and its voxel sizes in mm; an averaged one has its axial slices last.
    """
    affine = getattr(image, "affine", None)
    sizes = np.ones(3) if affine is None else nib.affines.voxel_sizes(np.asarray(affine, dtype=float))
    volume = torch.as_tensor(image)[0].cpu().numpy()
    if volume.size <= most:
        return volume, [float(size) for size in sizes]
    side = float((volume.size * np.prod(sizes) / (most // 4)) ** (1 / 3))
    return coarse_volume(image, pixel_mm=side, slice_mm=side, most=most // 4)


def planes(volume: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the slices of a volume (C, X, Y, Z) along its slowest axis in memory; of a mapped one, one is held.

    Example:
        >>> len(list(planes(torch.zeros(1, 4, 5, 6)))), len(list(planes(torch.zeros(6, 5, 4, 1).permute(3, 2, 1, 0))))
        (4, 6)
    """
    for plane in volume.as_subclass(torch.Tensor).unbind(max((1, 2, 3), key=volume.stride)):
        yield plane
        forget_pages(volume)


def extremes(volume: torch.Tensor) -> tuple[float, float]:
    """Return the smallest and largest value of a volume (C, X, Y, Z), read plane by plane."""
    found = [(float(part.min()), float(part.max())) for part in planes(volume)]
    return min(low for low, _ in found), max(high for _, high in found)


def sampled(volume: torch.Tensor, most: int) -> torch.Tensor:
    """Take evenly spaced voxels of a volume, or all if there are few.

    Args:
        volume: (C, X, Y, Z), which may be memory-mapped: only the voxels taken are copied.
        most: Approximate maximal number of voxels.

    Returns:
        Values of shape (N,).

    Example:
        >>> sampled(torch.arange(1000).view(1, 10, 10, 10), 100).shape, sampled(torch.zeros(1, 2, 2, 2), 100).shape
        (torch.Size([64]), torch.Size([8]))
    """
    step = 1
    while volume.numel() > most * step**3:
        step += 1
    values = volume[:, ::step, ::step, ::step].reshape(-1)
    forget_pages(volume)
    return values
