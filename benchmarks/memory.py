"""
Memory of a translation against the number of slices: the peak of a process that translates noise, checks included.

    python benchmarks/memory.py [--jobs 8] [--quick] [--result PATH]

Each bundle runs by its own `inference.yaml`, with a network that costs nothing, so that what the rest holds shows.
"""

from __future__ import annotations

import logging
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fire
import torch
from inference import Enlarging, evaluator, save_noise
from measuring import peak_memory_mb, print_table, result_path, write_result
from torch import nn

from common.inference import run_cases

SIDE = 128  # pixels
DEPTHS = (300, 1200)
BUNDLES = ("ggcl", "nect2cect", "sr_cyclegan", "nec_t1t2")  # kcgan_kernel_conversion runs the code of ggcl


def translate_noise(bundle: str, suffix: str, depth: int, side: int) -> None:
    """Translate a volume of `side` x `side` x `depth` voxels with an identity, the guards as warnings."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        save_noise(Path(folder, f"scan{suffix}"), depth, side, mr=bundle == "nec_t1t2")
        networks = {"sr_cyclegan": Enlarging(), "nec_t1t2": Middle()}
        network = networks.get(bundle, nn.Identity())
        given: dict[str, Any] = {"network_def": network, "handlers": [], "guards": "warn"}
        run_cases(evaluator(bundle, folder, f"{folder}/out", **given))


class Middle(nn.Module):
    """The slice in the middle of those that a network sees."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map `(B, C, H, W)` to `(B, 1, H, W)`."""
        middle = image.shape[1] // 2
        return image[:, middle : middle + 1]


def growth(*, quick: bool, jobs: int) -> list[dict[str, Any]]:
    """Peaks at two depths, and what a voxel of the source adds between them."""
    depths, side = ((16, 32), 64) if quick else (DEPTHS, SIDE)
    with ThreadPoolExecutor(jobs) as threads:
        peaks = {
            (bundle, depth): threads.submit(peak_memory_mb, translate_noise, bundle, ".nii", depth, side)
            for bundle in BUNDLES
            for depth in depths
        }
    rows = []
    for bundle in BUNDLES:
        small, large = (peaks[bundle, depth].result() for depth in depths)
        row = {"bundle": bundle, "pixels": side}
        row |= {f"MB at {depth} slices": peaks[bundle, depth].result() for depth in depths}
        voxels = side**2 * (depths[1] - depths[0])
        rows.append({**row, "more [MB]": large - small, "bytes a voxel": (large - small) * 2**20 / voxels})
    return rows


def main(quick: bool = False, result: str | None = None, jobs: int = 1) -> None:
    """
    Args:
        quick: few small slices; nothing is written unless `result` is given.
        result: the JSON file; default: `benchmarks/results/performance_memory.json`.
        jobs: processes that are measured at a time.
    """
    rows = growth(quick=quick, jobs=jobs)
    print_table(rows)
    write_result(result_path("memory", result, quick=quick), {"quick": quick, "growth": rows})


if __name__ == "__main__":
    fire.Fire(main)
