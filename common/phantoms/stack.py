"""Voxel grid of a stack of axial slices, and painting on it.

Structures are signed distances in mm, positive inside. Rasterisation turns them into occupancies: the fraction of each
voxel that a structure fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import Parameters
from .fields import FloatArray, gaussian_random_field

FAR_MM = -99.0  # signed distance where no tube is near
THINNEST_PIXELS = 0.25  # smallest radius; a thinner tube would be drawn about a pixel wide, and is omitted
TABLE_OFFSET_SD_MM = 8.0  # offset of the chest from the scanner's isocentre


def soft_occupancy(signed_distance: FloatArray, half_width: float) -> FloatArray:
    """Compute the fraction of a voxel inside a surface as a linear ramp across the surface (partial volume).

    Args:
        signed_distance: Distance to the surface, positive inside, of any shape.
        half_width: Half the width of the ramp in the unit of the distance; half a voxel models a box-shaped voxel.

    Returns:
        Occupancy in [0, 1], of the same shape.

    Raises:
        ValueError: `half_width` is not positive.

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
    """Unite straight tubes with round ends with a signed distance map, in place.

    Every voxel within `margin` of a tube becomes max(old value, radius - distance to the tube's axis). Farther away the
    map is left unchanged, so start from a large negative value.

    Args:
        signed_distance: Map (nz, ny, nx) in mm, positive inside; changed in place.
        segments: End points (M, 2, 3) in mm, in the order z, y, x.
        radii: Radii (M,) in mm.
        origin: Position of voxel (0, 0, 0) in mm.
        spacing: Voxel size in mm along z, y, x.
        margin: Reach beyond the tube's surface in mm; by default 1.5 times the largest voxel side.

    Raises:
        ValueError: `segments` does not match `radii`.
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
    """Compute the distance of the grid spanned by three axes to the segment from `start` to `end`."""
    offset = np.meshgrid(*(axis - s for axis, s in zip(axes, start, strict=True)), indexing="ij", sparse=True)
    direction = np.asarray(end, dtype=float) - start
    length_squared = max(float(direction @ direction), 1e-12)
    along = np.clip(sum(o * d for o, d in zip(offset, direction, strict=True)) / length_squared, 0, 1)
    squared = sum((o - along * d) ** 2 for o, d in zip(offset, direction, strict=True))
    return np.asarray(np.sqrt(squared))


@dataclass(frozen=True)
class Stack:
    """Axial slices, regarded as thin planes; pixel (rows // 2, columns // 2) lies at y = x = 0.

    Attributes:
        levels_mm: Positions (slices,) of the slices downwards, evenly spaced.
        slice_mm: Distance between slices.
        in_plane_shape: Rows (y) and columns (x).
        pixel_mm: Pixel size.
    """

    levels_mm: FloatArray
    slice_mm: float
    in_plane_shape: tuple[int, int]
    pixel_mm: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return (len(self.levels_mm), *self.in_plane_shape)

    @property
    def z(self) -> FloatArray:
        """(slices, 1, 1) in mm, downwards."""
        return self.levels_mm.astype(np.float32)[:, None, None]

    @property
    def y(self) -> FloatArray:
        """(1, rows, 1) in mm, backwards."""
        return self._axis(self.in_plane_shape[0])[None, :, None]

    @property
    def x(self) -> FloatArray:
        """(1, 1, columns) in mm, to the patient's left."""
        return self._axis(self.in_plane_shape[1])[None, None, :]

    def _axis(self, count: int) -> FloatArray:
        return ((np.arange(count) - count // 2) * self.pixel_mm).astype(np.float32)

    def noise(self, rng: np.random.Generator, sigma_mm: float, *, across_mm: float | None = None) -> FloatArray:
        """Draw smooth noise of zero mean and unit variance on the grid; `across_mm` is the filter width along z."""
        across = sigma_mm if across_mm is None else across_mm
        in_plane = sigma_mm / self.pixel_mm
        return gaussian_random_field(rng, self.shape, sigma=(across / self.slice_mm, in_plane, in_plane))

    def occupancy(self, signed_distance: FloatArray, *, softness: float = 1.0) -> FloatArray:
        """Compute the fraction of each voxel inside a surface whose edge is `softness` pixels wide."""
        return soft_occupancy(signed_distance, 0.5 * softness * self.pixel_mm)

    def tubes(self, segments: FloatArray, radii: FloatArray) -> FloatArray:
        """Compute the signed distance in mm to tubes with ends (M, 2, 3) and radii (M,); `FAR_MM` if none is near."""
        distance = np.full(self.shape, FAR_MM, dtype=np.float32)
        margin = 0.75 * self.pixel_mm
        wide = radii > THINNEST_PIXELS * self.pixel_mm
        segments, radii = segments[wide], radii[wide]
        for level, plane in zip(self.levels_mm, distance, strict=True):
            low = segments[:, :, 0].min(axis=1) - radii - margin
            high = segments[:, :, 0].max(axis=1) + radii + margin
            near = (low < level) & (level < high)
            draw_tubes(
                plane[None],
                segments[near],
                radii=radii[near],
                origin=(level, self.y[0, 0, 0], self.x[0, 0, 0]),
                spacing=(self.pixel_mm, self.pixel_mm, self.pixel_mm),
                margin=margin,
            )
        return distance

    def path(self, points: Sequence[Sequence[float]], radius: float, *, margin: float = 6.0) -> FloatArray:
        """Compute the signed distance in mm to a bent tube through points (z, y, x), exact up to `margin` outside."""
        corners = np.asarray(points, dtype=float)
        segments = np.stack([corners[:-1], corners[1:]], axis=1)
        wide = self.tubes(segments, np.full(len(segments), radius + margin))
        return wide - np.float32(margin)


def lay_over(hu: FloatArray, value: FloatArray | float, occupancy: FloatArray) -> None:
    """Replace the fraction `occupancy` of each voxel by `value`, in place."""
    hu += (np.asarray(value, dtype=np.float32) - hu) * occupancy


def ellipse(a: FloatArray, b: FloatArray, half_axes: tuple[FloatArray | float, FloatArray | float]) -> FloatArray:
    """Compute the distance to an ellipse around the origin, positive inside and exact along the smaller half axis."""
    first, second = half_axes
    radius = np.sqrt((a / first) ** 2 + (b / second) ** 2)
    return (1 - radius) * np.minimum(first, second)


def scanner_affine(rng: np.random.Generator, parameters: Parameters, *, pixel_mm: float) -> NDArray[np.float64]:
    """Draw the affine of axial slices without tilt, stored as scanners do: rows backwards, columns to the left."""
    affine = np.diag([-pixel_mm, -pixel_mm, parameters["slice_mm"], 1.0])
    middle = (np.array([parameters["size"], parameters["size"], parameters["slices"]]) - 1) / 2
    affine[:3, 3] = rng.normal(0, TABLE_OFFSET_SD_MM, 3) - affine[:3, :3] @ middle
    return affine


def to_scanner_order(array: NDArray[Any]) -> NDArray[Any]:
    """Reorder (z down, y backwards, x to the left[, vector]) to (x to the left, y backwards, z up[, vector])."""
    return array.swapaxes(0, 2)[:, :, ::-1]
