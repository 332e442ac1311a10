"""Interface of the classical baselines, the file of fitted ones, and those that need no fit.

`Identity` returns the source, from which a network's gain is measured; `Interpolation` is the reference of every
super-resolution.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch.nn.functional import interpolate

from ..files import read_json

if TYPE_CHECKING:
    from typing_extensions import Self

BACKGROUND = -1.0

MODES = ("nearest", "bicubic")


def read_fitted(path: str | os.PathLike[str], key: str, *, what: str, version: int, cure: str) -> dict[str, Any]:
    """Read a JSON file of fitted baselines.

    Args:
        path: File that a training wrote.
        key: Entry that it must have.
        what: What it holds, for the messages: "radial filters".
        version: Format of the file, its entry `format`.
        cure: What a user can do about another file.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is not a file of this format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"the fitted {what} must exist at `{path}`, found no such file; {cure}.")
    content = read_json(path, cure=cure)
    found = content.get("format")
    if found != version or key not in content:
        raise ValueError(f"`{path}` must be a file of {what} of format {version}, got {found}; {cure}.")
    return content


@runtime_checkable
class Baseline(Protocol):
    """Fitted classical translation. It is fitted once, saved with its coefficients, and never refitted."""

    name: ClassVar[str]

    def predict(self, encoded: np.ndarray) -> np.ndarray:
        """Translate a volume `(X, Y, Z)` encoded to [-1, 1]; float32 of the same shape, in the target's encoding."""

    def to_dict(self) -> dict[str, Any]:
        """Return the coefficients as plain JSON values."""

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild the baseline from `to_dict`."""


def as_encoded(volume: np.ndarray, name: str) -> np.ndarray:
    """Check a volume encoded to [-1, 1] and return it as float64 `(X, Y, Z)`.

    Raises:
        ValueError: If it is not three-dimensional, not finite, or lies outside [-1, 1].
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
        ValueError: If there are fewer than two, or one is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size < 2 or not np.isfinite(array).all():
        raise ValueError(
            f"`{name}` must be at least 2 finite numbers, got shape {array.shape}; fit the baseline again."
        )
    return array


class Identity:
    """Baseline that returns the encoded source unchanged.

    Example:
        >>> float(Identity().predict(np.full((2, 2, 1), 0.5)).max())
        0.5
    """

    name: ClassVar[str] = "identity"

    def predict(self, encoded: np.ndarray) -> np.ndarray:
        """Copy the volume `(X, Y, Z)` as float32."""
        return as_encoded(encoded, "encoded").astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return an empty dict: there is nothing to store."""
        return {}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Identity:
        """Build the baseline: there is nothing to read."""
        return cls()


class Interpolation:
    """Axial slices on pixels `factor` times as fine.

    Pixels are areas: the outer corners of both grids agree, and nothing shifts. Bicubic is Keys' kernel with a = -0.75,
    as in torch, which overshoots at edges.

    Args:
        mode: "nearest" or "bicubic".
        factor: Factor of the resolution, >= 1.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> Interpolation("nearest", 2).predict(np.array([[[1.0], [2.0]]]))[:, :, 0].tolist()
        [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
    """

    def __init__(self, mode: str, factor: int) -> None:
        if mode not in MODES:
            raise ValueError(f"`mode` must be one of {MODES}, got {mode!r}.")
        if factor < 1:
            raise ValueError(f"`factor` must be >= 1, got {factor}.")
        self.name, self.factor = mode, factor

    def predict(self, volume: np.ndarray) -> np.ndarray:
        """Map `(X, Y, Z)` of any unit, Z the axial slice axis, to `(factor X, factor Y, Z)`, float32.

        Raises:
            ValueError: If the volume does not have three dimensions.
        """
        volume = np.asarray(volume, dtype=np.float32)
        if volume.ndim != 3:
            raise ValueError(f"`volume` must have 3 dimensions (X, Y, Z), got shape {volume.shape}.")
        slices = torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, 2, 0)))[:, None]
        options = {"align_corners": False} if self.name == "bicubic" else {}
        finer = interpolate(slices, scale_factor=float(self.factor), mode=self.name, **options)  # type: ignore[arg-type]
        return np.moveaxis(finer[:, 0].numpy(), 0, 2)
