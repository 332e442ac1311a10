"""The voxel grid of a stack of axial slices, in the patient's frame, and painting on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .fields import FloatArray, gaussian_random_field
from .raster import draw_tubes, soft_occupancy

FAR_MM = -99.0  # signed distance of what is not near any tube
THINNEST_PIXELS = 0.25  # radius; a thinner tube would come out about as wide as a pixel, and is left out


@dataclass(frozen=True)
class Stack:
    """Axial slices, which are thin planes; pixel (rows // 2, columns // 2) lies at y = x = 0.

    Attributes:
        levels_mm: (slices,) positions of the slices downwards, evenly spaced.
        slice_mm: their distance.
        in_plane_shape: rows (y) and columns (x).
        pixel_mm: pixel size.
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
        """Smooth noise of zero mean and unit variance on the grid; ``across_mm`` is the filter width along z."""
        across = sigma_mm if across_mm is None else across_mm
        in_plane = sigma_mm / self.pixel_mm
        return gaussian_random_field(rng, self.shape, sigma=(across / self.slice_mm, in_plane, in_plane))

    def occupancy(self, signed_distance: FloatArray, *, softness: float = 1.0) -> FloatArray:
        """Share of each voxel inside a surface, whose edge is ``softness`` pixels wide."""
        return soft_occupancy(signed_distance, 0.5 * softness * self.pixel_mm)

    def tubes(self, segments: FloatArray, radii: FloatArray) -> FloatArray:
        """Signed distance in mm to tubes with ends (M, 2, 3) and radii (M,), ``FAR_MM`` away from them."""
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
        """Signed distance in mm to a bent tube through points (z, y, x), right up to ``margin`` outside it."""
        corners = np.asarray(points, dtype=float)
        segments = np.stack([corners[:-1], corners[1:]], axis=1)
        wide = self.tubes(segments, np.full(len(segments), radius + margin))
        return wide - np.float32(margin)


def lay_over(hu: FloatArray, value: FloatArray | float, occupancy: FloatArray) -> None:
    """Replace the share ``occupancy`` of what is there by ``value``, in place."""
    hu += (np.asarray(value, dtype=np.float32) - hu) * occupancy


def ellipse(a: FloatArray, b: FloatArray, half_axes: tuple[FloatArray | float, FloatArray | float]) -> FloatArray:
    """Distance to the outline of an ellipse around the origin: positive inside, exact on the smaller half axis."""
    first, second = half_axes
    radius = np.sqrt((a / first) ** 2 + (b / second) ** 2)
    return (1 - radius) * np.minimum(first, second)
