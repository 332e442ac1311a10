"""How well a translation agrees with its source: measures on slices of wide pixels, which noise does not reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..transforms.coarse import axial_last, block_factors
from ..transforms.enhanced import block_mean

FloatArray = NDArray[np.floating[Any]]
ROOM = 64  # slices for which there is room at first


@dataclass
class Extremes:
    """Smallest and largest finite value, and how many are not finite."""

    low: float = float("inf")
    high: float = float("-inf")
    not_finite: int = 0

    def add(self, values: np.ndarray) -> None:
        """Take in more values."""
        finite = values[np.isfinite(values)]
        self.not_finite += values.size - finite.size
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))


@dataclass
class PairedSlices:
    """
    The slices of a source and of its translation, as they come: only their wide pixels are kept.

    Args:
        spacing_mm: pixel size of the source along X and Y.
        finer: pixels of the output along each side of one of the source.

    Example:
        >>> pair = PairedSlices((1.0, 1.0))
        >>> pair.add(np.zeros((6, 6)), np.ones((6, 6)))
        >>> pair.volumes()[1].ravel().tolist(), pair.output.high
        ([1.0, 1.0, 1.0, 1.0], 1.0)
    """

    spacing_mm: Sequence[float]
    finer: int = 1
    source: Extremes = field(default_factory=Extremes)
    output: Extremes = field(default_factory=Extremes)
    _levels: list[int] = field(default_factory=list)
    _coarse: FloatArray | None = None  # (room, 2, X', Y'): one array, as many small ones would scatter over the memory

    def add(self, source: np.ndarray, output: np.ndarray, level: int | None = None) -> None:
        """
        Take in a slice of the source and its translation.

        Args:
            source: shape (X, Y).
            output: shape (finer X, finer Y).
            level: the slice's number; default: the next.
        """
        first, second = block_factors(source.shape, self.spacing_mm)
        self.source.add(source)
        self.output.add(output)
        slices = [
            block_mean(np.nan_to_num(image, posinf=0.0, neginf=0.0)[..., None], [first * n, second * n, 1])[..., 0]
            for image, n in ((source, 1), (output, self.finer))
        ]
        self._levels.append(len(self._levels) if level is None else level)
        if self._coarse is None:
            self._coarse = np.empty((ROOM, 2, *slices[0].shape), dtype=np.float32)
        if len(self._levels) > len(self._coarse):
            self._coarse = np.concatenate([self._coarse, np.empty_like(self._coarse)])
        self._coarse[len(self._levels) - 1] = slices

    def volumes(self) -> tuple[FloatArray, FloatArray]:
        """Source and translation in wide pixels, (X, Y, Z) each."""
        if self._coarse is None:
            raise ValueError("a source and its translation can be compared from one slice on, but none was added.")
        ordered = self._coarse[np.argsort(self._levels)]
        return np.moveaxis(ordered[:, 0], 0, -1), np.moveaxis(ordered[:, 1], 0, -1)


def paired_slices(source: np.ndarray, output: np.ndarray, affine: np.ndarray) -> PairedSlices:
    """
    The axial slices of two volumes on one grid.

    Args:
        source: shape (X, Y, Z), stored in any order.
        output: likewise.
        affine: (4, 4), of both.
    """
    first, sizes = axial_last(source, affine)
    second, _ = axial_last(output, affine)
    pair = PairedSlices(sizes[:2])
    for level in range(first.shape[2]):
        pair.add(first[:, :, level], second[:, :, level])
    return pair


def edge_agreement(source: np.ndarray, output: np.ndarray, mask: np.ndarray) -> float:
    """
    Correlation of the steepness of two volumes inside a mask: 1 for the same edges, however their contrast is turned.

    Args:
        source: shape (X, Y, Z).
        output: likewise.
        mask: likewise, boolean.

    Returns:
        in [-1, 1]; 1 when both are flat, 0 when one of them is.

    Example:
        >>> ramp = np.linspace(0, 1, 8)[:, None, None] ** 2 * np.ones((8, 8, 2))
        >>> round(edge_agreement(ramp, 1 - ramp, np.ones(ramp.shape, bool)), 6)
        1.0
    """
    first, second = (steepness(volume)[mask] for volume in (source, output))
    flat = [edges.size < 2 or np.ptp(edges) == 0 for edges in (first, second)]
    if any(flat):
        return float(all(flat))
    return float(np.corrcoef(first, second)[0, 1])


def steepness(volume: np.ndarray) -> np.ndarray:
    """Magnitude of the gradient within each slice of (X, Y, Z), per pixel; 0 along an axis of one pixel."""
    squares = [np.gradient(volume, axis=axis) ** 2 for axis in (0, 1) if volume.shape[axis] > 1]
    return np.sqrt(np.sum(squares, axis=0)) if squares else np.zeros(volume.shape)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Dice's coefficient of two masks; 1 when both are empty.

    >>> overlap(np.array([1, 1, 0], bool), np.array([1, 0, 0], bool)).__round__(3)
    0.667
    """
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def slice_jump(volume: np.ndarray, mask: np.ndarray) -> float:
    """
    Mean |difference between neighbouring slices| inside a mask, as a share of the standard deviation in it.

    Args:
        volume: shape (X, Y, Z).
        mask: likewise, boolean; both neighbours must be in it.

    Returns:
        0 when there are no neighbours, or all values are equal.

    Example:
        >>> slice_jump(np.array([[[0.0, 2.0, 0.0, 2.0]]]), np.ones((1, 1, 4), bool))
        2.0
    """
    both = mask[..., 1:] & mask[..., :-1]
    spread = float(volume[mask].std()) if mask.any() else 0.0
    if spread == 0 or not both.any():
        return 0.0
    return float(np.abs(np.diff(volume, axis=-1))[both].mean()) / spread
