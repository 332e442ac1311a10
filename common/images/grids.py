"""The grid of an image of finer pixels: how a part of a volume, super-resolved and stored, lies in the world.

A volume as few, wide pixels in axial slices: what body and structure are measured on, free of noise.

Looking at a volume without a copy of it, as it may be a view of the disk: voxels evenly spread, and its planes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def finer_affine(affine: np.ndarray, factor: int, start: Sequence[int] = (0, 0, 0)) -> FloatArray:
    """Affine of voxels 1 / `factor` as wide along X and Y, which fill those of a volume from voxel `start` on.

    Voxels are boxes, and the affine tells of their centres: the centre of the first fine voxel lies half a coarse
    voxel less half a fine one before that of voxel `start`, so that their outer corners agree.

    Args:
        affine: (4, 4), of the coarse volume, from voxel indices to millimetres.
        factor: fine voxels in a coarse one, along X and along Y.
        start: coarse voxel (x, y, z) whose corner is the new first corner.

    Returns:
        (4, 4), from indices of the fine voxels to millimetres.

    Example:
        >>> finer_affine(np.diag([0.8, 0.8, 1.0, 1.0]), 8, (0, 0, 5))[:3].round(3).tolist()
        [[0.1, 0.0, 0.0, -0.35], [0.0, 0.1, 0.0, -0.35], [0.0, 0.0, 1.0, 5.0]]
    """
    to_coarse = np.diag([1 / factor, 1 / factor, 1.0, 1.0])
    to_coarse[:3, 3] = np.asarray(start, dtype=float) + [(1 / factor - 1) / 2, (1 / factor - 1) / 2, 0.0]
    return np.asarray(affine, dtype=float) @ to_coarse


class SliceStorage:
    """How a volume along the patient's axes is stored along those of another one, axial slices last.

    Axes and directions are those of the other volume. Its axial axis is moved to the end where it is not there: a file
    can then be written slice after slice.

    Args:
        affine: (4, 4), of the volume to store; its axes run to the right, to the front and up (RAS).
        shape: (X, Y, Z), of it.
        like: (4, 4), affine of the other volume.

    Attributes:
        affine: (4, 4), as stored.
        shape: as stored; slices along the last axis.
        downwards: whether the first slice stored is the uppermost one.

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
        """Reorder a slab (X, Y, n) of consecutive slices; slabs have to come in the order that `downwards` tells."""
        return np.asarray(nib.orientations.apply_orientation(slab, self._change))


PIXEL_MM = 3.0


def axial_last(array: np.ndarray, affine: np.ndarray) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """A view of a volume with its axial axis last, and the voxel sizes in that order.

    Args:
        array: shape (X, Y, Z), stored in any order of axes.
        affine: (4, 4), to RAS in mm.

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
    """How many pixels along X and Y make a wide one.

    Example:
        >>> block_factors((512, 512, 9), (0.7, 0.7, 1.0))
        (4, 4)
    """
    first, second = (max(1, min(round(pixel_mm / size), n)) for size, n in zip(spacing_mm[:2], shape[:2]))
    return first, second


def coarse_volume(image: Any, *, pixel_mm: float = PIXEL_MM, slice_mm: float = 0.0) -> tuple[NDArray[Any], list[float]]:
    """The block means of an image, and their size.

    Args:
        image: a MetaTensor (1, X, Y, Z).
        pixel_mm: pixels are averaged to about this size.
        slice_mm: likewise slices; 0: each slice is kept.

    Returns:
        shape (X', Y', Z'), axial slices last; voxel size in mm.
    """
    array, sizes = axial_last(torch.as_tensor(image)[0].cpu().numpy(), np.asarray(image.affine, dtype=float))
    slices = max(1, min(round(slice_mm / sizes[2]), array.shape[2]))
    factors = [*block_factors(array.shape, sizes, pixel_mm=pixel_mm), slices]
    return block_mean(array, factors), [size * factor for size, factor in zip(sizes, factors)]


def planes(volume: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The slices of a volume (C, X, Y, Z) along the axis in which it is stored.

    Example:
        >>> len(planes(torch.zeros(1, 4, 5, 6))), len(planes(torch.zeros(6, 5, 4, 1).permute(3, 2, 1, 0)))
        (4, 6)
    """
    return volume.as_subclass(torch.Tensor).unbind(max((1, 2, 3), key=volume.stride))


def extremes(volume: torch.Tensor) -> tuple[float, float]:
    """Smallest and largest value of a volume (C, X, Y, Z), plane by plane."""
    parts = planes(volume)
    return min(float(part.min()) for part in parts), max(float(part.max()) for part in parts)


def sampled(volume: torch.Tensor, most: int) -> torch.Tensor:
    """About so many voxels of a volume, or all of them if there are fewer.

    Args:
        volume: (C, X, Y, Z), whose voxels may lie on the disk: only those that are taken are copied.
        most: a little more may come.

    Returns:
        (N,).

    Example:
        >>> sampled(torch.arange(1000).view(1, 10, 10, 10), 100).shape, sampled(torch.zeros(1, 2, 2, 2), 100).shape
        (torch.Size([64]), torch.Size([8]))
    """
    step = 1
    while volume.numel() > most * step**3:
        step += 1
    return volume[:, ::step, ::step, ::step].reshape(-1)


def block_mean(volume: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """The mean of blocks of voxels, float32; voxels at the far ends that fill no block are left out.

    Example:
        >>> block_mean(np.arange(5.0).reshape(5, 1, 1), [2, 1, 1]).ravel().tolist()
        [0.5, 2.5]
    """
    x, y, z = (n // factor for n, factor in zip(volume.shape, factors))
    fx, fy, fz = factors
    blocks = volume[: x * fx, : y * fy, : z * fz].reshape(x, fx, y, fy, z, fz)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)
