"""Voxels of a volume in the DICOM series from which it was made.

Where they lie in it, how their values become the 16-bit integers of a DICOM image, and what is lost by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import Stack

LARGEST_MR = 32767  # stored value, see `choose_storage`
ALIGNED = 1e-3  # of a voxel: NIfTI stores an affine in single precision


@dataclass(frozen=True)
class Placement:
    """A volume as slices of its source series, at the source's pixels or at finer ones.

    Args:
        axes: axes of the volume that run along columns, rows and slices.
        scale: signed size of a voxel along columns, rows and slices, in voxels of the source.
        origin: place of the volume's voxel (0, 0, 0), in voxels of the source.
        shape: shape of the volume, by columns, rows and slices.
    """

    axes: tuple[int, int, int]
    scale: tuple[float, float, float]
    origin: tuple[float, float, float]
    shape: tuple[int, int, int]

    @property
    def corner(self) -> tuple[float, float]:
        """Column and row of the source at which the centre of the first pixel of each slice lies."""
        first = [start if scale > 0 else start + scale * (n - 1) for start, scale, n in self._in_plane]
        return first[0], first[1]

    @property
    def _in_plane(self) -> list[tuple[float, float, int]]:
        return list(zip(self.origin, self.scale, self.shape))[:2]

    @property
    def same_pixels(self) -> bool:
        """Whether pixels have the size and the places of the source's."""
        offsets = (*self.corner, *(abs(scale) - 1 for scale in self.scale[:2]))
        return all(abs(offset) < ALIGNED for offset in offsets)

    def source_index(self, index: int) -> int:
        """Return the source's slice at which the volume's slice `index` lies."""
        return round(self.origin[2] + self.scale[2] * index)

    def slices(self, volume: Any) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield slices in the order of the source: the source's index, and the pixels (rows, columns).

        Args:
            volume: object that is indexed like an array of three axes, such as nibabel's `dataobj`.
        """
        order = range(self.shape[2]) if self.scale[2] > 0 else reversed(range(self.shape[2]))
        for index in order:
            place = tuple(index if axis == self.axes[2] else slice(None) for axis in range(3))
            pixels = np.asarray(volume[place])
            pixels = pixels.T if self.axes[0] < self.axes[1] else pixels
            yield self.source_index(index), pixels[:: _sign(self.scale[1]), :: _sign(self.scale[0])]


def place(affine: ArrayLike, shape: tuple[int, ...], source: Stack) -> Placement:
    """Find how a volume lies in its source series.

    Args:
        affine: (4, 4) affine of the volume, to RAS in mm.
        shape: shape of the volume, three axes.
        source: series that the volume was made from.

    Raises:
        ValueError: when the volume is turned against the source, its slices are not slices of the source, or it
            reaches beyond the source: it would need resampling, or it belongs to another series.
    """
    if len(shape) != 3:
        raise ValueError(f"`volume` must have three axes, got shape {tuple(shape)}.")
    to_source = np.linalg.inv(source.affine) @ np.asarray(affine, dtype=float)
    turn = to_source[:3, :3]
    axes = tuple(int(axis) for axis in np.abs(turn).argmax(axis=1))
    scale = turn[range(3), axes]
    rest = turn.copy()
    rest[range(3), axes] = 0
    drift = np.abs(rest) * np.asarray(shape)  # over the whole volume, in voxels of the source
    if sorted(axes) != [0, 1, 2] or drift.max() > 0.05:
        raise ValueError("The volume's axes are turned against those of the source series: resample it to the source.")
    placed = Placement(_three(axes), _three(scale), _three(to_source[:3, 3]), _three(shape[axis] for axis in axes))
    _check_slices(placed, source)
    _check_extent(placed, source)
    return placed


def _check_slices(placed: Placement, source: Stack) -> None:
    ends = np.array([placed.origin[2], placed.origin[2] + placed.scale[2] * (placed.shape[2] - 1)])
    off = np.abs(ends - ends.round()).max()
    inside = ends.round().min() >= 0 and ends.round().max() < source.shape[2]
    if off > 0.05 or abs(abs(placed.scale[2]) - 1) > 0.05 or not inside:
        raise ValueError(
            f"Each slice of the volume must be one of the source's {source.shape[2]} slices; the first and the last lie"
            f" at {ends[0]:.3f} and {ends[1]:.3f}, {abs(placed.scale[2]):.3f} slices apart. Give the series that the"
            " volume was made from."
        )


def _check_extent(placed: Placement, source: Stack) -> None:
    for name, (start, scale, n), size in zip(("columns", "rows"), placed._in_plane, source.shape):
        edges = sorted((start - scale / 2, start + scale * (n - 0.5)))
        if edges[0] < -0.5 - 0.05 or edges[1] > size - 0.5 + 0.05:
            raise ValueError(
                f"The volume reaches from {edges[0] + 0.5:.2f} to {edges[1] + 0.5:.2f} of the source's {size} {name}:"
                " it must lie within the series that it was made from."
            )


def _three(values: Any) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third


def _sign(value: float) -> int:
    return 1 if value > 0 else -1


@dataclass(frozen=True)
class Storage:
    """How values are stored: an integer v stands for `v * slope + intercept`.

    Args:
        dtype: `int16` or `uint16`.
        slope: RescaleSlope.
        intercept: RescaleIntercept.
        limits: least and greatest value.
        error: largest difference between a value and what is stored for it.

    Example:
        >>> Storage("int16", 1.0, 0.0, (-1024, 3071), 0.0).encode(np.array([-1000.4, 40.6])).tolist()
        [-1000, 41]
    """

    dtype: str
    slope: float
    intercept: float
    limits: tuple[float, float]
    error: float

    def encode(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the stored integers, rounded, in little-endian order."""
        stored = np.rint((np.asarray(values, dtype=np.float64) - self.intercept) / self.slope)
        return stored.astype(np.dtype(self.dtype).newbyteorder("<"))

    @property
    def sentence(self) -> str:
        """Sentence that says what a reader must know of the quantisation."""
        if self.error == 0:
            return "Values are exact."
        return f"Values are rounded to steps of {self.slope:g}."


