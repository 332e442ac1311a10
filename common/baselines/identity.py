"""The source handed through: what a network gains is measured from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .base import as_encoded


class Identity:
    """Return the encoded source as it is.

    >>> float(Identity().predict(np.full((2, 2, 1), 0.5)).max())
    0.5
    """

    name: ClassVar[str] = "identity"

    def predict(self, encoded: np.ndarray) -> np.ndarray:
        """A float32 copy of the volume ``(X, Y, Z)``."""
        return as_encoded(encoded, "encoded").astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Nothing to store."""
        return {}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Identity:
        """Nothing to read."""
        return cls()
