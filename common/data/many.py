"""Lists of many volumes: each is loaded when it is drawn, and a few stand for all where something is measured.

A training on fewer than `MANY` volumes loads all of them before its first step. With 100,000 of them that would take
hours and no memory would hold them.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

logger = logging.getLogger(__name__)

MANY = 1000  # volumes in a list from which on they are loaded when they are drawn
SAMPLED = 16  # volumes that stand for all of them
SEED = 0  # of their choice: the same ones in each run and process
KEPT_BYTES = 2 * 10**9  # of the last drawn volumes of a list, where they are held in memory
KEPT_MAPS = 4096  # of them, where they are mapped from a cache: a process of Linux may have 65,530 maps

T = TypeVar("T")


def are_many(items: Sequence[Any]) -> bool:
    """Return whether volumes are so many that they are loaded when they are drawn."""
    return len(items) >= MANY


def sampled(items: Sequence[T], purpose: str, *, many: bool | None = None) -> Sequence[T]:
    """Return all volumes, or some of them where they are many, always the same ones.

    Args:
        items: Volumes, or their entries of a datalist.
        purpose: What they are for, for the log.
        many: Whether they are a part of a long list; default: whether they are a long list themselves.

    Returns:
        `items`, or a sequence of `SAMPLED` of them in their order, none of which is loaded yet.

    Example:
        >>> sampled([3, 1, 2], "the test"), len(sampled(range(10**6), "the test"))
        ([3, 1, 2], 16)
    """
    if not (are_many(items) if many is None else many) or len(items) <= SAMPLED:
        return items
    places = np.sort(np.random.default_rng(SEED).choice(len(items), SAMPLED, replace=False))
    logger.info(f"{purpose}: {SAMPLED} of {len(items):,} volumes, the same ones in each run, stand for all.")
    return _Chosen(items, places.tolist())


def sampled_patients(
    entries: Sequence[Mapping[str, Any]], domains: Iterable[str], purpose: str
) -> list[dict[str, Any]]:
    """Return all entries of a datalist's list, or those of some patients of each domain where they are many.

    Args:
        entries: Entries, each one image or all images of a patient.
        domains: Names of the domains; entries without any of them are left out if there are many.
        purpose: What they are for, for the log.
    """
    if not are_many(entries):
        return [dict(entry) for entry in entries]
    chosen: set[str] = set()
    for domain in domains:
        having = [e for e in entries if domain in e or e.get("domain") == domain]
        names = list(dict.fromkeys(str(e.get("patient", "?")) for e in having))
        chosen.update(sampled(names, f"{purpose}, {domain}", many=True))
    return [dict(entry) for entry in entries if str(entry.get("patient", "?")) in chosen]


class LazyVolumes(Sequence[T]):
    """Volumes that are loaded when they are used; the last used ones are kept.

    Args:
        keys: What `load` takes for each volume.
        load: Function that loads a volume; for worker processes on other systems than Linux it must be picklable.
        size: Function from a volume to its bytes.
        mapped: Whether volumes are mapped from a cache, so that their number is limited instead of their bytes.

    Example:
        >>> volumes = LazyVolumes(["a", "b"], str.upper, size=len, mapped=False)
        >>> len(volumes), volumes[1], volumes.opened
        (2, 'B', 1)
    """

    def __init__(
        self, keys: Sequence[Any], load: Callable[[Any], T], *, size: Callable[[T], int], mapped: bool
    ) -> None:
        self.keys, self.load, self.size, self.mapped = keys, load, size, mapped
        self.opened = 0  # volumes loaded so far, again if need be
        self._kept: OrderedDict[int, T] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return LazyVolumes(self.keys[index], self.load, size=self.size, mapped=self.mapped)
        place = range(len(self))[index]
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place]
        volume = self.load(self.keys[place])
        self.opened += 1
        self._kept[place] = volume
        self._bytes += self.size(volume)
        while len(self._kept) > 1 and self._full():
            self._bytes -= self.size(self._kept.popitem(last=False)[1])
        return volume

    def _full(self) -> bool:
        return len(self._kept) > KEPT_MAPS if self.mapped else self._bytes > KEPT_BYTES

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": OrderedDict(), "_bytes": 0}


class LazyPlaces(Sequence[tuple[int, int]]):
    """The images of many volumes, as pairs (volume, image), whose numbers of images are not known yet.

    Each volume has the same number of places, the largest number of images in a sample of the volumes. The images of a
    volume with fewer are repeated, and of one with more some are left out, both evenly. A volume without images is
    replaced by the next one that has some.

    Args:
        volumes: Volumes, which are only counted here.
        number: Function from the place of a volume to its number of images.
        purpose: What the sample is for, for the log.

    Raises:
        ValueError: If no volume of the sample has an image; when used, if no volume has one.

    Example:
        >>> places = LazyPlaces(range(MANY), lambda volume: 2 + volume % 2, "the test")
        >>> len(places), [places[n] for n in range(6)]
        (3000, [(0, 0), (0, 0), (0, 1), (1, 0), (1, 1), (1, 2)])
    """

    def __init__(self, volumes: Sequence[Any], number: Callable[[int], int], purpose: str) -> None:
        self.volumes, self.number = len(volumes), number
        self.each = max(map(number, sampled(range(len(volumes)), purpose, many=True)))
        if not self.each:
            raise ValueError(f"{purpose}: none of {SAMPLED} volumes out of {self.volumes:,} has an image.")

    def __len__(self) -> int:
        return self.volumes * self.each

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return _Chosen(self, range(*index.indices(len(self))))
        first, place = divmod(range(len(self))[index], self.each)
        for offset in range(self.volumes):
            volume = (first + offset) % self.volumes
            if number := self.number(volume):
                return volume, place * number // self.each
        raise ValueError(f"None of the {self.volumes:,} volumes has an image.")


class _Chosen(Sequence[T]):
    """Some items of a sequence, none of which is used before it is asked for."""

    def __init__(self, items: Sequence[T], places: Sequence[int]) -> None:
        self.items, self.places = items, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return _Chosen(self.items, self.places[index])
        return self.items[self.places[index]]