def choose_storage(slices: Iterable[NDArray[Any]], modality: str) -> Storage:
    """Choose the storage of a volume: whole HU for CT; for MR whole numbers as they are up to 32767, else 32767 steps.

    MR leaves the upper half of 16 bits unused, as Orthanc's viewer, for one, reads unsigned values as signed ones, and
    would show the brightest voxels as the darkest.

    Args:
        slices: slices of the volume, seen once.
        modality: `CT` or `MR`.

    Raises:
        ValueError: when a value is not finite, or a CT value does not fit 16 bits. Nothing is clipped.
    """
    low, high, fraction = _limits(slices)
    if modality == "CT" or (fraction == 0 and low >= 0 and high <= LARGEST_MR):
        dtype = np.dtype("int16" if modality == "CT" else "uint16")
        info = np.iinfo(dtype)
        if round(low) < info.min or round(high) > info.max:
            raise ValueError(
                f"HU must be within [{info.min}, {info.max}] to be stored in 16 bits, got [{low}, {high}]."
            )
        return Storage(dtype.name, 1.0, 0.0, (low, high), fraction)
    return _steps(low, high)


def _limits(slices: Iterable[NDArray[Any]]) -> tuple[float, float, float]:
    """Return the least and the greatest value, and the largest distance from a whole number."""
    low, high, fraction = np.inf, -np.inf, 0.0
    for pixels in slices:
        values = np.asarray(pixels, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"The volume has {int((~np.isfinite(values)).sum())} values that are not finite.")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        fraction = max(fraction, float(np.abs(values - np.rint(values)).max()))
    return low, high, fraction


def _steps(low: float, high: float) -> Storage:
    """Choose steps that DICOM's 16-character decimal strings hold exactly, so that reader and writer agree."""
    intercept = float(f"{low:.6e}")
    intercept -= abs(intercept) * 1e-6  # at or below the least value after rounding
    intercept = float(f"{intercept:.6e}")
    slope = float(f"{max(high - intercept, 1e-6) / (LARGEST_MR - 1):.6e}")
    return Storage("uint16", slope, intercept, (low, high), slope / 2)
