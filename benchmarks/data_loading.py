"""
Whether the data loader starves the training step, for every bundle at its paper's sizes and at the demonstration's.

    python benchmarks/data_loading.py [--quick] [--result PATH] [--bundles ggcl,nec_t1t2]

Made scans of usual sizes (compressed NIfTI) are prepared without and with a warm cache; then the loader alone and a
training are timed, with the bundle's own configuration. An item is what one sample of a batch is: a slice, or a pair
of slices or patches. `--quick` leaves out the papers' sizes, at which a step takes a processor seconds.
"""

from __future__ import annotations

import gzip
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import fire
import nibabel as nib
import numpy as np
from ignite.engine import Events
from measuring import ROOT, print_table, result_path, wait_for_device, write_result
from monai.bundle import ConfigParser
from training_steps import WITHOUT_STAGES

LOADED = 100  # items in a timed pass of a loader
PASSES = 3
DEMO_CYCLES = 3  # the first of them is not timed
HU_OF_MR = 1100  # added to a made scan, so that its intensities are those of an MR: above 0


class Scan(NamedTuple):
    """What a made scan is like: voxels, their size in mm, what is added to its HU."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    offset: int = 0


CT = Scan((512, 512, 40), (0.7, 0.7, 1.0))
MR = Scan((256, 256, 130), (0.9375, 0.9375, 1.2), HU_OF_MR)
SCANS = {
    "ggcl": {"B30f": CT, "B50f": CT, "B70f": CT},
    "kcgan_kernel_conversion": {"B30f": CT, "B50f": CT, "B70f": CT},
    "nect2cect": {"NECT": CT, "CECT": CT},
    "nec_t1t2": {"T1": MR, "T2": MR},
    "sr_cyclegan": {
        "clinical": Scan((512, 512, 24), (0.625, 0.625, 1.0)),
        "micro": Scan((1024, 1024, 16), (5 / 64, 5 / 64, 5 / 64), 20000),
    },
}
VOLUMES = {  # ids of a training's volumes
    "ggcl": ("train#volumes",),
    "kcgan_kernel_conversion": ("train#volumes",),
}
NO_FILES = {"train#trainer#output_dir": None, "train#trainer#models_dir": None, "train#trainer#definition": {}}
SPECIAL: dict[str, dict[str, Any]] = {"nect2cect": WITHOUT_STAGES}


def run(*, quick: bool = False, result: str | None = None, bundles: str | tuple[str, ...] = tuple(SCANS)) -> None:
    """Time loader and step of each bundle; print a table; write a JSON file.

    Args:
        quick: the demonstration's sizes only, and no file unless `result` names one.
        result: the JSON file; default `benchmarks/results/performance_data_loading.json`.
        bundles: names.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for bundle in [bundles] if isinstance(bundles, str) else bundles:
            scans = SCANS[bundle]
            data = make_scans(Path(folder, "data", "_".join(scans)), scans)
            for size in ("demo",) if quick else ("demo", "paper"):
                rows.append(measure(bundle, size, data, Path(folder, "cache")))
    print_table(rows)
    write_result(result_path("data_loading", result, quick=quick), {"items_per_pass": LOADED, "rows": rows})


