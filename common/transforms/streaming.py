"""What depends on a whole volume, found slab by slab: percentiles, ranks and the foreground, in bounded memory.

Values are counted after rounding to 16 significant binary digits: exact for whole numbers up to 65536, and off by at
most 2**-17 of themselves otherwise. Masks are kept in one bit a voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import ScaleIntensityRange, ScaleIntensityRangePercentilesd
from monai.utils.module import optional_import
from numpy.typing import NDArray

from ..metrics.score import COMPONENT_SHARE, THRESHOLD_SHARE, foreground_mask
from .standardize import BACKGROUND, EDGE, LOWEST, StandardizeForegroundd

ndimage, _ = optional_import("scipy.ndimage")

DROPPED_BITS = 8  # of the 24 of a float32
Mask = NDArray[np.bool_]
Slabs = Callable[[], Iterator[np.ndarray]]  # consecutive slabs (X, Y, n) of a volume, from its first slice
SlabEncoder = Callable[[np.ndarray, int], np.ndarray]  # of a slab (X, Y, n) that begins with the given slice


class ValueCounts:
    """How often each value occurs, of any number of values.

    Example:
        >>> counts = ValueCounts()
        >>> for part in np.arange(101.0).reshape(1, -1).repeat(2, 0):
        ...     counts.add(part)
        >>> counts.percentile(99.0), counts.ranks(np.array([0.0, 100.0])).round(4).tolist()
        (99.0, [0.005, 0.995])
    """

    def __init__(self) -> None:
        self.values, self.counts = np.empty(0, np.float32), np.empty(0, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count more values."""
        found, counts = np.unique(_rounded(values), return_counts=True)
        self.values, places = np.unique(np.concatenate([self.values, found]), return_inverse=True)
        weights = np.concatenate([self.counts, counts])
        self.counts = np.bincount(places, weights, minlength=len(self.values)).astype(np.int64)

    @property
    def total(self) -> int:
        """Number of all values."""
        return int(self.counts.sum())

    def percentile(self, percent: float) -> float:
        """Return a percentile, as `np.percentile` does."""
        place = percent / 100 * (self.total - 1)
        ends = np.cumsum(self.counts)
        below, above = (self.values[np.searchsorted(ends, n, side="right")] for n in (np.floor(place), np.ceil(place)))
        return float(below + (float(above) - float(below)) * (place - np.floor(place)))

    def ranks(self, values: np.ndarray) -> np.ndarray:
        """Return the share of the counted values that lie below each of some of them, see `foreground_ranks`."""
        middle = (np.cumsum(self.counts) - self.counts / 2) / max(1, self.total)
        return np.asarray(middle[np.searchsorted(self.values, _rounded(values))])


class Foreground:
    """The foreground of a volume, see `foreground_mask`, in one bit a voxel.

    Args:
        slabs: Returns an iterator over the volume; it is read twice.
        counts: Counts of all its values, if they are known.

    Example:
        >>> volume = np.zeros((32, 32, 2)); volume[8:24, 8:24] = 100.0
        >>> found = Foreground(lambda: iter([volume[..., :1], volume[..., 1:]]))
        >>> int(found[0].sum()), len(found)  # the median rounds the corners
        (252, 2)
    """

    def __init__(self, slabs: Slabs, counts: ValueCounts | None = None) -> None:
        counts = counted(slabs) if counts is None else counts
        low, high = counts.percentile(1.0), counts.percentile(99.0)
        if high <= low:
            low, high = float(counts.values[0]), float(counts.values[-1])
        self._shape: tuple[int, int] = (0, 0)
        self._bits: list[NDArray[np.uint8]] = []
        components = _Components()
        for slab in slabs():
            smoothed = ndimage.median_filter(slab, size=(3, 3, 1), mode="nearest")
            candidate = smoothed > np.float32(low + THRESHOLD_SHARE * (high - low))
            for level in range(slab.shape[2]):
                plane = candidate[..., level] & (high > low)
                components.add(plane)
                self._append(plane)
        for level, kept in enumerate(components.large()):
            labels, _ = ndimage.label(self[level])
            self._bits[level] = np.packbits(ndimage.binary_fill_holes(kept[labels]))

    @classmethod
    def at_once(cls, volume: np.ndarray) -> Foreground:
        """Return the foreground of a volume (X, Y, Z) by `foreground_mask`."""
        return cls.of_masks([foreground_mask(volume)])

    @classmethod
    def of_masks(cls, masks: Iterable[np.ndarray]) -> Foreground:
        """Return the foreground that consecutive masks (X, Y, n) say."""
        found = cls.__new__(cls)
        found._shape, found._bits = (0, 0), []
        for mask in masks:
            for level in range(mask.shape[2]):
                found._append(mask[..., level])
        return found

    def __len__(self) -> int:
        return len(self._bits)

    def __getitem__(self, level: int) -> Mask:
        """Return the mask (X, Y) of a slice."""
        if not 0 <= level < len(self._bits):
            raise IndexError(f"`level` must be a slice in [0, {len(self._bits) - 1}], got {level}.")
        size = self._shape[0] * self._shape[1]
        return np.unpackbits(self._bits[level], count=size).astype(bool).reshape(self._shape)

    def _append(self, plane: np.ndarray) -> None:
        self._shape = (plane.shape[0], plane.shape[1])
        self._bits.append(np.packbits(plane))


