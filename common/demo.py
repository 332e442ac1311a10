"""The demonstration of a bundle: the commands that a user would type, one after the other."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from .processes import run_child
from .reports.tables import results_table

BUNDLES = Path(__file__).parents[1] / "bundles"
KERNEL = {"trainings": (("physics", "demo"),), "inference": ("--source", "B30f", "--target", "B70f")}
STAGES = (("demo", "train_classifier"), ("demo", "train_contrast_removal"), ("demo",))
# What differs from one training with demo.yaml: overlays of train.yaml for each training, of evaluate.yaml, arguments.
SPECIAL: dict[str, dict[str, Any]] = {
    "ggcl": KERNEL,
    "kcgan_kernel_conversion": KERNEL,
    "nect2cect": {"trainings": STAGES, "evaluation": ("evaluate_removal",)},
    "sr_cyclegan": {"inference": ("--region", "all")},  # the phantom is all lung
}


def run_demo(bundle: str = "nec_t1t2", output_dir: str = "runs/demo") -> None:
    """
    Generates phantom data, trains a bundle with its demo overlay, translates and scores held-out patients, reports.

    Args:
        bundle: a folder of `bundles/`.
        output_dir: gets the data, the weights, the translated volumes, `summary.json`, `metrics.csv`, `report.html`.

    Raises:
        ValueError: when there is no such bundle.
    """
    configs = BUNDLES / bundle / "configs"
    if not (configs / "demo.yaml").is_file():
        known = sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/demo.yaml"))
        raise ValueError(f"`bundle` must be one of {known}, got {bundle!r}.")
    started = time.time()
    out = Path(output_dir)
    places = ["--bundle_root", _short(BUNDLES / bundle), "--models_dir", str(out / "models")]
    data = ["--dataset_dir", str(out / "data")]
    special = SPECIAL.get(bundle, {})
    for overlays in special.get("trainings", (("demo",),)):
        _run("monai.bundle", "run", "training", *_files(configs, "train", *overlays), *places, *data,
             "--output_dir", str(out / "training"))  # fmt: skip
    _run("monai.bundle", "run", "inference", *_files(configs, "inference"), *places, *data,
         "--output_dir", str(out / "translated"), *special.get("inference", ()))  # fmt: skip
    scoring = ("inference", "evaluate", *special.get("evaluation", ()))
    _run("monai.bundle", "run", "evaluating", *_files(configs, *scoring), *places, *data,
         "--output_dir", str(out), "--training_dir", str(out / "training"))  # fmt: skip
    _run("common", "report", str(out))
    print("\n" + results_table(json.loads((out / "summary.json").read_text())))
    print(f"\nThe demonstration took {time.time() - started:.0f} s. Research use only.")
    print(f"Report: {out / 'report.html'}   volumes: {out / 'translated'}   numbers: {out / 'metrics.csv'}")


def _short(path: Path) -> str:
    """Relative to the working directory where it lies below it: what a user would type."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _files(configs: Path, *names: str) -> list[str]:
    files = [_short(configs / f"{name}.yaml") for name in names]
    return ["--config_file", files[0] if len(files) == 1 else str(files)]


def _run(module: str, *arguments: str) -> None:
    print(f"\n$ python -m {module} {shlex.join(arguments)}", flush=True)
    code = run_child([sys.executable, "-m", module, *arguments])
    if code:
        raise SystemExit(f"The demonstration stopped: the command above ended with exit code {code}.")
