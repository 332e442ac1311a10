"""How the values of a volume become the 16-bit integers of a DICOM image, and what is lost by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Storage:
    """
    A stored integer v stands for the value `v * slope + intercept`.

    Args:
        dtype: `int16` or `uint16`.
        slope: RescaleSlope.
        intercept: RescaleIntercept.
        limits: the least and the greatest value.
        error: the largest difference between a value and what is stored for it.

    >>> Storage("int16", 1.0, 0.0, (-1024, 3071), 0.0).encode(np.array([-1000.4, 40.6])).tolist()
    [-1000, 41]
    """

    dtype: str
    slope: float
    intercept: float
    limits: tuple[float, float]
    error: float

    def encode(self, values: NDArray[Any]) -> NDArray[Any]:
        """The stored integers, rounded, in little-endian order."""
        stored = np.rint((np.asarray(values, dtype=np.float64) - self.intercept) / self.slope)
        return stored.astype(np.dtype(self.dtype).newbyteorder("<"))

    @property
    def sentence(self) -> str:
        """What a reader must know of the quantisation."""
        if self.error == 0:
            return "Values are exact."
        return f"Values are rounded to steps of {self.slope:g}."


def choose_storage(slices: Iterable[NDArray[Any]], modality: str) -> Storage:
    """
    The storage that fits a volume: whole HU for CT; for MR whole numbers as they are, else 65536 steps.

    Args:
        slices: of the volume, seen once.
        modality: `CT` or `MR`.

    Raises:
        ValueError: when a value is not finite, or a CT value does not fit 16 bits. Nothing is clipped.
    """
    low, high, fraction = _limits(slices)
    if modality == "CT" or (fraction == 0 and low >= 0 and high <= 65535):
        dtype = np.dtype("int16" if modality == "CT" else "uint16")
        info = np.iinfo(dtype)
        if round(low) < info.min or round(high) > info.max:
            raise ValueError(
                f"HU must be within [{info.min}, {info.max}] to be stored in 16 bits, got [{low}, {high}]."
            )
        return Storage(dtype.name, 1.0, 0.0, (low, high), fraction)
    return _steps(low, high)


def _limits(slices: Iterable[NDArray[Any]]) -> tuple[float, float, float]:
    """Least and greatest value, and the largest distance from a whole number."""
    low, high, fraction = np.inf, -np.inf, 0.0
    for pixels in slices:
        values = np.asarray(pixels, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"The volume has {int((~np.isfinite(values)).sum())} values that are not finite.")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        fraction = max(fraction, float(np.abs(values - np.rint(values)).max()))
    return low, high, fraction


def _steps(low: float, high: float) -> Storage:
    """Steps of a size that DICOM's 16-character decimal strings hold exactly, so that reader and writer agree."""
    intercept = float(f"{low:.6e}")
    intercept -= abs(intercept) * 1e-6  # at or below the least value after rounding
    intercept = float(f"{intercept:.6e}")
    slope = float(f"{max(high - intercept, 1e-6) / 65534:.6e}")
    return Storage("uint16", slope, intercept, (low, high), slope / 2)
