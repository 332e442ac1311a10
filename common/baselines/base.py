"""What every classical baseline offers, and what all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Self

BACKGROUND = -1.0


@runtime_checkable
class Baseline(Protocol):
    """A fitted classical translation. It is fitted once, saved with its coefficients, and never refitted."""

    name: ClassVar[str]

    def predict(self, encoded: np.ndarray) -> np.ndarray:
        """Translate a volume ``(X, Y, Z)`` encoded to [-1, 1]; float32 of the same shape, in the target's encoding."""

    def to_dict(self) -> dict[str, Any]:
        """Coefficients as plain JSON values."""

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild the baseline from `to_dict`."""


def as_encoded(volume: np.ndarray, name: str) -> np.ndarray:
    """Check a volume encoded to [-1, 1] and return it as float64 ``(X, Y, Z)``.

    Raises:
        ValueError: when it is not three-dimensional, not finite, or lies outside [-1, 1].
    """
    volume = np.asarray(volume, dtype=np.float64)
    if volume.ndim != 3:
        raise ValueError(f"`{name}` must have 3 dimensions (X, Y, Z), got shape {volume.shape}; drop the channel axis.")
    if not np.isfinite(volume).all():
        raise ValueError(f"`{name}` must be finite, got NaN or infinity.")
    if volume.size and (volume.min() < -1.001 or volume.max() > 1.001):
        raise ValueError(
            f"`{name}` must be encoded to [-1, 1], got values {volume.min():g} to {volume.max():g}; "
            "apply the bundle's intensity codec first."
        )
    return volume


def as_coefficients(values: Any, name: str) -> np.ndarray:
    """Check a list of coefficients read from a file.

    Raises:
        ValueError: when there are fewer than two, or one is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size < 2 or not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` must be at least 2 finite numbers, got shape {array.shape}; fit the baseline again."
        )
    return array
