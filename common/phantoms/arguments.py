"""Checks of what a user passes to a phantom generator."""

from __future__ import annotations

import math


def check_integer(name: str, value: object, *, minimum: int, multiple_of: int = 1) -> int:
    """Return ``value`` if it is an integer >= ``minimum`` and a multiple of ``multiple_of``; ValueError otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum or value % multiple_of:
        rule = f"an integer >= {minimum}" if multiple_of == 1 else f"a multiple of {multiple_of} and >= {minimum}"
        raise ValueError(f"`{name}` must be {rule}, got {value!r}.")
    return value


def check_positive(name: str, value: object, *, unit: str) -> float:
    """Return ``value`` as a float if it is a finite number above 0; ValueError otherwise."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"`{name}` must be a number > 0 ({unit}), got {value!r}.")
    return float(value)
