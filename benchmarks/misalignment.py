"""
The second experiment of `nect2cect`: T2 to PD of brain MR whose training targets are misaligned by a known degree.

    python benchmarks/misalignment.py run --output_dir runs/misalignment \
        --options "{'phantom#patients': 24, 'samples_per_epoch': 24}"
    python benchmarks/misalignment.py run --output_dir runs/ixi --data IXI --overlay ''
    python benchmarks/misalignment.py table benchmarks/results/nect2cect_misalignment.json

Seo et al., "Neural contrast enhancement of CT image", IEEE WACV 2021, section 4.4 and Table 1. Classifier and contrast
remover are trained once for each k and shared by the methods that need them. What is finished is not run again; what
was stopped goes on. The first command is at demonstration scale; without an overlay the networks are the paper's.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fire

from common.processes import run_child

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundles" / "nect2cect"
CONFIGS = BUNDLE / "configs"
RESULT = ROOT / "benchmarks" / "results" / "nect2cect_misalignment.json"
OVERLAYS = {
    "classifier": "train_classifier.yaml",
    "contrast_removal": "train_contrast_removal.yaml",
    "single": "baselines/single.yaml",
    "cycle": "baselines/cycle.yaml",
    "ours_j": "train_joint.yaml",
    "ours_s": None,  # train.yaml itself
}
NEEDS = {
    "single": (),
    "cycle": ("classifier",),
    "ours_j": ("classifier",),
    "ours_s": ("classifier", "contrast_removal"),
}
TITLES = {
    "single": "Single",
    "cycle": "Cycle",
    "ours_j": "Ours-J",
    "ours_s": "Ours-S",
    "identity": "identity",
    "intensity_curve": "intensity curve (fitted on aligned pairs)",
}
REFERENCES = ("identity", "intensity_curve")
MS_SSIM = ("ms_ssim", "ms_ssim_kernel7")
KEPT = ("mse_x100", *MS_SSIM, "psnr_scaled", "ssim_scaled", "psnr", "ssim", "mae_tumour", "mae_oedema")
FACTS = ("network", "parameters", "torch", "monai", "gpu", "commit", "weights_sha256")


def run(
    *,
    output_dir: str,
    data: str | None = None,
    overlay: str = str(CONFIGS / "demo.yaml"),
    ks: float | tuple[float, ...] = (0.01, 0.02, 0.05),
    methods: str | tuple[str, ...] = ("single", "cycle", "ours_j", "ours_s"),
    options: Mapping[str, Any] | None = None,
    result: str = str(RESULT),
) -> None:
    """Train and evaluate each method for each degree of misalignment; write one JSON file of results after each.

    Args:
        output_dir: the runs, a folder for each k. It belongs to one setting.
        data: a folder with a datalist of T2 and PD; by default the overlay makes the phantom in `output_dir`/data.
        overlay: of `train.yaml`, before `misalignment.yaml`; '' for none.
        ks: degrees of misalignment.
        methods: of `single`, `cycle`, `ours_j`, `ours_s`.
        options: further ids of the config and their values, for each training.
        result: the JSON file.

    Raises:
        ValueError: on an unknown method, or when `output_dir` holds runs of another setting.
    """
    names = methods.split(",") if isinstance(methods, str) else list(methods)
    if unknown := sorted(set(names) - set(NEEDS)):
        raise ValueError(f"`methods` must be among {list(NEEDS)}, got {unknown}.")
    out = Path(output_dir)
    places = ["--bundle_root", str(BUNDLE), "--dataset_dir", data or str(out / "data")]
    setting = {"overlay": Path(overlay).name, "options": dict(options or {})}
    _one_setting(out, {"data": data, **setting})
    runs: list[dict[str, Any]] = []
    for k in [float(each) for each in (ks if isinstance(ks, (tuple, list)) else [ks])]:
        folder = out / f"k{k:g}"
        for name in names:
            for stage in (*NEEDS[name], name):
                _train(folder, stage, k, overlay, setting["options"], places)
            runs.append({"k": k, "method": name, **_evaluate(folder, name, places)})
            _write(Path(result), {"bundle": BUNDLE.name, **setting, "runs": runs})
    print(result)


def table(path: str = str(RESULT)) -> None:
    """Print the results as the paper's Table 1 has them: MSE x 100 and MS-SSIM, means over the test patients.

    Args:
        path: the JSON that `run` wrote.
    """
    runs = json.loads(Path(path).read_text(encoding="utf-8"))["runs"]
    ks = sorted({each["k"] for each in runs})
    scores = {(each["method"], each["k"]): each["summary"]["network"] for each in runs}
    for each in runs:  # the same for every method
        scores |= {(name, each["k"]): each["summary"][name] for name in REFERENCES if name in each["summary"]}
    kernel = "MS-SSIM (kernel 7)" if any(MS_SSIM[1] in metrics for metrics in scores.values()) else "MS-SSIM"
    heads = [f"k = {k:g}: {title}" for k in ks for title in ("MSE x 100", kernel)]
    print("| method | " + " | ".join(heads) + " |\n|" + "---|" * (1 + len(heads)))
    for name, title in TITLES.items():
        if any((name, k) in scores for k in ks):
            cells = [cell for k in ks for cell in _cells(scores.get((name, k), {}))]
            print(f"| {title} | " + " | ".join(cells) + " |")


def _cells(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    similarity = next((metrics[name] for name in MS_SSIM if name in metrics), None)
    return ["" if each is None else f"{each['mean']:.3f}" for each in (metrics.get("mse_x100"), similarity)]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all: `table` may read it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _one_setting(out: Path, setting: Mapping[str, Any]) -> None:
    """Refuse to mix runs of two settings, since what is finished is not run again."""
    path = out / "setting.json"
    if path.is_file() and (there := json.loads(path.read_text(encoding="utf-8"))) != setting:
        raise ValueError(f"{out} holds runs of another setting, {there}, not {setting}: choose another `output_dir`.")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(setting) + "\n", encoding="utf-8")


def _train(
    folder: Path, stage: str, k: float, overlay: str, options: Mapping[str, Any], places: list[str]
) -> dict[str, Any]:
    """One training, unless it is finished; it resumes what was stopped."""
    finished = folder / "training" / stage / "finished.json"
    if not finished.is_file():
        own = OVERLAYS[stage]
        files = [CONFIGS / "train.yaml", overlay, CONFIGS / "misalignment.yaml", *([CONFIGS / own] if own else [])]
        arguments = ["--k", str(k), "--stage", stage, "--models_dir", str(folder / "models")]
        arguments += ["--output_dir", str(folder / "training")]
        arguments += [part for name, value in options.items() for part in (f"--{name}", str(value))]
        log = folder / f"{stage}.log"
        seconds = _bundle("training", [str(file) for file in files if str(file)], [*places, *arguments], log)
        with (finished.parent / "losses.csv").open(newline="", encoding="utf-8") as file:
            last = list(csv.DictReader(file))[-1]
        facts = {"epochs": int(last["epoch"]), "iterations": int(last["iteration"]), "cpu_seconds": round(seconds, 1)}
        finished.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    return json.loads(finished.read_text(encoding="utf-8"))


def _evaluate(folder: Path, name: str, places: list[str]) -> dict[str, Any]:
    out = folder / "evaluation" / name
    if not (out / "summary.json").is_file():
        files = [str(CONFIGS / f"{each}.yaml") for each in ("inference", "evaluate", "evaluate_misalignment")]
        arguments = ["--models_dir", str(folder / "models" / name), "--output_dir", str(out)]
        arguments += ["--training_dir", str(folder / "training" / name)]
        _bundle("evaluating", files, [*places, *arguments], folder / f"{name}_evaluation.log")
    (summary,) = json.loads((out / "summary.json").read_text(encoding="utf-8")).values()
    facts = json.loads((out / "run.json").read_text(encoding="utf-8"))
    kept = {method: {key: metrics[key] for key in KEPT if key in metrics} for method, metrics in summary.items()}
    trainings = {
        s: json.loads((folder / "training" / s / "finished.json").read_text(encoding="utf-8"))
        for s in (*NEEDS[name], name)
    }
    return {"summary": kept, "facts": {key: facts[key] for key in FACTS if key in facts}, "training": trainings}


def _bundle(run_id: str, files: list[str], arguments: list[str], log: Path) -> float:
    """`python -m monai.bundle run` in a process of its own; returns the seconds of processor time that it took."""
    before = os.times()
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"{log.parent.name} {log.stem} ...", flush=True)
    command = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", str(files), *arguments]
    code = run_child(command, log=log, environment={"PYTHONPATH": str(ROOT), **os.environ})
    if code:
        raise SystemExit(f"{run_id} ended with exit code {code}; {log} says why.")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    fire.Fire({"run": run, "table": table})
