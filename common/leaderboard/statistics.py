"""Mean and SD over patients and seeds, and paired tests against the best method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from scipy.stats import ttest_rel, wilcoxon

Rows = Sequence[Mapping[str, Any]]


def patient_means(rows: Rows, metric: str, *, direction: str | None = None) -> dict[str, float]:
    """
    A metric of each patient, averaged over directions and seeds.

    Args:
        rows: one a patient, direction and seed; those without the metric are left out.
        metric: which.
        direction: of this one alone.

    Example:
        >>> forth = {"patient": "a", "direction": "x->y", "psnr": 20.0}
        >>> back = {"patient": "a", "direction": "y->x", "psnr": 30.0}
        >>> patient_means([forth, back], "psnr"), patient_means([forth, back], "psnr", direction="y->x")
        ({'a': 25.0}, {'a': 30.0})
    """
    values: dict[str, list[float]] = {}
    for row in rows:
        if direction in (None, row["direction"]) and row.get(metric) is not None:
            values.setdefault(str(row["patient"]), []).append(float(row[metric]))
    return {patient: mean(found) for patient, found in values.items()}


def mean_and_sd(values: Iterable[float]) -> tuple[float, float] | None:
    """Mean and sample SD; the SD of one value is 0; None of none."""
    found = list(values)
    return (mean(found), stdev(found) if len(found) > 1 else 0.0) if found else None


def seed_sd(rows: Rows, metric: str) -> float | None:
    """The sample SD over seeds of the mean over patients and directions; None with one seed."""
    by_seed: dict[Any, list[float]] = {}
    for row in rows:
        if row.get(metric) is not None:
            by_seed.setdefault(row.get("seed"), []).append(float(row[metric]))
    means = [mean(values) for values in by_seed.values()]
    return stdev(means) if len(means) > 1 else None


def paired_tests(best: Mapping[str, float], other: Mapping[str, float]) -> tuple[float, float] | None:
    """
    Two-sided p of the paired t-test and of Wilcoxon's signed-rank test over the patients that both have.

    None with fewer than two such patients. Equal values give 1.

    Example:
        >>> t, rank = paired_tests({"a": 1.0, "b": 2.0, "c": 3.5}, {"a": 0.5, "b": 1.0, "c": 2.0})
        >>> round(t, 4), rank
        (0.0742, 0.25)
    """
    patients = [patient for patient in best if patient in other]
    if len(patients) < 2:
        return None
    pairs = [best[p] for p in patients], [other[p] for p in patients]
    if pairs[0] == pairs[1]:
        return 1.0, 1.0
    p_values = float(ttest_rel(*pairs).pvalue), float(wilcoxon(*pairs).pvalue)
    return p_values if all(map(math.isfinite, p_values)) else None


def holm(p_values: Sequence[float]) -> list[float]:
    """
    Holm's correction for several comparisons, in the order given.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979: the k-th
    smallest of m p-values is multiplied by m - k + 1; none may come out smaller than one before it, or above 1.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected
