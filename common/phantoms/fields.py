"""Smooth Gaussian random fields: on a voxel grid, and as periodic fields that can be sampled anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatArray = NDArray[np.floating]

# Step of the coarse lattices in correlation lengths: linear interpolation between them is then smooth enough.
GRID_STEP_IN_SIGMA = 0.5
LATTICE_STEP_IN_SIGMA = 0.75


def gaussian_random_field(
    rng: np.random.Generator, shape: Sequence[int], *, sigma: float | Sequence[float]
) -> FloatArray:
    """Draw a stationary Gaussian random field of zero mean and unit variance.

    The field is white noise filtered by a Gaussian of standard deviation `sigma`, so that two voxels at distance d
    correlate with exp(-d^2 / (4 sigma^2)). A long-range field is drawn on a coarse lattice and interpolated linearly.

    Args:
        rng: Source of the noise.
        shape: Number of voxels along each axis.
        sigma: Filter width in voxels, one number or one per axis; 0 gives white noise along that axis.

    Returns:
        Array of shape `shape`, float32.

    Raises:
        ValueError: A filter width is negative.

    Example:
        >>> gaussian_random_field(np.random.default_rng(0), (4, 32, 32), sigma=(0.5, 3.0, 3.0)).shape
        (4, 32, 32)
    """
    sigmas = np.broadcast_to(np.asarray(sigma, dtype=float), (len(shape),))
    if (sigmas < 0).any():
        raise ValueError(f"`sigma` must be >= 0 voxels, got {sigma}.")
    steps = np.maximum(1, np.floor(GRID_STEP_IN_SIGMA * sigmas)).astype(int)
    # Noise is periodic: a margin of three correlation lengths keeps opposite faces independent.
    nodes = [
        int(np.ceil(n / step) + np.ceil(3 * s / step) + 1) for n, step, s in zip(shape, steps, sigmas, strict=True)
    ]
    field = _filtered_noise(rng, nodes, sigmas / steps, interpolated=steps > 1)
    for axis, (n, step) in enumerate(zip(shape, steps, strict=True)):
        phase = rng.random() if step > 1 else 0.0
        field = _interpolate_axis(field, np.arange(n) / step + phase, axis)
    return field


def multiscale_noise(
    rng: np.random.Generator, shape: Sequence[int], *, scales: Sequence[tuple[float, float]], spacing: Sequence[float]
) -> FloatArray:
    """Draw a weighted sum of independent random fields of several filter widths, scaled to unit variance.

    Args:
        rng: Source of the noise.
        shape: Number of voxels along each axis.
        scales: Pairs of filter width in mm and weight.
        spacing: Voxel size in mm along each axis.

    Returns:
        Array of `shape`, float32.
    """
    total = np.sqrt(sum(weight**2 for _, weight in scales))
    field = np.zeros(shape, dtype=np.float32)
    for sigma_mm, weight in scales:
        field += np.float32(weight / total) * gaussian_random_field(rng, shape, sigma=[sigma_mm / s for s in spacing])
    return field


@dataclass(frozen=True)
class PeriodicField:
    """Scalar field on a periodic lattice around the origin, interpolated linearly.

    Attributes:
        values: Values (nz, ny, nx) at the nodes; node (0, 0, 0) lies at the origin.
        step_mm: Distance between nodes along z, y and x in mm.
    """

    values: FloatArray
    step_mm: tuple[float, float, float]

    @classmethod
    def noise(cls, rng: np.random.Generator, sigma_mm: float, *, period_mm: float = 200.0) -> PeriodicField:
        """Draw noise of zero mean, unit variance and filter width `sigma_mm` with a period of `period_mm`."""
        nodes = max(4, int(np.ceil(period_mm / (LATTICE_STEP_IN_SIGMA * sigma_mm))))
        step = period_mm / nodes
        values = _filtered_noise(rng, [nodes] * 3, np.full(3, sigma_mm / step), interpolated=np.ones(3, dtype=bool))
        return cls(values, (step, step, step))

    def at(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        """Sample at scattered points with coordinates `z`, `y`, `x` in mm, all of one shape."""
        nodes = [np.asarray(p, dtype=np.float32) / s for p, s in zip((z, y, x), self.step_mm, strict=True)]
        return ndimage.map_coordinates(self.values, nodes, order=1, mode="grid-wrap", output=np.float32)

    def on_grid(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        """Sample on the grid spanned by three 1-D axes in mm and return (len(z), len(y), len(x))."""
        field = self.values
        for axis, (positions, step) in enumerate(zip((z, y, x), self.step_mm, strict=True)):
            field = _interpolate_axis(field, np.asarray(positions, dtype=float) / step, axis)
        return field


def _filtered_noise(
    rng: np.random.Generator, nodes: Sequence[int], sigma: NDArray[np.float64], *, interpolated: NDArray[np.bool_]
) -> FloatArray:
    """Draw periodic Gaussian-filtered noise, scaled to unit variance *after* linear interpolation along some axes."""
    field = rng.standard_normal(nodes, dtype=np.float32)
    variance = 1.0
    for axis, (n, s) in enumerate(zip(nodes, sigma, strict=True)):
        if s == 0:
            continue
        field = ndimage.gaussian_filter1d(field, s, axis=axis, mode="wrap")
        kernel = ndimage.gaussian_filter1d(np.eye(1, n, n // 2)[0], s, mode="wrap")
        variance *= float(kernel @ kernel)
        if interpolated[axis]:
            # Mean of (1-w)^2 + w^2 + 2 w (1-w) rho over the position w within a cell.
            variance *= (2 + np.exp(-1 / (4 * s**2))) / 3
    return field / np.float32(np.sqrt(variance))


def _interpolate_axis(values: FloatArray, positions: NDArray[np.float64], axis: int) -> FloatArray:
    """Interpolate a periodic array linearly along one axis at `positions`, in nodes."""
    lower = np.floor(positions).astype(int)
    weight = (positions - lower).astype(np.float32)
    n = values.shape[axis]
    below = np.take(values, lower % n, axis)
    if not weight.any():
        return below
    weight = weight.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    return below + weight * (np.take(values, (lower + 1) % n, axis) - below)
