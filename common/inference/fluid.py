"""The brightness of fluid in a translation from T1 to T2: what is black in a T1 is the brightest of a T2."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils.module import optional_import
from numpy.typing import NDArray

from ..images.grids import MOST_VOXELS
from ..images.nifti import forget_pages
from ..metrics.score import foreground_mask
from ..transforms.streaming import Foreground

ndimage, _ = optional_import("scipy.ndimage")

RIM_MM = 35.0  # of the head: scalp, skull, and the fluid around the brain
DEPTH_MM = (30.0, 75.0)  # below the top: the ventricles, above the air of the skull's base
TOP_SHARE = 0.02  # of a slice that the head covers: the first one that is not noise
FLUID, TISSUE = 0.5, 0.75  # of the median in the middle of the brain, in T1
LEAST_VOXELS = 50
SLAB = 4  # slices of a volume that are read at a time


def brain_middle(source: np.ndarray, spacing_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Return the middle of the head, which is brain with its ventricles, whether the scalp was removed or not.

    Args:
        source: Volume (X, Y, Z), axial slices from the feet upwards.
        spacing_mm: Voxel size in mm.
    """
    head = foreground_mask(source)
    middle = np.zeros(head.shape, dtype=bool)
    for level in _middle_levels(head.mean(axis=(0, 1)), spacing_mm[2]):
        middle[:, :, level] = _middle_plane(head[:, :, level], spacing_mm)
    return middle


def _middle_levels(shares: np.ndarray, slice_mm: float) -> list[int]:
    """Return the slices of the brain's middle from the share of each slice that the head covers."""
    slices = np.flatnonzero(shares > TOP_SHARE)
    return [int(n) for n in slices if DEPTH_MM[0] <= (slices[-1] - n) * slice_mm <= DEPTH_MM[1]]


def _middle_plane(head: np.ndarray, pixel_mm: Sequence[float]) -> NDArray[np.bool_]:
    filled = np.pad(ndimage.binary_fill_holes(head), 1)
    return np.asarray(ndimage.distance_transform_edt(filled, sampling=pixel_mm[:2])[1:-1, 1:-1] > RIM_MM)


class Inversion:
    """The measures of an inverted contrast of a translation that comes slab by slab.

    They are taken in the middle of the brain; without one, in all that is no air. It is sought for the first slab.

    Args:
        source: Volume (1, X, Y, Z) that is translated, which may be memory-mapped.
        at_once: Largest volume in voxels of which the foreground is found at once.
    """

    def __init__(self, source: MetaTensor, *, at_once: int = MOST_VOXELS) -> None:
        self._source, self._at_once = source, at_once
        affine = np.asarray(source.affine, dtype=float)
        self._axes = nib.orientations.io_orientation(affine)
        self._depth = int(source.shape[1 + int(np.flatnonzero(self._axes[:, 0] == 2)[0])])
        self._downwards = bool(self._axes[self._axes[:, 0] == 2][0, 1] < 0)
        self._values: list[NDArray] = []  # of the middle alone, which is small
        self._sums = np.zeros((3, 3))

    @functools.cached_property
    def _region(self) -> Mapping[int, NDArray] | Foreground:
        source = self._source
        upright = nib.orientations.apply_orientation(torch.as_tensor(source)[0].cpu().numpy(), self._axes)
        spacing_mm = nib.affines.voxel_sizes(np.asarray(source.affine, dtype=float))[np.argsort(self._axes[:, 0])]

        def slabs() -> Iterator[np.ndarray]:
            for start in range(0, self._depth, SLAB):
                yield upright[..., start : start + SLAB]
                forget_pages(source)

        head = Foreground.at_once(upright) if upright.size <= self._at_once else Foreground(slabs)
        shares = np.array([head[level].mean() for level in range(self._depth)])
        middle = {n: _middle_plane(head[n], spacing_mm) for n in _middle_levels(shares, spacing_mm[2])}
        return middle if any(plane.any() for plane in middle.values()) else head

    def add(self, source: np.ndarray, output: np.ndarray, start: int) -> None:
        """Add slices of the source and of the translation as stored, (X, Y, Z), from slice `start` on."""
        first, second = (nib.orientations.apply_orientation(part, self._axes) for part in (source, output))
        lowest = self._depth - start - first.shape[2] if self._downwards else start
        region = self._region
        middle = region if isinstance(region, Mapping) else None
        for level in range(first.shape[2]):
            if middle is not None and lowest + level not in middle:
                continue
            inside = region[lowest + level]
            values = np.stack([part[..., level][inside] for part in (first, second)]).astype(np.float64)
            rows = np.concatenate([np.ones((1, values.shape[1])), values])
            self._sums += rows @ rows.T
            if middle is not None:
                self._values.append(values.astype(np.float32))

    def measures(self) -> dict[str, float | None]:
        """Return the `correlation` of source and translation, see `masked_correlation`, and the `fluid_brightness`."""
        (count, *means), covariance = self._sums[0], self._sums[1:, 1:]
        covariance = covariance - np.outer(means, means) / max(count, 1)
        spread = np.sqrt(np.maximum(np.diag(covariance), 0))
        noise = 1e-7 * np.sqrt(np.maximum(np.diag(self._sums)[1:], 1e-300))  # what rounding leaves of a constant
        correlation = 1.0 if count < 2 or (spread <= noise).any() else covariance[0, 1] / np.prod(spread)
        first, second = np.concatenate(self._values, axis=1) if self._values else np.empty((2, 0))
        return {
            "correlation": float(correlation),
            "fluid": fluid_brightness(first, second, np.ones(first.shape, dtype=bool)),
        }


def fluid_brightness(source: np.ndarray, output: np.ndarray, middle: np.ndarray) -> float | None:
    """Return how bright the fluid of a T1 is in its translation, relative to the tissue.

    In the true T2 of eight patients it is 2.3 to 3.8, with and without scalp, in their FLAIR 0.3 to 0.6.

    Args:
        source: T1 (X, Y, Z).
        output: Translation (X, Y, Z).
        middle: Mask of the middle of the brain, see `brain_middle`.

    Returns:
        Ratio of the medians, or None if there is too little fluid to tell.

    Example:
        >>> t1 = np.full((20, 20, 1), 100.0)
        >>> t1[:5] = 20
        >>> fluid_brightness(t1, 200 - t1, np.ones(t1.shape, bool))
        1.8
    """
    if not middle.any():
        return None
    usual = float(np.median(source[middle]))
    fluid, tissue = middle & (source < FLUID * usual), middle & (source > TISSUE * usual)
    if min(fluid.sum(), tissue.sum()) < LEAST_VOXELS:
        return None
    reference = float(np.median(output[tissue]))
    return float(np.median(output[fluid])) / reference if reference > 0 else None
