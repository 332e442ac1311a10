"""
Start of a training on a long datalist: seconds until the first batch is drawn, peak of memory, opened images.

    python benchmarks/many_entries.py [--numbers 100,10000,100000] [--bundles ggcl,nec_t1t2] [--quick] [--result PATH]

Each start is a process of its own: interpreter, imports, the checks of the datalist, all fits before the training, and
the first batch of `train.yaml` with `compact.yaml`. The images are tiny and share their voxels on the disk (hard
links), so that what is measured grows with their number and not with their size. Rows join those that the file holds.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
from measuring import ROOT, print_table, result_path, write_result

from common.processes import run_child

NUMBERS = (100, 10_000, 100_000)
LINKS = 10_000  # names of one file, of which a file system has a limit
VALIDATION = 4  # patients

Scan = tuple[tuple[int, int, int], tuple[float, float, float], float]  # voxels, mm, added to the HU
CT: Scan = ((64, 64, 6), (0.7, 0.7, 1.0), 0)
MR: Scan = ((64, 64, 6), (1.0, 1.0, 1.0), 1100)
SCANS: dict[str, dict[str, Scan]] = {
    "ggcl": {"B30f": CT, "B50f": CT, "B70f": CT},
    "kcgan_kernel_conversion": {"B30f": CT, "B50f": CT, "B70f": CT},
    "nect2cect": {"NECT": CT, "CECT": CT},
    "nec_t1t2": {"T1": MR, "T2": MR},
    "sr_cyclegan": {
        "clinical": ((24, 24, 6), (0.625, 0.625, 1.0), 0),
        "micro": ((144, 144, 4), (5 / 64, 5 / 64, 5 / 64), 20000),
    },
}
PAIRED = ("nect2cect",)  # an entry is a patient with both images


def make_data(folder: Path, scans: dict[str, Scan], number: int, *, paired: bool = False) -> Path:
    """
    Write so many entries of a training, each an image of the next domain or a pair, and a few of a validation.

    Args:
        folder: where to.
        scans: what an image of each domain is like.
        number: of entries.
        paired: whether an entry is a pair.
    """
    images = folder / "images"
    images.mkdir(parents=True)
    training = "training_paired" if paired else "training"
    lists: dict[str, list[dict[str, str]]] = {training: [], "validation": []}
    originals: dict[str, Path] = {}
    for n in range(number + VALIDATION * len(scans)):
        entry = {"patient": f"p{n}"}
        for domain in scans if paired else [list(scans)[n % len(scans)]]:
            path = images / f"{domain}_{n}.nii"
            if domain not in originals or n % LINKS == 0:
                originals[domain] = path
                _write(path, scans[domain], seed=n)
            else:
                os.link(originals[domain], path)
            entry |= {domain: f"images/{path.name}"} if paired else {"image": f"images/{path.name}", "domain": domain}
        lists[training if n < number else "validation"].append(entry)
    (folder / "datalist.json").write_text(json.dumps(lists), encoding="utf-8")
    return folder


def _write(path: Path, scan: Scan, seed: int) -> None:
    shape, spacing, added = scan
    rng = np.random.default_rng(seed)
    x, y = (np.linspace(-1, 1, side)[:, None, None] for side in shape[:2])
    inside = x**2 + y.swapaxes(0, 1) ** 2 < 0.8
    values = np.where(inside, 40.0, -1000.0) + rng.normal(0, 20, shape) + added
    nib.save(nib.Nifti1Image(np.rint(values).astype(np.int16), np.diag([*spacing, 1])), path)


def measured(bundle: str, number: int, folder: Path) -> dict[str, Any]:
    """A row of the table: one start."""
    data = make_data(folder / "data", SCANS[bundle], number, paired=bundle in PAIRED)
    command = [sys.executable, str(ROOT / "benchmarks" / "first_batch.py"), bundle, str(data), str(folder / "out")]
    log = folder / "log.txt"
    before, begin = _processor_seconds(), time.perf_counter()
    code = run_child(command, log=log, folder=ROOT)
    seconds, spent = time.perf_counter() - begin, _processor_seconds() - before
    lines = log.read_text(encoding="utf-8").splitlines()
    if code:
        raise SystemExit("\n".join(lines))
    found = json.loads(next(line for line in reversed(lines) if line.startswith("{")))
    return {"bundle": bundle, "entries": number, "seconds": seconds, "cpu_seconds": spent, **found}


def _processor_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def main(
    quick: bool = False,
    result: str | None = None,
    numbers: tuple[int, ...] = NUMBERS,
    bundles: str | tuple[str, ...] = tuple(SCANS),
) -> None:
    """
    Args:
        quick: one short list for each bundle; nothing is written unless `result` is given.
        result: the JSON file; default: `benchmarks/results/performance_entries.json`.
        numbers: of entries.
        bundles: names.
    """
    path = result_path("entries", result, quick=quick)
    earlier = json.loads(path.read_text(encoding="utf-8"))["rows"] if path is not None and path.is_file() else []
    rows = []
    for bundle in [bundles] if isinstance(bundles, str) else bundles:
        for number in (20,) if quick else numbers:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measured(bundle, number, Path(folder)))
            print(rows[-1], flush=True)
    print_table(rows)
    merged = {(row["bundle"], row["entries"]): row for row in [*earlier, *rows]}
    order = sorted(merged.values(), key=lambda row: (list(SCANS).index(row["bundle"]), row["entries"]))
    write_result(path, {"quick": quick, "load": os.getloadavg()[1], "rows": order})


if __name__ == "__main__":
    fire.Fire(main)
