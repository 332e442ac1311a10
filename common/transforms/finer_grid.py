"""The grid of an image of finer pixels: how a part of a volume, super-resolved and stored, lies in the world."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def finer_affine(affine: np.ndarray, factor: int, start: Sequence[int] = (0, 0, 0)) -> FloatArray:
    """
    Affine of voxels 1 / `factor` as wide along X and Y, which fill those of a volume from voxel `start` on.

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
    """
    How a volume along the patient's axes is stored along those of another one, axial slices last.

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
