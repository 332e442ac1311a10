"""
Kernel conversion on a true kernel pair: one scan of a head phantom, reconstructed with a soft and a sharp kernel.

    python benchmarks/kernel_pair.py prepare SOFT.nii.gz SHARP.nii.gz --output_dir runs/kernel_pair/data
    python benchmarks/kernel_pair.py run runs/kernel_pair/data --phantom_models runs/demo_ggcl/models \
        --output_dir runs/kernel_pair
    python benchmarks/kernel_pair.py table benchmarks/results/kernel_pair.json

Two questions, answered on slices 33 to 40. "Within one scan": trained on soft slices 1 to 14 and sharp slices 15 to 28,
which no pixel has in common, with a gap of four slices to the test; the paired filter sees both volumes of slices 1 to
28. "Out of distribution": the weights of the chest phantom, whose kernels and pixel sizes are others. One scan is no
evidence for other scans.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import fire
import nibabel as nib

from common.processes import run_child

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "bundles" / "ggcl" / "configs"
SOFT, SHARP = "UB", "YA"
SLICES = {"soft": (0, 14), "sharp": (14, 28), "paired": (0, 28), "test": (32, 40)}  # half-open, counted from 0
METRICS = ("psnr", "ssim", "rmse")
WITHIN, OUTSIDE = "within one scan", "out of distribution (weights of the chest phantom, as B30f and B70f)"


def prepare(soft: str, sharp: str, *, output_dir: str) -> None:
    """Cut the two reconstructions of a scan into unpaired training slices and paired test slices.

    Args:
        soft: the volume of the soft kernel, 40 slices.
        sharp: the sharp one's, on the same grid.
        output_dir: gets volumes, `datalist.json` and, for the phantom's weights, `phantom/datalist.json`.
    """
    out = Path(output_dir).absolute()
    (out / "phantom").mkdir(parents=True, exist_ok=True)
    volumes = {SOFT: nib.load(soft), SHARP: nib.load(sharp)}
    both = [(name, part) for part in ("paired", "test") for name in (SOFT, SHARP)]
    for name, part in ((SOFT, "soft"), (SHARP, "sharp"), *both):
        first, last = SLICES[part]
        nib.save(volumes[name].slicer[:, :, first:last], out / f"{part}_{name}.nii.gz")
    training = [
        {"image": f"soft_{SOFT}.nii.gz", "domain": SOFT, "patient": "slices 1-14"},
        {"image": f"sharp_{SHARP}.nii.gz", "domain": SHARP, "patient": "slices 15-28"},
    ]
    paired = {SOFT: f"paired_{SOFT}.nii.gz", SHARP: f"paired_{SHARP}.nii.gz", "patient": "slices 1-28"}
    test = {SOFT: f"test_{SOFT}.nii.gz", SHARP: f"test_{SHARP}.nii.gz", "patient": "slices 33-40"}
    # Unpaired validation looks at spectra and HU of conversions only, and sees no more of the scan than training does.
    validation = [{**entry, "patient": f"{entry['patient']}, unpaired validation"} for entry in training]
    lists: dict[str, Any] = {"domains": [SOFT, SHARP], "training": training, "validation": validation, "test": [test]}
    lists["training_paired"] = [paired]
    (out / "datalist.json").write_text(json.dumps(lists, indent=1) + "\n", encoding="utf-8")
    outside = {"B30f": f"../{test[SOFT]}", "B70f": f"../{test[SHARP]}", "patient": test["patient"]}
    (out / "phantom" / "datalist.json").write_text(
        json.dumps({"domains": ["B30f", "B70f"], "test": [outside]}), encoding="utf-8"
    )
    print(out / "datalist.json")


def run(data: str, *, phantom_models: str, output_dir: str, seed: int = 0, result: str | None = None) -> None:
    """Train within the scan, evaluate it and the phantom's weights, write one JSON file of results.

    Args:
        data: the folder that `prepare` made.
        phantom_models: `models` of the demonstration.
        output_dir: the runs.
        seed: of the training.
        result: the file; default benchmarks/results/kernel_pair.json.
    """
    folder, places = Path(data).absolute(), Path(output_dir).absolute()
    places.mkdir(parents=True, exist_ok=True)
    models = places / "models"
    files = [str(CONFIGS / f"{name}.yaml") for name in ("train", "physics", "demo")]
    # No phantom is made; it is named, as the preflight refuses settings without use.
    small = (
        "--domains",
        f"['{SOFT}','{SHARP}']",
        "--image_size",
        "256",
        "--batch_size",
        "2",
        "--samples_per_epoch",
        "50",
    )
    _bundle("training", files, folder, models, places / "training", "--seed", str(seed), "--make_data",
            "$None and @phantom", *small)  # fmt: skip
    both = [str(CONFIGS / f"{name}.yaml") for name in ("inference", "evaluate")]
    _bundle("evaluating", both, folder, models, places / "evaluation", "--training_dir", str(places / "training"))
    directions = "[['B30f','B70f'],['B70f','B30f']]"
    _bundle("evaluating", both, folder / "phantom", Path(phantom_models).absolute(), places / "phantom",
            "--directions", directions)  # fmt: skip
    content = {WITHIN: _rows(places / "evaluation"), OUTSIDE: _rows(places / "phantom")}
    path = Path(result or ROOT / "benchmarks" / "results" / "kernel_pair.json")
    path.write_text(json.dumps({"seed": seed, "results": content}, indent=1) + "\n", encoding="utf-8")
    print(path)


def table(path: str) -> None:
    """Print the results as Markdown."""
    print("| weights | direction | method | PSNR (dB) | SSIM | RMSE (HU) |\n|---|---|---|---|---|---|")
    for title, rows in json.loads(Path(path).read_text(encoding="utf-8"))["results"].items():
        for row in rows:
            numbers = f"{row['psnr']:.2f} | {row['ssim']:.4f} | {row['rmse']:.1f}"
            print(f"| {title} | {row['direction']} | {row['method'].replace('_', ' ')} | {numbers} |")


def _bundle(command: str, files: list[str], data: Path, models: Path, output: Path, *more: str) -> None:
    arguments = [command, "--config_file", str(files), "--bundle_root", str(CONFIGS.parent), "--dataset_dir", str(data)]
    arguments += ["--models_dir", str(models), "--output_dir", str(output), *more]
    code = run_child([sys.executable, "-m", "monai.bundle", "run", *arguments])
    if code:
        raise SystemExit(f"{command} ended with exit code {code}.")


def _rows(evaluation: Path) -> list[dict[str, Any]]:
    with (evaluation / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [
            {"direction": row["direction"], "method": row["method"]} | {key: float(row[key]) for key in METRICS}
            for row in csv.DictReader(file)
        ]


if __name__ == "__main__":
    fire.Fire({"prepare": prepare, "run": run, "table": table})
