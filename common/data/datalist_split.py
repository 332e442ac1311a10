"""Which patient belongs to training, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from math import floor

from .datalist import SPLITS

SHARES = (0.7, 0.1, 0.2)


def check_shares(shares: Sequence[float]) -> tuple[float, float, float]:
    """
    The shares of training, validation and test as numbers that add up to 1.

    Raises:
        ValueError: when they are not three, negative, or add up to something else.
    """
    try:
        values = tuple(float(share) for share in shares)
    except (TypeError, ValueError):
        values = ()
    if len(values) != 3 or not all(0 <= value <= 1 for value in values) or abs(sum(values) - 1) > 1e-6:
        raise ValueError(
            f"`split` must be the three shares of {', '.join(SPLITS)}, which add up to 1, such as 0.7,0.1,0.2; got"
            f" {shares!r}."
        )
    return values


def draw_splits(
    patients: Iterable[str], shares: Sequence[float] = SHARES, *, seed: int = 0, filled: Iterable[str] = ()
) -> dict[str, str]:
    """
    Patients in the order of a hash of seed and name: first come the test's, then validation's, then training's.

    The order of two patients never changes, so that a new patient moves at most two others: the ones at the borders.

    Args:
        patients: names.
        shares: of training, validation and test; each that is not 0 gets a patient at least.
        seed: another seed is another order.
        filled: splits that have patients already, and may stay without a further one.

    Raises:
        ValueError: when there are too few patients.

    Example:
        >>> draw_splits(["p1", "p2", "p3", "p4"], (0.5, 0.25, 0.25))
        {'p1': 'training', 'p2': 'validation', 'p3': 'test', 'p4': 'training'}
    """
    training, validation, test = check_shares(shares)
    order = sorted(set(patients), key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    number, done = len(order), set(filled)
    need = [int(share > 0 and split not in done) for split, share in zip(SPLITS, (training, validation, test))]
    if number < sum(need):
        wanted = [split for split, least in zip(SPLITS, need) if least]
        raise ValueError(
            f"{number} {'patient' if number == 1 else 'patients'} cannot be split into {', '.join(wanted)}: each needs"
            f" one at least. Add patients, or give a split no share, such as `--split 1,0,0` (now"
            f" {training:g},{validation:g},{test:g})."
        )
    tests = min(max(_rounded(test * number), need[2]), number - need[0] - need[1])
    both = min(max(_rounded((test + validation) * number), tests + need[1]), number - need[0])
    places = ["test"] * tests + ["validation"] * (both - tests) + ["training"] * (number - both)
    return dict(sorted(zip(order, places)))


def _rounded(number: float) -> int:
    """Half up, so that one more patient never adds two to a split; free of the error of 0.7 + 0.1 + 0.2."""
    return floor(number + 0.5 + 1e-9)
