"""Before and after a fine-tuning: paired differences over held-out patients, and whether to keep the new weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from . import html
from .inputs import BEFORE, NETWORK
from .tables import Cell, Row

# Metrics on which weights may be judged, the first that all patients have; all of them are better when higher.
JUDGED_BY = {"psnr": "dB PSNR", "consistency_psnr": "dB PSNR of the consistency with the source"}
ALSO = "ssim"
SSIM_LOSS = 0.005  # a mean fall of SSIM that speaks against weights with a better PSNR
FEWEST = 3  # patients below which nothing is decided
KEEP, DISCARD, OPEN = "keep", "discard", "open"
KINDS = {KEEP: "wins", DISCARD: "loses", OPEN: "mixed"}  # of the card, in the style sheet


@dataclass(frozen=True)
class Comparison:
    """Comparison of the weights before and after a fine-tuning.

    Attributes:
        verdict: `keep`, `discard` or `open`.
        text: The verdict as a sentence, with its reason.
        metric: Metric that it rests on.
        patients: For each held-out patient the metric before and after, means over its directions.
    """

    verdict: str
    text: str
    metric: str
    patients: Mapping[str, tuple[float, float]]


def compare_before(rows: Sequence[Mapping[str, Any]]) -> Comparison | None:
    """Compare the methods `before` and `network` patient by patient.

    The new weights are to be kept if the mean gain lies two standard errors above zero, or every patient gains, and
    SSIM does not fall; they are to be discarded if the mean gain is not above zero, or SSIM falls. Everything else, and
    fewer than three patients, stays open.

    Args:
        rows: Rows of a `metrics.csv`: patient, direction, method and metrics.

    Returns:
        The comparison, or None where the rows do not hold both methods.

    Example:
        >>> rows = [{"patient": p, "direction": "T1->T2", "method": m, "psnr": 20.0 + (m == "network") + 0.1 * p}
        ...         for p in range(4) for m in ("before", "network")]
        >>> compare_before(rows).verdict
        'keep'
    """
    metric = next((metric for metric in JUDGED_BY if _pairs(rows, metric)), None)
    if metric is None:
        return None
    patients, unit = _pairs(rows, metric), JUDGED_BY[metric]
    gains = np.array([after - before for before, after in patients.values()])
    mean, count, better = float(gains.mean()), len(gains), int((gains > 0).sum())
    error = float(gains.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    similarity = [after - before for before, after in _pairs(rows, ALSO).values()]
    fallen = float(np.mean(similarity)) if similarity else 0.0
    found = f"{mean:+.2f} {unit} on average over {count} held-out patient{'s' * (count > 1)}, better in {better}"
    found += f", standard error {error:.2f}" if count > 1 else ""
    found += f", SSIM {fallen:+.3f}" if similarity else ""
    if mean <= 0:
        kind, advice = DISCARD, "Keep the weights that you had"
    elif fallen < -SSIM_LOSS:
        kind, advice = DISCARD, "Keep the weights that you had: the similarity of structures falls"
    elif count < FEWEST:
        kind, advice = OPEN, f"Undecided: fewer than {FEWEST} held-out patients tell little"
    elif mean > 2 * error or better == count:
        kind, advice = KEEP, "Keep the fine-tuned weights"
    else:
        kind, advice = OPEN, "Undecided: the gain is within two standard errors; hold out more patients"
    return Comparison(kind, f"{advice} ({found}).", metric, patients)


def finetuning_section(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Write the comparison as HTML; empty where nothing was fine-tuned."""
    comparison = compare_before(rows)
    if comparison is None:
        return Markup()
    table = [
        Row(patient, [Cell(f"{before:.2f}"), Cell(f"{after:.2f}"), Cell(f"{after - before:+.2f}")])
        for patient, (before, after) in comparison.patients.items()
    ]
    about = (
        f"{JUDGED_BY[comparison.metric]}, means over the directions of a patient; no patient of this table was trained"
        " on or chose the weights."
    )
    return html.section(
        "Fine-tuning",
        html.part("paragraph", comparison.text),
        html.part("paragraph", about, "soft"),
        html.part("plain_table", ["Patient", "Before", "After", "Gain"], table),
        kind=f"verdict {KINDS[comparison.verdict]}",
    )


def _pairs(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, tuple[float, float]]:
    """Return the metric of each patient before and after, over the directions that both methods have."""
    values: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        if row["method"] in (BEFORE, NETWORK) and metric in row:
            patient = values.setdefault(str(row["patient"]), {BEFORE: {}, NETWORK: {}})
            patient[row["method"]][str(row["direction"])] = float(row[metric])
    paired = {}
    for name, methods in values.items():
        shared = [direction for direction in methods[BEFORE] if direction in methods[NETWORK]]
        if shared:
            before, after = (float(np.mean([methods[method][d] for d in shared])) for method in (BEFORE, NETWORK))
            paired[name] = (before, after)
    return paired
