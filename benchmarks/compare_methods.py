"""
Trains methods of a bundle at an equal budget and tabulates what they score on held-out patients.

    python benchmarks/compare_methods.py run nec_t1t2 --data runs/methods/data --output_dir runs/methods \
        --methods nec,cyclegan,cut,pix2pix --overlay bundles/nec_t1t2/configs/demo.yaml --samples_per_epoch 56
    python benchmarks/compare_methods.py run nect2cect --data runs/demo_nect2cect/data --output_dir runs/enhancement \
        --methods ours_s,ours_j,single,cycle,misaligned --overlay bundles/nect2cect/configs/demo.yaml
    python benchmarks/compare_methods.py run sr_cyclegan --data runs/demo_sr_cyclegan/data --output_dir runs/sr \
        --methods sr_cyclegan,cyclegan,sr_unit,unit --overlay bundles/sr_cyclegan/configs/demo.yaml
    python benchmarks/compare_methods.py table benchmarks/results/nec_t1t2_methods.json
    python benchmarks/compare_methods.py agreement benchmarks/results/nec_t1t2_methods.json
    python benchmarks/compare_methods.py patients benchmarks/results/nec_t1t2_real.json
    python benchmarks/compare_methods.py directions benchmarks/results/ggcl_demo.json --metric emphysema_index

Equal budget: the same patients, epochs, batch and images an epoch, hence equally many updates of each generator.
A finished run is not run again. `run` writes the JSON that `table` prints and that the docs quote.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fire
from scipy.stats import spearmanr

ROOT = Path(__file__).parents[1]
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
OVERLAYS = {
    "ours_j": "train_joint",
    "sr_unit": "sr_unit",
}  # of train.yaml; else configs/baselines/<method>.yaml, or none
STAGES = {"nect2cect": ("train_classifier", "train_contrast_removal")}  # before the trainings, once a seed
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


def run(
    bundle: str,
    *,
    data: str,
    output_dir: str,
    overlay: str,
    methods: str | tuple[str, ...] = ("nec", "cyclegan", "cut", "pix2pix"),
    seeds: str | tuple[int, ...] = (0,),
    samples_per_epoch: int | None = None,
    parallel: int = 1,
    result: str | None = None,
) -> None:
    """Train and evaluate each method with each seed; write one JSON file of results.

    Args:
        bundle: a folder of bundles/.
        data: the data set.
        output_dir: the runs.
        overlay: of `train.yaml`, for all methods; behind the method's own.
        methods: `nec` is the bundle as it is, the others are overlays in configs/baselines.
        seeds: of the trainings.
        samples_per_epoch: images an epoch. Supervised methods see the paired images of *all* training patients, and
            need it to stay within the budget of the unpaired ones.
        parallel: runs at a time.
        result: the file; default benchmarks/results/<bundle>_methods.json.
    """
    names = methods.split(",") if isinstance(methods, str) else list(methods)
    numbers = [int(s) for s in seeds.split(",")] if isinstance(seeds, str) else list(_sequence(seeds))
    work = [(name, seed) for seed in numbers for name in names]
    for seed in numbers if bundle in STAGES else []:
        _stages(bundle, seed, data, Path(output_dir), overlay)
    with ThreadPoolExecutor(parallel) as pool:
        futures = [
            pool.submit(_one, bundle, name, seed, data, Path(output_dir), overlay, samples_per_epoch)
            for name, seed in work
        ]
        runs = [future.result() for future in futures]
    path = Path(result or ROOT / "benchmarks" / "results" / f"{bundle}_methods.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "bundle": bundle,
        "overlay": Path(overlay).name,
        "command": " ".join(map(_relative, sys.argv[1:])),
        "runs": runs,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(path)


def _relative(argument: str) -> str:
    """Paths of this machine do not belong into a committed file."""
    return str(Path(*Path(argument).parts[-2:])) if argument.startswith("/") else argument


def patients(path: str, *, result: str | None = None) -> None:
    """Print the rows of a `metrics.csv`, or of the JSON made from it, as Markdown: one a patient and method.

    Args:
        path: the CSV that `evaluating` wrote, or the JSON.
        result: write the JSON here.
    """
    source = Path(path)
    if source.suffix == ".csv":
        with source.open(newline="") as file:
            rows = [{key: row[key] for key in ("patient", "method")} | _numbers(row) for row in csv.DictReader(file)]
        facts = json.loads(source.with_name("run.json").read_text())
        content = {"commit": facts["commit"], "weights_sha256": facts["weights_sha256"], "rows": rows}
    else:
        content = json.loads(source.read_text())
    if result is not None:
        Path(result).write_text(json.dumps(content, indent=1) + "\n")
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
    content = json.loads(Path(path).read_text())
    if "directions" not in content:
        facts = json.loads(Path(path).with_name("run.json").read_text())
        kept = {
            direction: {name: {k: m[k] for k in DIRECTION_METRICS if k in m} for name, m in methods.items()}
            for direction, methods in content.items()
        }
        content = {"commit": facts["commit"], "weights_sha256": facts["weights_sha256"], "directions": kept}
    if result is not None:
        Path(result).write_text(json.dumps(content, indent=1) + "\n")
    scores = content["directions"]
    print("| method | " + " | ".join(scores) + " | mean |\n|" + "---|" * (2 + len(scores)))
    for name in next(iter(scores.values())):
        values = [methods[name][metric] for methods in scores.values()]
        mean = sum(value["mean"] for value in values) / len(values)
        print(f"| {name.replace('_', ' ')} | " + " | ".join(map(_cell, values)) + f" | {mean:.2f} |")


def _numbers(row: dict[str, str]) -> dict[str, float]:
    return {column: float(row[column]) for column in PATIENT_COLUMNS}


def _sequence(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _stages(bundle: str, seed: int, data: str, output_dir: Path, overlay: str) -> None:
    """The trainings that come before those of the methods, which copy their weights."""
    configs, folder = ROOT / "bundles" / bundle / "configs", output_dir / f"stages_{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    for stage in STAGES[bundle]:
        if (folder / f"{stage}.done").is_file():
            continue
        files = [str(configs / "train.yaml"), overlay, str(configs / f"{stage}.yaml")]
        _run(folder / f"{stage}.log", "training", "--config_file", str(files), "--bundle_root", str(configs.parent),
             "--dataset_dir", data, "--models_dir", str(folder / "models"), "--output_dir", str(folder / "training"),
             "--seed", str(seed))  # fmt: skip
        (folder / f"{stage}.done").touch()


def _run(log_file: Path, *arguments: str) -> None:
    with log_file.open("w") as log:
        command = [sys.executable, "-m", "monai.bundle", "run", *arguments]
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)


def _one(
    bundle: str, name: str, seed: int, data: str, output_dir: Path, overlay: str, samples_per_epoch: int | None
) -> dict[str, Any]:
    """One training and evaluation, in processes of their own."""
    configs = ROOT / "bundles" / bundle / "configs"
    folder = output_dir / f"{name}_{seed}"
    baseline = configs / f"{OVERLAYS.get(name, f'baselines/{name}')}.yaml"
    files = [str(configs / "train.yaml"), *([str(baseline)] if baseline.is_file() else []), overlay]
    places = ["--bundle_root", str(configs.parent), "--dataset_dir", data, "--models_dir", str(folder / "models")]
    training = ["training", "--config_file", str(files), "--output_dir", str(folder / "training"), "--seed", str(seed)]
    if samples_per_epoch is not None:
        training += ["--samples_per_epoch", str(samples_per_epoch)]
    both = str([str(configs / "inference.yaml"), str(configs / "evaluate.yaml")])
    evaluating = ["evaluating", "--config_file", both, "--output_dir", str(folder / "evaluation")]
    evaluating += ["--training_dir", str(folder / "training")]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "evaluation" / "summary.json").is_file():
        if bundle in STAGES:
            shutil.copytree(output_dir / f"stages_{seed}" / "models", folder / "models", dirs_exist_ok=True)
        for arguments in (training, evaluating):
            _run(folder / f"{arguments[0]}.log", *arguments, *places)
    facts = json.loads((folder / "evaluation" / "run.json").read_text())
    kept = ("network", "parameters", "torch", "monai", "gpu", "commit", "weights_sha256")
    return {
        "method": name,
        "seed": seed,
        "summary": json.loads((folder / "evaluation" / "summary.json").read_text()),
        "facts": {key: facts[key] for key in kept if key in facts},
        "training": _training(folder),
    }


def _training(folder: Path) -> dict[str, Any]:
    with (folder / "training" / "losses.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    validation = []
    if (folder / "training" / "validation.csv").is_file():
        with (folder / "training" / "validation.csv").open(newline="") as file:
            validation = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    definition = json.loads((folder / "models" / "network.json").read_text())
    return {
        "iterations": int(last["iteration"]),
        "epochs": int(last["epoch"]),
        "seconds": float(last.get("seconds") or 0),
        "selected_epoch": definition["epoch"],
        "validation": validation,
    }


def table(path: str) -> None:
    """Print the results as Markdown: mean and SD over patients (of the first seed), then the mean over seeds."""
    content = json.loads(Path(path).read_text())
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
    content = json.loads(Path(path).read_text())
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
    fire.Fire({"run": run, "table": table, "agreement": agreement, "patients": patients, "directions": directions})
