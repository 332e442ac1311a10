"""
Trains the kernel-conversion bundles in several settings and seeds, and tabulates their PSNR against the radial filters.

    python benchmarks/compare_kernels.py run --data runs/demo_ggcl/data --output_dir runs/kernels --seeds 0,1,2
    python benchmarks/compare_kernels.py table benchmarks/results/kernels.json

All settings are trained with the demonstration's overlay (phantom, small networks, minutes on a CPU), and the weights
are chosen by the unpaired score. `run` keeps PSNR, SSIM and RMSE of each patient and direction; a finished run is not
repeated.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import fire
from scipy.stats import ttest_rel, wilcoxon

ROOT = Path(__file__).parents[1]
REFERENCE = "radial_filter_unpaired"
METRICS = ("psnr", "ssim", "rmse")
# setting: (bundle, overlays between train.yaml and demo.yaml, further arguments)
UNTRAINED = ("--max_epochs", "1", "--val_interval", "1", "--learning_rate", "0", "--filter_learning_rate", "0")
SETTINGS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "ggcl physics": ("ggcl", ("physics",), ()),
    "ggcl physics, untrained": ("ggcl", ("physics",), UNTRAINED),
    "ggcl physics, clipped air": ("ggcl", ("physics",), ("--air_below_hu", "$None")),
    "kcgan physics": ("kcgan_kernel_conversion", ("physics",), ()),
    "ggcl paper": ("ggcl", (), ()),
    "kcgan paper": ("kcgan_kernel_conversion", (), ()),
    "ggdr paper": ("ggcl", ("baselines/ggdr",), ()),
    "stargan paper": ("ggcl", ("baselines/stargan",), ()),
}
SEVERAL_SEEDS = ("ggcl physics", "kcgan physics")


def run(data: str, *, output_dir: str, seeds: str | tuple[int, ...] = (0, 1, 2), result: str | None = None) -> None:
    """Train and evaluate every setting; write one JSON file of results.

    Args:
        data: the chest phantom's folder; made there when it is missing.
        output_dir: the runs.
        seeds: of the trainings with physics; the other settings run with the first.
        result: the file; default benchmarks/results/kernels.json.
    """
    numbers = [int(s) for s in (seeds.split(",") if isinstance(seeds, str) else seeds)]
    first = next(iter(SETTINGS))
    runs = [
        _one(setting, seed, Path(data), Path(output_dir), with_baselines=(setting, seed) == (first, numbers[0]))
        for setting in SETTINGS
        for seed in (numbers if setting in SEVERAL_SEEDS else numbers[:1])
    ]
    path = Path(result or ROOT / "benchmarks" / "results" / "kernels.json")
    path.write_text(json.dumps({"seeds": numbers, "runs": runs}, indent=1) + "\n")
    print(path)


def _one(setting: str, seed: int, data: Path, output_dir: Path, *, with_baselines: bool) -> dict[str, Any]:
    """One training and evaluation, in processes of their own; the baselines are the same for all."""
    bundle, overlays, more = SETTINGS[setting]
    configs = ROOT / "bundles" / bundle / "configs"
    folder = (output_dir / f"{setting.replace(', ', '_').replace(' ', '_')}_{seed}").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    places = ["--bundle_root", str(configs.parent), "--dataset_dir", str(data.absolute())]
    places += ["--models_dir", str(folder / "models")]
    files = [str(configs / f"{name}.yaml") for name in ("train", *overlays, "demo")]
    training = ["training", "--config_file", str(files), "--output_dir", str(folder / "training"), "--seed", str(seed)]
    both = [str(configs / f"{name}.yaml") for name in ("inference", "evaluate")]
    evaluating = ["evaluating", "--config_file", str(both), "--output_dir", str(folder / "evaluation")]
    evaluating += ["--training_dir", str(folder / "training"), "--evaluator#more_metrics", "$None"]
    if not with_baselines:
        evaluating += ["--translators", "$dict(network=@network_translator)"]
    if not (folder / "evaluation" / "metrics.csv").is_file():
        for arguments in ([*training, *more], evaluating):
            with (folder / f"{arguments[0]}.log").open("w") as log:
                command = [sys.executable, "-m", "monai.bundle", "run", *arguments, *places]
                subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    facts = json.loads((folder / "evaluation" / "run.json").read_text())
    with (folder / "evaluation" / "metrics.csv").open(newline="") as file:
        rows = [
            {key: row[key] for key in ("patient", "direction", "method")} | {key: float(row[key]) for key in METRICS}
            for row in csv.DictReader(file)
        ]
    definition = json.loads((folder / "models" / "network.json").read_text())
    facts = {key: facts[key] for key in ("commit", "weights_sha256", "parameters", "torch", "monai") if key in facts}
    return {"setting": setting, "seed": seed, "selected_epoch": definition["epoch"], "facts": facts, "rows": rows}


def table(path: str) -> None:
    """Print, as Markdown, the PSNR of every setting in every direction and its gain over the unpaired radial filter.

    A patient's PSNR is the mean over directions and seeds; the gain's p is of the paired t-test over patients, beside
    Wilcoxon's. `directions ahead` counts those whose mean PSNR is above the identity's and the unpaired filter's.
    """
    runs = json.loads(Path(path).read_text())["runs"]
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
    fire.Fire({"run": run, "table": table})
