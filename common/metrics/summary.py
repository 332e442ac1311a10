"""Mean and SD over patients, and the two files of an evaluation: rows per patient (CSV) and a summary (JSON)."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_text

KEYS = ("patient", "direction", "method")
NETWORK = "network"  # method name of the bundle's network, whatever trained it
COVERAGE_FILE = "coverage.json"  # what the shipped half-widths covered, beside rows and summary
BEFORE = "before"  # that of the weights that a fine-tuning began with
Summary = dict[str, dict[str, dict[str, dict[str, float]]]]


def summarise(rows: Sequence[Mapping[str, Any]]) -> Summary:
    """Compute mean and SD over patients of every metric.

    Args:
        rows: One mapping per (patient, direction, method), with those three keys and any number of metrics. A metric
            that is missing, None, NaN or infinite in a row is left out of that mean.

    Returns:
        `{direction: {method: {metric: {"mean": x, "std": y, "n": patients}}}}`; `std` is the sample SD (ddof 1),
        0.0 for one patient. A metric that no patient has is absent.

    Raises:
        ValueError: If a row lacks one of its three keys.

    Example:
        >>> row = {"patient": "a", "direction": "T1->T2", "method": "network", "psnr": 1.0}
        >>> summarise([row, row | {"patient": "b", "psnr": 3.0}])["T1->T2"]["network"]["psnr"]["mean"]
        2.0
    """
    collected: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        missing = [key for key in KEYS if key not in row]
        if missing:
            raise ValueError(f"each row must have the keys {list(KEYS)}, got a row without {missing}: {dict(row)}.")
        metrics = collected.setdefault(str(row["direction"]), {}).setdefault(str(row["method"]), {})
        for name, value in row.items():
            if name not in KEYS and value not in (None, "") and math.isfinite(float(value)):
                metrics.setdefault(name, []).append(float(value))
    return {
        direction: {
            method: {name: _mean_and_std(values) for name, values in metrics.items()}
            for method, metrics in methods.items()
        }
        for direction, methods in collected.items()
    }


def write_rows(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as CSV, atomically: patient, direction, method, then the metrics in order of first appearance.

    Numbers are written in full precision, missing metrics as empty cells.
    """
    names = list(KEYS) + [name for name in dict.fromkeys(key for row in rows for key in row) if name not in KEYS]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def read_rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the file of `write_rows`: metrics as float, empty cells omitted."""
    with open(path, encoding="utf-8", newline="") as file:
        return [
            {key: value if key in KEYS else float(value) for key, value in row.items() if value not in ("", None)}
            for row in csv.DictReader(file)
        ]


def _mean_and_std(values: Sequence[float]) -> dict[str, float]:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": std, "n": len(values)}
