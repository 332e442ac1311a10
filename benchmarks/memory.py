"""
Memory and time of a translation against the number of slices: one process each, checks included.

    python benchmarks/memory.py [--bundles ggcl,nec_t1t2] [--depths 300,2000] [--networks none,shipped] [--side 256]
    python benchmarks/memory.py --draw

Each bundle translates noise by its own `inference.yaml`: with a network that costs nothing (`none`), so that what the
rest holds and takes shows, and with the shipped one. Super-resolution translates a region whose output has the side
and the depth that are named. Rows join those that the file holds; `--draw` draws them and measures nothing.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fire
import torch
from inference import evaluator, save_noise
from measuring import ROOT, print_table, result_path, write_result
from torch import nn

from common.inference import run_cases
from common.memory import peak_memory_mb
from common.processes import worker_pool

SIDE = 512  # pixels
DEPTHS = (300, 600, 1200, 2000)
BUNDLES = ("ggcl", "kcgan_kernel_conversion", "nect2cect", "sr_cyclegan", "nec_t1t2")
NETWORKS = ("none", "shipped")
FACTOR = 8  # of super-resolution
FIGURE = ROOT / "docs" / "images" / "memory.png"


def translate_noise(bundle: str, network: str, depth: int, side: int) -> dict[str, float]:
    """
    Translate a volume of `side` x `side` x `depth` voxels, the guards as warnings.

    Args:
        bundle: its folder's name.
        network: "none" or "shipped".
        depth: slices.
        side: pixels; of the output, where that is finer than the source.

    Returns:
        seconds, and processor seconds of all threads.
    """
    logging.disable(logging.WARNING)
    given: dict[str, Any] = {"guards": "warn"}
    if network == "none":
        free = {"sr_cyclegan": Enlarging(), "nec_t1t2": Middle()}
        given |= {"network_def": free.get(bundle, nn.Identity()), "handlers": []}
    if bundle == "sr_cyclegan":
        given["region"] = [*[[0, side // FACTOR]] * 2, [0, depth]]
    with tempfile.TemporaryDirectory() as folder:
        save_noise(Path(folder, "scan.nii"), depth, side, mr=bundle == "nec_t1t2")
        start = time.perf_counter(), time.process_time()
        run_cases(evaluator(bundle, folder, f"{folder}/out", **given))
        return {"seconds": time.perf_counter() - start[0], "cpu_seconds": time.process_time() - start[1]}


class Enlarging(nn.Module):
    """An image with smaller pixels, by repeating them."""

    factor, margin = FACTOR, 1

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map `(B, C, H, W)` to `(B, C, 8 H, 8 W)`."""
        return image.repeat_interleave(FACTOR, dim=2).repeat_interleave(FACTOR, dim=3)


class Middle(nn.Module):
    """The slice in the middle of those that a network sees."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map `(B, C, H, W)` to `(B, 1, H, W)`."""
        middle = image.shape[1] // 2
        return image[:, middle : middle + 1]


def measured(bundle: str, network: str, depth: int, side: int) -> dict[str, Any]:
    """A row: peak of the memory and seconds of a process of its own."""
    with worker_pool(1) as process:
        times = process.submit(translate_noise, bundle, network, depth, side).result()
        row = {"bundle": bundle, "network": network, "pixels": side, "slices": depth}
        row |= {"peak_mb": process.submit(peak_memory_mb).result(), **times}
    print(row, flush=True)
    return row


def draw_figure(rows: Iterable[dict[str, Any]], figure: str | Path = FIGURE) -> None:
    """Draw memory and time against depth."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row["pixels"] == SIDE]
    page = Figure(figsize=(10, 4), layout="constrained")
    memory, seconds = page.subplots(1, 2)
    for number, bundle in enumerate(BUNDLES):
        for network, style in zip(NETWORKS, ("o--", "s-")):
            found = sorted(
                (row for row in rows if (row["bundle"], row["network"]) == (bundle, network)),
                key=lambda row: row["slices"],
            )
            if not found:
                continue
            options: dict[str, Any] = {"color": f"C{number}", "label": f"{bundle}, network: {network}"}
            depths = [row["slices"] for row in found]
            memory.plot(depths, [row["peak_mb"] for row in found], style, **options)
            seconds.plot(depths, [row["cpu_seconds"] for row in found], style, **options)
    memory.axhline(1200, color="black", linewidth=0.8, linestyle=":")
    memory.set(ylabel="peak of the process [MB]", xlabel=f"slices of {SIDE} x {SIDE}", ylim=(0, 1300), xlim=(0, None))
    seconds.set(ylabel="processor time [s]", xlabel=f"slices of {SIDE} x {SIDE}", ylim=(0, None), xlim=(0, None))
    page.legend(*memory.get_legend_handles_labels(), loc="outside right upper", fontsize="small", frameon=False)
    page.savefig(figure, dpi=110, metadata={"Software": None})
    print(figure)


def main(
    quick: bool = False,
    result: str | None = None,
    bundles: str | tuple[str, ...] = BUNDLES,
    networks: str | tuple[str, ...] = NETWORKS,
    depths: int | tuple[int, ...] = DEPTHS,
    side: int = SIDE,
    jobs: int = 1,
    draw: bool = False,
) -> None:
    """
    Args:
        quick: few small slices; nothing is written unless `result` is given.
        result: the JSON file; default: `benchmarks/results/performance_memory.json`.
        bundles: those to measure.
        networks: "none", "shipped" or both.
        depths: numbers of slices.
        side: pixels of a slice; the figure shows 512 only.
        jobs: processes that are measured at a time.
        draw: draw the figure from the file instead.
    """
    path = result_path("memory", result, quick=quick)
    earlier = json.loads(path.read_text(encoding="utf-8"))["rows"] if path is not None and path.is_file() else []
    if draw:
        draw_figure(earlier)
        return
    sizes = (16, 32) if quick else (depths,) if isinstance(depths, int) else tuple(depths)
    work = [(bundle, network, depth) for depth in sizes for network in _names(networks) for bundle in _names(bundles)]
    with ThreadPoolExecutor(jobs) as threads:
        rows = list(threads.map(lambda each: measured(*each, side=64 if quick else side), work))
    print_table(rows)
    keys = ("bundle", "network", "pixels", "slices")
    merged = {tuple(row[key] for key in keys): row for row in [*earlier, *rows]}
    order = sorted(merged.values(), key=lambda row: (row["pixels"], BUNDLES.index(row["bundle"]), row["slices"]))
    write_result(path, {"quick": quick, "rows": order})


def _names(given: str | tuple[str, ...]) -> list[str]:
    return given.split(",") if isinstance(given, str) else list(given)


if __name__ == "__main__":
    fire.Fire(main)
