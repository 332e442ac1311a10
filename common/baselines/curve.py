"""The best single intensity curve, fitted on aligned pairs: the limit of any network that sees only one voxel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from .base import as_coefficients, as_encoded

DEFAULT_BINS = 256


class IntensityCurve:
    """Map from each value to the mean target value at its places: E[target | source], optimal in the mean-square sense.

    It is fitted over the whole field of aligned training pairs and need not be monotone, so it may invert contrast. It
    is a *supervised* reference: unpaired methods that come close to it do well.

    Args:
        source_values: Mean source value of each bin, encoded to [-1, 1], rising.
        target_values: Mean target value of the same bins, encoded.
        keep_clipped: Whether to keep -1 and 1. In CT they stand for everything outside the window, air and bone, which
            must not be changed because of the tissue just inside it.

    Raises:
        ValueError: If there are fewer than two values, their numbers differ, or the source values do not rise.

    Example:
        >>> curve = IntensityCurve([-1.0, 0.0, 1.0], [-1.0, 1.0, 0.0])
        >>> curve.predict(np.array([[[-1.0, -0.5, 0.0, 0.5]]])).ravel().tolist()
        [-1.0, 0.0, 1.0, 0.5]
    """

    name: ClassVar[str] = "intensity_curve"

    def __init__(self, source_values: np.ndarray, target_values: np.ndarray, *, keep_clipped: bool = False) -> None:
        self.keep_clipped = bool(keep_clipped)
        self.source_values = as_coefficients(source_values, "source_values")
        self.target_values = as_coefficients(target_values, "target_values")
        if self.source_values.size != self.target_values.size:
            raise ValueError(
                f"`target_values` must have one value for each of the {self.source_values.size} `source_values`, "
                f"got {self.target_values.size}; fit the baseline again."
            )
        if (np.diff(self.source_values) <= 0).any():
            raise ValueError("`source_values` must rise, got a step that does not; fit the baseline again.")

    @classmethod
    def fit(
        cls, pairs: Iterable[tuple[np.ndarray, np.ndarray]], *, bins: int = DEFAULT_BINS, keep_clipped: bool = False
    ) -> IntensityCurve:
        """Average the target over fine bins of the source; pairs are read one at a time and dropped.

        Args:
            pairs: Aligned encoded (source, target) volumes of equal shape.
            bins: Number of bins over [-1, 1]; empty bins are bridged by interpolation.
            keep_clipped: Whether to fit only values between -1 and 1, and to keep these two.

        Raises:
            ValueError: If there is no pair, shapes differ, the source is constant, or `bins` is below 2.
        """
        if bins < 2:
            raise ValueError(f"`bins` must be >= 2, got {bins}; try {DEFAULT_BINS}.")
        counts, sources, targets = np.zeros(bins), np.zeros(bins), np.zeros(bins)
        for pair in pairs:
            source, target = (as_encoded(volume, "pairs").ravel() for volume in pair)
            if source.shape != target.shape:
                raise ValueError(f"`pairs` must be aligned, got {np.shape(pair[0])} and {np.shape(pair[1])} voxels.")
            if keep_clipped:
                within = np.abs(source) < 1.0
                source, target = source[within], target[within]
            index = np.clip(((source + 1.0) / 2.0 * bins).astype(np.int64), 0, bins - 1)
            counts += np.bincount(index, minlength=bins)
            sources += np.bincount(index, weights=source, minlength=bins)
            targets += np.bincount(index, weights=target, minlength=bins)
        filled = counts > 0
        if filled.sum() < 2:
            raise ValueError(
                f"`pairs` must hold at least one aligned pair with 2 different source values, "
                f"got {int(counts.sum())} voxels in {int(filled.sum())} bins; check the datalist."
            )
        return cls(sources[filled] / counts[filled], targets[filled] / counts[filled], keep_clipped=keep_clipped)

    def predict(self, encoded: np.ndarray) -> np.ndarray:
        """Translate a volume `(X, Y, Z)` encoded to [-1, 1]; float32. Values beyond the curve take its end value."""
        volume = as_encoded(encoded, "encoded")
        result = np.interp(volume, self.source_values, self.target_values)
        if self.keep_clipped:
            result = np.where(np.abs(volume) < 1.0, result, volume)
        return np.asarray(result, dtype=np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return `{"source_values": [...], "target_values": [...]}`, and `keep_clipped` if it is set."""
        values = {"source_values": self.source_values.tolist(), "target_values": self.target_values.tolist()}
        return {**values, "keep_clipped": True} if self.keep_clipped else values

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> IntensityCurve:
        """Rebuild the curve from `to_dict`."""
        keep = bool(content.get("keep_clipped", False))
        return cls(content["source_values"], content["target_values"], keep_clipped=keep)
