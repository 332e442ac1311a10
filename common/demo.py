"""Run the demonstration of a bundle: the commands that a user would type, one after the other."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .bundles import declaration, find_bundle, find_bundles, training_stages
from .processes import run_child
from .reports.inputs import read_inputs
from .reports.tables import results_table

OVERLAY = Path("configs", "demo.yaml")


@dataclass(frozen=True)
class Demonstration:
    """Declaration of a bundle's demonstration, under `demo` in its metadata.

    Args:
        overlays: Overlays of `train.yaml`, in order.
        inference: Ids of `inference.yaml` and their values.
        evaluation: Overlays of `evaluate.yaml`, in order.
    """

    overlays: tuple[str, ...] = ("demo",)
    inference: Mapping[str, str] = field(default_factory=dict)
    evaluation: tuple[str, ...] = ()


def run_demo(bundle: str | None = None, output_dir: str = "runs/demo") -> None:
    """Generate phantom data, train a bundle with its demo overlay, translate and score held-out patients, and report.

    Args:
        bundle: A folder in `bundles`, or the path of another bundle; default: the first one, see `find_bundles`.
        output_dir: Folder of data, weights, translated volumes, `summary.json`, `metrics.csv` and `report.html`.

    Raises:
        ValueError: If there is no such bundle.
        SystemExit: If a command fails.
    """
    root = demo_bundle(bundle)
    started = time.time()
    for command in demo_commands(root, output_dir):
        run_command(command)
    out = Path(output_dir)
    inputs = read_inputs(out)
    print("\n" + results_table(inputs.summary, task=inputs.task))
    print(f"\nThe demonstration took {time.time() - started:.0f} s. Research use only.")
    print(f"Report: {out / 'report.html'}   volumes: {out / 'translated'}   numbers: {out / 'metrics.csv'}")


def demo_bundle(bundle: str | None = None) -> Path:
    """Return the folder of a bundle that has a demonstration.

    Args:
        bundle: A bundle, see `run_demo`.

    Raises:
        ValueError: If there is no such bundle.
    """
    with_demo = [root for root in find_bundles() if (root / OVERLAY).is_file()]
    root = find_bundle(bundle, among=with_demo)
    if not (root / OVERLAY).is_file():
        raise ValueError(f"`bundle` must be one with a file {OVERLAY.as_posix()}, got {str(root)!r}.")
    return root


def demo_commands(root: Path, output_dir: str | Path) -> list[list[str]]:
    """Return the commands of a demonstration, in order, without `python -m`.

    Args:
        root: The bundle's folder.
        output_dir: Folder of all outputs.
    """
    plan = declaration(root, "demo", Demonstration) or Demonstration()
    out = Path(output_dir)
    bundle = [
        "--bundle_root",
        short_path(root),
        "--models_dir",
        str(out / "models"),
        "--dataset_dir",
        str(out / "data"),
    ]
    stages = [(stage.stem,) for stage in training_stages(root)]
    commands = [
        ["monai.bundle", "run", "training", *config_files(root, "train", *plan.overlays, *stage), *bundle,
         "--output_dir", str(out / "training")]
        for stage in (*stages, ())
    ]  # fmt: skip
    settings = [word for name, value in plan.inference.items() for word in (f"--{name}", str(value))]
    commands.append(
        ["monai.bundle", "run", "inference", *config_files(root, "inference"), *bundle,
         "--output_dir", str(out / "translated"), *settings]
    )  # fmt: skip
    commands.append(
        ["monai.bundle", "run", "evaluating", *config_files(root, "inference", "evaluate", *plan.evaluation), *bundle,
         "--output_dir", str(out), "--training_dir", str(out / "training")]
    )  # fmt: skip
    return [*commands, ["common", "report", str(out)]]


def short_path(path: Path) -> str:
    """Return a path below the working directory relative to it, as a user would type it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def config_files(root: Path, *names: str) -> list[str]:
    """Return the words of `--config_file` for configs of a bundle, in order, named without their suffix."""
    files = [short_path(root / "configs" / f"{name}.yaml") for name in names]
    return ["--config_file", files[0] if len(files) == 1 else str(files)]


def run_command(command: list[str]) -> None:
    """Print a command, given without `python -m`, and run it.

    Raises:
        SystemExit: If it fails.
    """
    print(f"\n$ python -m {shlex.join(command)}", flush=True)
    code = run_child([sys.executable, "-m", *command])
    if code:
        raise SystemExit(f"Stopped: the command above ended with exit code {code}.")
