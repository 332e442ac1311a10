"""Soft rasterisation: from signed distances in mm to the share of a voxel that a structure fills."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .fields import FloatArray


def soft_occupancy(signed_distance: FloatArray, half_width: float) -> FloatArray:
    """Share of a voxel inside a surface: a linear ramp across the surface (partial volume).

    Args:
        signed_distance: distance to the surface, positive inside, any shape.
        half_width: half the width of the ramp in the units of the distance; half a voxel is a box-shaped voxel.

    Returns:
        occupancy in [0, 1], of the same shape.

    Example:
        >>> soft_occupancy(np.array([-1.0, 0.0, 0.25, 1.0]), 0.5).tolist()
        [0.0, 0.5, 0.75, 1.0]
    """
    if half_width <= 0:
        raise ValueError(f"`half_width` must be > 0, got {half_width}.")
    return np.clip(signed_distance / (2 * half_width) + 0.5, 0, 1)


def draw_tubes(
    signed_distance: FloatArray,
    segments: FloatArray,
    *,
    radii: FloatArray,
    origin: Sequence[float],
    spacing: Sequence[float],
    margin: float | None = None,
) -> None:
    """Unite straight tubes with round ends into a signed distance map, in place.

    Every voxel within ``margin`` of a tube gets max(old value, radius - distance to the tube's axis); further away
    the map is left as it is, so start from a large negative value.

    Args:
        signed_distance: (nz, ny, nx) map in mm, positive inside; changed in place.
        segments: (M, 2, 3) end points in mm, order z, y, x.
        radii: (M,) radii in mm.
        origin: position of voxel (0, 0, 0) in mm.
        spacing: voxel size in mm along z, y, x.
        margin: reach beyond the tube's surface in mm; default 1.5 of the largest voxel side.
    """
    if segments.shape != (len(radii), 2, 3):
        expected = (len(radii), 2, 3)
        raise ValueError(
            f"`segments` must have shape {expected}, as there are {len(radii)} radii, got {segments.shape}."
        )
    origin_mm, voxel_mm = np.asarray(origin, dtype=float), np.asarray(spacing, dtype=float)
    reach = 1.5 * voxel_mm.max() if margin is None else margin
    for (start, end), radius in zip(segments, radii, strict=True):
        low = np.floor((np.minimum(start, end) - radius - reach - origin_mm) / voxel_mm).astype(int)
        high = np.ceil((np.maximum(start, end) + radius + reach - origin_mm) / voxel_mm).astype(int) + 1
        low, high = np.maximum(low, 0), np.minimum(high, signed_distance.shape)
        if (high <= low).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = [np.arange(a, b) * s + o for a, b, s, o in zip(low, high, voxel_mm, origin_mm, strict=True)]
        inside = radius - _distance_to_segment(axes, start, end)
        np.maximum(signed_distance[box], inside, out=signed_distance[box], casting="same_kind")


def _distance_to_segment(
    axes: Sequence[NDArray[np.float64]], start: FloatArray, end: FloatArray
) -> NDArray[np.float64]:
    """Distance of the grid spanned by three axes to the segment from ``start`` to ``end``."""
    offset = np.meshgrid(*(axis - s for axis, s in zip(axes, start, strict=True)), indexing="ij", sparse=True)
    direction = np.asarray(end, dtype=float) - start
    length_squared = max(float(direction @ direction), 1e-12)
    along = np.clip(sum(o * d for o, d in zip(offset, direction, strict=True)) / length_squared, 0, 1)
    squared = sum((o - along * d) ** 2 for o, d in zip(offset, direction, strict=True))
    return np.asarray(np.sqrt(squared))
