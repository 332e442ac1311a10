"""Loss curves of plain and fast trainings of GGCL's demonstration, against the spread over seeds."""

from __future__ import annotations

import csv
import statistics
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from measuring import ROOT, print_table
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from common.phantoms import generate_phantom

CONFIGS = ROOT / "bundles" / "ggcl" / "configs"
MODES: dict[str, dict[str, Any]] = {
    "plain": {"amp": False, "optimizer#fused": False, "discriminator_optimizer#fused": False},
    "fast": {"amp": True, "optimizer#fused": True, "discriminator_optimizer#fused": True},
}
SETTING = {
    "channels": 8, "discriminator_channels": 4, "num_res_blocks": 1, "image_size": 128, "batch_size": 2,
    "samples_per_epoch": 150, "max_epochs": 8, "train#trainer#validator": None, "train#trainer#definition": {},
    "train#trainer#log_interval": 1, "train#trainer#progress": False, "train#trainer#models_dir": None,
}  # fmt: skip
PHANTOM = {"patients": 9, "slices": 4, "size": 256, "seed": 0}
LOSSES = ("critic", "penalty", "real_class", "guidance", "adversarial", "fake_class", "cycle")
PARTS = 5  # of a curve, over each of which it is averaged


def compare_curves(*, quick: bool = False, seeds: Sequence[int] = (0, 1, 2)) -> dict[str, Any]:
    """
    Train the demonstration, compact, in both modes from equal seeds; compare the curves of each loss.

    Args:
        quick: a twelfth of the training.
        seeds: of the trainings, each in both modes.

    Returns:
        for each loss: the averaged curves of both modes over the seeds, the seeds' largest SD of a plain curve, and
        the largest difference between both modes.
    """
    setting = {**SETTING, "max_epochs": 2, "samples_per_epoch": 50} if quick else SETTING
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        generate_phantom("chest", data, **PHANTOM)
        curves = {
            mode: [_train({**setting, **options}, data, Path(folder, f"{mode}_{seed}"), seed) for seed in seeds]
            for mode, options in MODES.items()
        }
    rows = [_row(loss, curves) for loss in LOSSES]
    shown = ("loss", "seeds_sd", "difference", "within")
    print_table([{name: row[name] for name in shown} for row in rows])
    return {"setting": setting, "phantom": PHANTOM, "seeds": list(seeds), "losses": rows}


def _train(options: dict[str, Any], data: Path, output: Path, seed: int) -> dict[str, list[float]]:
    """One training; the mean of each loss over each part of it."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.yaml"), str(CONFIGS / "demo.yaml")])
    parser.update({**options, "dataset_dir": str(data), "output_dir": str(output), "seed": seed, "bundle_root": "."})
    parser["device"] = torch.device("cpu")
    set_determinism(seed)
    parser.get_parsed_content("train#trainer").run()
    with (output / "losses.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {loss: _averaged([float(row[loss]) for row in rows if row.get(loss)]) for loss in LOSSES}


def _averaged(values: Sequence[float]) -> list[float]:
    bounds = [len(values) * part // PARTS for part in range(PARTS + 1)]
    return [statistics.fmean(values[start:end]) for start, end in pairwise(bounds)]


def _row(loss: str, curves: dict[str, list[dict[str, list[float]]]]) -> dict[str, Any]:
    """Both modes of a loss; they agree where their means differ by less than two standard errors of a difference."""
    seeds = {mode: list(zip(*(curve[loss] for curve in found))) for mode, found in curves.items()}
    means = {mode: [statistics.fmean(part) for part in parts] for mode, parts in seeds.items()}
    spread = [statistics.stdev(part) for part in seeds["plain"]]
    differences = [abs(fast - plain) for fast, plain in zip(means["fast"], means["plain"])]
    limits = [2 * sd * (2 / len(curves["plain"])) ** 0.5 for sd in spread]
    within = sum(difference <= limit for difference, limit in zip(differences, limits))
    return {
        "loss": loss,
        **means,
        "sd_over_seeds": spread,
        "differences": differences,
        "seeds_sd": max(spread),
        "difference": max(differences),
        "within": f"{within} of {len(limits)}",
    }