class _Components:
    """The connected components of a mask that comes slice by slice; face neighbours are connected."""

    def __init__(self) -> None:
        self._parents: list[int] = [0]
        self._sizes: list[int] = [0]
        self._firsts: list[tuple[int, int]] = []  # of each slice: its first label, and how many it has
        self._last: np.ndarray | None = None

    def add(self, plane: np.ndarray) -> None:
        """Append a slice (X, Y)."""
        labels, count = ndimage.label(plane)
        first = len(self._parents)
        self._parents += range(first, first + count)
        self._sizes += np.bincount(labels.ravel(), minlength=count + 1)[1:].tolist()
        numbered = np.where(labels > 0, labels + (first - 1), 0)
        if self._last is not None:
            both = (numbered > 0) & (self._last > 0)
            for one, other in np.unique(np.stack([numbered[both], self._last[both]], axis=1), axis=0).tolist():
                self._join(one, other)
        self._firsts.append((first, count))
        self._last = numbered

    def large(self) -> Iterator[Mask]:
        """Yield for each slice which of its own labels, 0 first, belong to a large component."""
        roots = np.array([self._root(label) for label in range(len(self._parents))])
        totals = np.bincount(roots, weights=self._sizes, minlength=len(roots))
        kept = (totals >= COMPONENT_SHARE * totals.max())[roots]
        for first, count in self._firsts:
            yield np.concatenate([[False], kept[first : first + count]])

    def _root(self, label: int) -> int:
        while self._parents[label] != label:
            self._parents[label] = self._parents[self._parents[label]]
            label = self._parents[label]
        return label

    def _join(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._parents[second] = first


def counted(slabs: Slabs) -> ValueCounts:
    """Count the values of a volume."""
    counts = ValueCounts()
    for slab in slabs():
        counts.add(slab)
    return counts


def sees_all(step: Any) -> bool:
    """Return whether a transform depends on a whole volume, and `slab_encoder` knows how to apply it slab by slab."""
    return isinstance(step, (StandardizeForegroundd, ScaleIntensityRangePercentilesd))


def slab_encoder(step: Any, slabs: Slabs) -> SlabEncoder:
    """Return an intensity transform of a whole volume as a function of its slabs.

    Ranks of values that are no whole numbers differ by at most half the share of the values that round alike.

    Args:
        step: Transform for which `sees_all` holds.
        slabs: Returns an iterator over the volume; it is read one to four times.
    """
    counts = counted(slabs)
    if isinstance(step, ScaleIntensityRangePercentilesd):
        scaler = step.scaler
        low, high = counts.percentile(scaler.lower), counts.percentile(scaler.upper)
        scale = ScaleIntensityRange(low, high, scaler.b_min, scaler.b_max, clip=scaler.clip)
        return lambda slab, start: np.asarray(scale(torch.from_numpy(slab)))
    if _is_encoded(slabs, counts):
        foreground = Foreground.of_masks(slab > EDGE for slab in slabs())
    else:
        foreground = Foreground(slabs, counts)
    inside, start = ValueCounts(), 0
    for slab in slabs():
        inside.add(slab[_masks(foreground, start, slab.shape[2])])
        start += slab.shape[2]
    positions = step.positions_among(inside)

    def encode(slab: np.ndarray, start: int) -> np.ndarray:
        mask = _masks(foreground, start, slab.shape[2])
        encoded = np.full(slab.shape, BACKGROUND, dtype=np.float32)
        encoded[mask] = positions(slab[mask])
        return encoded

    return encode


def _masks(foreground: Foreground, start: int, size: int) -> Mask:
    return np.stack([foreground[level] for level in range(start, start + size)], axis=2)


def _is_encoded(slabs: Slabs, counts: ValueCounts) -> bool:
    if counts.values[0] != BACKGROUND or counts.values[-1] > 1:
        return False
    return not any(((slab > BACKGROUND) & (slab < LOWEST - 1e-6)).any() for slab in slabs())


def _rounded(values: np.ndarray | Sequence[float]) -> np.ndarray:
    bits = np.ascontiguousarray(values, dtype=np.float32).ravel().view(np.uint32)
    half = np.uint32(1 << (DROPPED_BITS - 1))
    return ((bits + half) & ~np.uint32((1 << DROPPED_BITS) - 1)).view(np.float32) + np.float32(0)  # no -0
