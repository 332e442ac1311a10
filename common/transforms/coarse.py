"""A volume as few, wide pixels in axial slices: what body and structure are measured on, free of noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from .enhanced import block_mean

PIXEL_MM = 3.0


def axial_last(array: np.ndarray, affine: np.ndarray) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """
    A view of a volume with its axial axis last, and the voxel sizes in that order.

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
    """
    How many pixels along X and Y make a wide one.

    Example:
        >>> block_factors((512, 512, 9), (0.7, 0.7, 1.0))
        (4, 4)
    """
    first, second = (max(1, min(round(pixel_mm / size), n)) for size, n in zip(spacing_mm[:2], shape[:2]))
    return first, second


def coarse_volume(image: Any, *, pixel_mm: float = PIXEL_MM, slice_mm: float = 0.0) -> tuple[NDArray[Any], list[float]]:
    """
    The block means of an image, and their size.

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
