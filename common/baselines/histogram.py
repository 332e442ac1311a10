"""Histogram matching to the target domain, monotone or with inverted contrast; it needs no pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..metrics.score import foreground_mask
from .base import BACKGROUND, as_coefficients, as_encoded

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT_QUANTILES = 256


class HistogramMatching:
    """Map from each foreground value to the target domain's value of the same rank: Q_target(F_source(x)).

    F_source is the cumulative distribution of the volume's own foreground, Q_target the mean quantile function of the
    target domain's training volumes. The map rises, so it cannot invert contrast: from T1 to T2 it is a straw man.
    Background becomes -1.

    Args:
        quantiles: Q_target at evenly spaced ranks from 0 to 1, in the target's encoding, not falling.

    Raises:
        ValueError: If there are fewer than two quantiles or they fall.

    Example:
        >>> volume = np.full((20, 20, 1), -1.0); volume[5:15, 5:15] = np.linspace(0, 1, 100).reshape(10, 10, 1)
        >>> matched = HistogramMatching(np.linspace(-0.5, 0.5, 11)).predict(volume)
        >>> bool(matched[0, 0, 0] == -1.0), bool(-0.5 < matched[6, 6, 0] < matched[12, 12, 0] < 0.5)
        (True, True)
    """

    name: ClassVar[str] = "histogram_matching"

    def __init__(self, quantiles: np.ndarray) -> None:
        self.quantiles = as_coefficients(quantiles, "quantiles")
        if (np.diff(self.quantiles) < 0).any():
            raise ValueError("`quantiles` must not fall, got a falling step; fit the baseline again.")

    @classmethod
    def fit(cls, target_volumes: Iterable[np.ndarray], *, count: int = DEFAULT_QUANTILES) -> Self:
        """Average the foreground quantiles of encoded target volumes; each is read once and dropped.

        Raises:
            ValueError: If there is no volume with foreground, or `count` is below 2.
        """
        return cls(mean_quantiles(target_volumes, count=count))

    def predict(self, encoded: np.ndarray) -> np.ndarray:
        """Translate a volume `(X, Y, Z)` encoded to [-1, 1]; float32."""
        volume = as_encoded(encoded, "encoded")
        mask = foreground_mask(volume)
        result = np.full(volume.shape, BACKGROUND, dtype=np.float32)
        if mask.any():
            ranks = self._target_ranks(_ranks(volume[mask]))
            result[mask] = np.interp(ranks, np.linspace(0.0, 1.0, self.quantiles.size), self.quantiles)
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return `{"quantiles": [...]}`."""
        return {"quantiles": self.quantiles.tolist()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild the baseline from `to_dict`."""
        return cls(content["quantiles"])

    def _target_ranks(self, ranks: np.ndarray) -> np.ndarray:
        return ranks


class InvertedHistogramMatching(HistogramMatching):
    """Map from each foreground value to the target domain's value of the opposite rank: Q_target(1 - F_source(x)).

    The darkest source tissue becomes the brightest target tissue. This is the relevant unpaired baseline for T1 and T2.
    """

    name: ClassVar[str] = "inverted_histogram_matching"

    def _target_ranks(self, ranks: np.ndarray) -> np.ndarray:
        return 1.0 - ranks


def mean_quantiles(target_volumes: Iterable[np.ndarray], *, count: int = DEFAULT_QUANTILES) -> np.ndarray:
    """Average the foreground quantiles of encoded volumes, at `count` evenly spaced ranks from 0 to 1."""
    if count < 2:
        raise ValueError(f"`count` must be >= 2 quantiles, got {count}; try {DEFAULT_QUANTILES}.")
    total, number = np.zeros(count), 0
    for volume in (as_encoded(target, "target_volumes") for target in target_volumes):
        mask = foreground_mask(volume)
        if mask.any():
            total += np.quantile(volume[mask], np.linspace(0.0, 1.0, count))
            number += 1
    if number == 0:
        raise ValueError(
            "`target_volumes` must hold at least one volume with foreground, got none; check the datalist."
        )
    return total / number


def _ranks(values: np.ndarray) -> np.ndarray:
    """Compute the rank of each value in [0, 1]; equal values share their middle rank."""
    unique, counts = np.unique(values, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / values.size
    return np.asarray(np.interp(values, unique, middle))