def make_scans(folder: Path, scans: dict[str, Scan]) -> Path:
    """A data set of one patient: a body with two lungs, and noise; returns its folder."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for seed, (domain, scan) in enumerate(scans.items()):
            image = nib.Nifti1Image(_body(scan, seed), np.diag([*scan.spacing_mm, 1]))
            (folder / f"{domain}.nii.gz").write_bytes(gzip.compress(image.to_bytes(), compresslevel=3))
        entry = {"patient": "p0", **{domain: f"{domain}.nii.gz" for domain in scans}}
        lists = {name: [entry] for name in ("training", "training_paired")}
        (folder / "datalist.json").write_text(json.dumps(lists), encoding="utf-8")
    return folder


def measure(bundle: str, size: str, data: Path, cache: Path) -> dict[str, Any]:
    """A row of the table: items a second of loader and step, and their ratio."""
    settings = {"dataset_dir": str(data), "samples_per_epoch": LOADED}
    volumes = VOLUMES.get(bundle, ("train#source_volumes", "train#target_volumes"))

    def prepared(cache_dir: str | None) -> float:
        parser = parsed(bundle, size, cache_dir=cache_dir, **settings)
        return _seconds(lambda: [parser.get_parsed_content(name) for name in volumes])

    without = prepared(None)
    prepared(str(cache))
    warm = prepared(str(cache))
    loader = loader_rate(bundle, size, cache_dir=str(cache), **settings)
    step = step_rate(bundle, size, cache_dir=str(cache), dataset_dir=str(data))
    return {
        "bundle": bundle,
        "size": size,
        "prepared_s": without,
        "prepared_from_cache_s": warm,
        "loader_items_per_s": loader,
        "step_items_per_s": step,
        "ratio": loader / step,
    }


def loader_rate(bundle: str, size: str, **settings: Any) -> float:
    """Items a second that the loader gives, in the training's own process."""
    loader = parsed(bundle, size, **settings).get_parsed_content("train#dataloader")

    def items() -> int:
        return sum(len(next(iter(batch.values()))) for batch in loader)

    count = items()  # untimed: touches the pages of the cache
    return count / statistics.median(_seconds(items) for _ in range(PASSES))


def step_rate(bundle: str, size: str, **settings: Any) -> float:
    """Items a second that a training consumes, without the time that it waits for them."""
    parser = parsed(bundle, size, **settings)
    cycle = int(parser.config.get("critic_steps", 1))
    turns = min(cycle, 2)  # an iteration without and one with the generator's update tell what a cycle takes
    if turns < cycle:
        parser["critic_steps"] = turns
    batch_size = parser.get_parsed_content("batch_size")
    parser["samples_per_epoch"] = batch_size * turns * (DEMO_CYCLES if size == "demo" else 1)
    trainer = parser.get_parsed_content("train#trainer")
    times: list[float] = []
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: times.append(-_now()))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: times.append(times.pop() + _now()))
    trainer.run()
    timed = times[turns:] or times
    first, last = (statistics.median(timed[place::turns]) for place in (0, turns - 1))
    return batch_size * cycle / ((cycle - 1) * first + last)


def parsed(bundle: str, size: str, **settings: Any) -> ConfigParser:
    """A bundle's configuration for a training of one epoch that writes and validates nothing."""
    root = ROOT / "bundles" / bundle
    parser = ConfigParser()
    parser.read_config([root / "configs" / name for name in ("train.yaml", "demo.yaml")[: 2 if size == "demo" else 1]])
    own = {"bundle_root": str(root), "max_epochs": 1, "train#trainer#validator": None, "train#trainer#progress": False}
    for id_, value in {**own, **NO_FILES, **SPECIAL.get(bundle, {}), **settings}.items():
        parser[id_] = value
    return parser


def _body(scan: Scan, seed: int) -> np.ndarray:
    x, y = (np.linspace(-1, 1, side, dtype=np.float32) for side in scan.shape[:2])
    body = (x[:, None] / 0.85) ** 2 + (y / 0.65) ** 2 < 1
    lungs = ((np.abs(x[:, None]) - 0.4) / 0.3) ** 2 + (y / 0.45) ** 2 < 1
    slice_hu = np.select([lungs, body], [-850, 40], -1000)[..., None]
    noise = np.random.default_rng(seed).normal(0, 20, scan.shape)
    return np.rint(slice_hu + noise + scan.offset).astype(np.int16)


def _seconds(work: Callable[[], Any]) -> float:
    start = _now()
    work()
    return _now() - start


def _now() -> float:
    wait_for_device()
    return time.perf_counter()


if __name__ == "__main__":
    fire.Fire(run)
