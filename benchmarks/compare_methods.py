"""
The tables of the bundles' pages, from committed results; trainings are `python -m common leaderboard`'s.

    python benchmarks/compare_methods.py table benchmarks/results/nec_t1t2_methods.json
    python benchmarks/compare_methods.py agreement benchmarks/results/nec_t1t2_methods.json
    python benchmarks/compare_methods.py patients benchmarks/results/nec_t1t2_real.json
    python benchmarks/compare_methods.py directions benchmarks/results/ggcl_demo.json --metric emphysema_index
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import fire
from scipy.stats import spearmanr

TITLES = {
    "nec": "NEC",
    "cyclegan": "CycleGAN",
    "cut": "CUT",
    "pix2pix": "Pix2Pix (supervised)",
    "identity": "identity",
    "histogram_matching": "histogram matching",
    "inverted_histogram_matching": "inverted histogram matching",
    "intensity_curve": "intensity curve (fitted on pairs)",
    "ours_s": "Ours-S",
    "ours_j": "Ours-J",
    "single": "Single",
    "cycle": "Cycle",
    "misaligned": "trained on misaligned pairs",
    "sr_cyclegan": "SR-CycleGAN",
    "sr_unit": "SR-UNIT",
    "unit": "UNIT without MMSR",
    "nearest": "nearest neighbour",
}
COLUMNS = {
    "nec_t1t2": (
        *("psnr_matched", "ssim_matched", "psnr", "ssim", "psnr_mask", "mae_tumour", "mae_oedema", "mae_deep_nuclei"),
    ),
    "nect2cect": (
        *("mse_window", "ms_ssim_window", "psnr_window", "enhancement_bias_liver_hu", "enhancement_bias_aorta_hu"),
        *("enhancement_bias_kidney_cortex_hu", "false_enhancement_hu", "misaligned_mse_window"),
        "misaligned_ms_ssim_window",
    ),
    "sr_cyclegan": (
        *("psnr", "ssim", "consistency_mse", "spectrum_distance", "contrast_vessel", "contrast_bronchial_wall"),
        *("contrast_septum", "contrast_tumour", "edge_ratio_vessel", "edge_ratio_tumour"),
    ),
}
DIRECTION_METRICS = (
    *("psnr", "ssim", "rmse", "emphysema_index", "emphysema_index_target", "emphysema_true", "bias_emphysema"),
    *("noise_sd_error", "nps_error", "edge_error"),
)
PATIENT_COLUMNS = ("psnr_matched", "ssim_matched", "source_correlation")


def patients(path: str, *, result: str | None = None) -> None:
    """Print the rows of a `metrics.csv`, or of the JSON made from it, as Markdown: one a patient and method.

    Args:
        path: the CSV that `evaluating` wrote, or the JSON.
        result: write the JSON here.
    """
    source = Path(path)
    if source.suffix == ".csv":
        with source.open(newline="", encoding="utf-8") as file:
            rows = [{key: row[key] for key in ("patient", "method")} | _numbers(row) for row in csv.DictReader(file)]
        facts = json.loads(source.with_name("run.json").read_text(encoding="utf-8"))
        content = {"commit": facts["commit"], "weights_sha256": facts["weights_sha256"], "rows": rows}
    else:
        content = json.loads(source.read_text(encoding="utf-8"))
    if result is not None:
        Path(result).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print("| patient | method | " + " | ".join(PATIENT_COLUMNS) + " |\n|" + "---|" * (2 + len(PATIENT_COLUMNS)))
    for row in content["rows"]:
        cells = [f"{row[column]:.2f}" for column in PATIENT_COLUMNS]
        title = "NEC" if row["method"] == "network" else TITLES[row["method"]]
        print(f"| {row['patient']} | {title} | " + " | ".join(cells) + " |")


def directions(path: str, *, metric: str = "psnr", result: str | None = None) -> None:
    """Print a metric of each method in each direction, from the `summary.json` of an evaluation, as Markdown.

    Args:
        path: the summary, or the JSON made from it.
        metric: which, such as `emphysema_index`.
        result: write the JSON here: `DIRECTION_METRICS` alone, with the facts of the run.
    """
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if "directions" not in content:
        facts = json.loads(Path(path).with_name("run.json").read_text(encoding="utf-8"))
        kept = {
            direction: {name: {k: m[k] for k in DIRECTION_METRICS if k in m} for name, m in methods.items()}
            for direction, methods in content.items()
        }
        content = {"commit": facts["commit"], "weights_sha256": facts["weights_sha256"], "directions": kept}
    if result is not None:
        Path(result).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    scores = content["directions"]
    print("| method | " + " | ".join(scores) + " | mean |\n|" + "---|" * (2 + len(scores)))
    for name in next(iter(scores.values())):
        values = [methods[name][metric] for methods in scores.values()]
        mean = sum(value["mean"] for value in values) / len(values)
        print(f"| {name.replace('_', ' ')} | " + " | ".join(map(_cell, values)) + f" | {mean:.2f} |")


def _numbers(row: dict[str, str]) -> dict[str, float]:
    return {column: float(row[column]) for column in PATIENT_COLUMNS}


def table(path: str) -> None:
    """Print the results as Markdown: mean and SD over patients (of the first seed), then the mean over seeds."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    columns = COLUMNS[content["bundle"]]
    print("| method | seed | s | " + " | ".join(columns) + " |\n|" + "---|" * (3 + len(columns)))
    shown: set[str] = set()
    for each in content["runs"]:
        for methods in each["summary"].values():
            for name, metrics in methods.items():
                title = TITLES[each["method"]] if name == "network" else TITLES.get(name, name)
                if name != "network" and name in shown:
                    continue
                shown.add(name)
                cells = [_cell(metrics.get(column)) for column in columns]
                seed, seconds = (each["seed"], f"{each['training']['seconds']:.0f}") if name == "network" else ("", "")
                print(f"| {title} | {seed} | {seconds} | " + " | ".join(cells) + " |")


def agreement(path: str) -> None:
    """Print how far the unpaired score that selects the weights agrees with PSNR on the validation patients."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    print("| method | seed | checkpoints | Spearman's rho | PSNR selected | best PSNR |\n|---|---|---|---|---|---|")
    for each in content["runs"]:
        rows = each["training"]["validation"]
        rho = spearmanr([-row["unpaired_score"] for row in rows], [row["psnr"] for row in rows]).statistic
        selected = min(rows, key=lambda row: row["unpaired_score"])["psnr"]
        best = max(row["psnr"] for row in rows)
        print(f"| {TITLES[each['method']]} | {each['seed']} | {len(rows)} | {rho:.2f} | {selected:.2f} | {best:.2f} |")


def _cell(value: dict[str, float] | None) -> str:
    if value is None:
        return ""
    digits = next((d for bound, d in ((0.1, 4), (2, 3), (100, 2)) if abs(value["mean"]) < bound), 0)
    return f"{value['mean']:.{digits}f} ± {value['std']:.{digits}f}"


if __name__ == "__main__":
    fire.Fire({"table": table, "agreement": agreement, "patients": patients, "directions": directions})
