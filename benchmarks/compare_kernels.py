"""
The table of the kernel-conversion bundles' settings and seeds against the radial filters, from committed results.

    python benchmarks/compare_kernels.py table benchmarks/results/kernels.json

All settings were trained with the demonstration's overlay; trainings are `python -m common leaderboard`'s.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import fire
from scipy.stats import ttest_rel, wilcoxon

REFERENCE = "radial_filter_unpaired"


def table(path: str) -> None:
    """Print, as Markdown, the PSNR of every setting in every direction and its gain over the unpaired radial filter.

    A patient's PSNR is the mean over directions and seeds; the gain's p is of the paired t-test over patients, beside
    Wilcoxon's. `directions ahead` counts those whose mean PSNR is above the identity's and the unpaired filter's.
    """
    runs = json.loads(Path(path).read_text(encoding="utf-8"))["runs"]
    first = [row for row in runs[0]["rows"] if row["method"] != "network"]
    directions = list(dict.fromkeys(row["direction"] for row in first))
    baselines = {name: [r for r in first if r["method"] == name] for name in dict.fromkeys(r["method"] for r in first)}
    settings = {
        setting: [
            row for each in runs if each["setting"] == setting for row in each["rows"] if row["method"] == "network"
        ]
        for setting in dict.fromkeys(each["setting"] for each in runs)
    }
    print("| method | seeds | " + " | ".join(directions) + " | mean | gain over unpaired filter | p (t, Wilcoxon) |")
    print("|" + "---|" * (len(directions) + 5))
    reference = _by_patient(baselines[REFERENCE])
    for name, rows in {**settings, **baselines}.items():
        seeds = len({each["seed"] for each in runs if each["setting"] == name})
        cells = [f"{mean(row['psnr'] for row in rows if row['direction'] == d):.2f}" for d in directions]
        patients = _by_patient(rows)
        gains = [patients[patient] - reference[patient] for patient in reference]
        tests = ["", ""]
        if name != REFERENCE:
            values = list(patients.values()), list(reference.values())
            tests = [f"{mean(gains):+.2f} ± {stdev(gains):.2f}"]
            tests += [f"{ttest_rel(*values).pvalue:.1g}, {wilcoxon(*values).pvalue:.1g}"]
        title = name.replace("_", " ")
        print(f"| {title} | {seeds or ''} | " + " | ".join([*cells, f"{mean(patients.values()):.2f}", *tests]) + " |")


def _by_patient(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean PSNR of each patient over directions (and seeds)."""
    patients = dict.fromkeys(row["patient"] for row in rows)
    return {patient: mean(row["psnr"] for row in rows if row["patient"] == patient) for patient in patients}


if __name__ == "__main__":
    fire.Fire({"table": table})
