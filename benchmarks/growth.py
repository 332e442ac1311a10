"""
How work grows with the number of files: operations on the disk and processor time, at two numbers of files.

    python benchmarks/growth.py [--numbers 1000,10000] [--quick] [--result PATH]

Opened files and listed folders are counted by Python's audit events. The processor time does not contain waiting.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from measuring import print_table, result_path, write_result
from monai.transforms import Compose

from common.data import VolumeCache, load_datalist, load_domain
from common.data.datalist import describe, label_names
from common.data.inference_images import common_folder, find_images
from common.files import Staging, checksum, write_json
from common.images import NiftiSliceWriter
from common.inference import cases_to_do
from common.inference.sidecar import RunRecord

EVENTS = {"open": "opened", "os.scandir": "listed", "os.listdir": "listed"}
NUMBERS = (1_000, 10_000)
MOST_CACHED = 1_000
_counts: dict[str, int] | None = None


def _count(event: str, arguments: Any) -> None:
    if _counts is not None and event in EVENTS:
        _counts[EVENTS[event]] += 1


def measured(work: Callable[[], Any]) -> dict[str, float]:
    """Operations of a call and its processor time in s."""
    global _counts
    _counts = {"opened": 0, "listed": 0}
    start = time.process_time()
    try:
        work()
        return {**_counts, "CPU s": time.process_time() - start}
    finally:
        _counts = None


def rows(number: int) -> list[dict[str, Any]]:
    """What each part of the work takes with so many files."""
    with tempfile.TemporaryDirectory() as folder:
        images, out = Path(folder, "images"), Path(folder, "out")
        _write_images(images, number)
        found: list[Any] = []
        kinds = {
            "list a folder": lambda: found.extend(find_images(images)),
            "read a datalist as a training does": lambda: _read_datalist(images),
            "write an output each": lambda: _write_outputs(out, number),
        }
        result = [{"work": name, "files": number, **measured(work)} for name, work in kinds.items()]
        record = RunRecord(folder, folder, network=torch.nn.Identity(), target="T2", guards="off")
        _finish(found, record, out)
        left: list[Any] = []

        def skip() -> None:
            left.extend(cases_to_do(found, record, output_dir=out, output_format="nifti", skip_done=True))

        result.append({"work": "skip what is done", "files": number, **measured(skip)})
        assert len(found) == number
        assert not left
        if number <= MOST_CACHED:
            result.append({"work": "fill a cache", "files": number, **measured(lambda: _fill(images, folder))})
    return result


def _write_images(folder: Path, number: int) -> None:
    first = folder / "0.nii"
    with NiftiSliceWriter(first, (2, 2, 2), np.eye(4)) as writer:
        writer.write(np.arange(8, dtype=np.int16).reshape(2, 2, 2))
    content = first.read_bytes()
    for n in range(1, number):
        (folder / f"{n}.nii").write_bytes(content)
    entries = [{"image": f"{n}.nii", "patient": f"p{n}", "domain": "T1" if n % 2 else "T2"} for n in range(number)]
    write_json(folder.parent / "lists" / "datalist.json", {"training": entries, "validation": entries[:0]})
    for entry in entries:
        entry["image"] = f"../images/{entry['image']}"
    write_json(folder.parent / "lists" / "datalist.json", {"training": entries})


def _read_datalist(images: Path) -> None:
    folder = images.parent / "lists"
    for domain in ("T1", "T2"):
        load_domain(folder, "training", domain)
    load_datalist(folder, "training")
    describe(folder)
    label_names(folder)


def _write_outputs(out: Path, number: int) -> None:
    for n in range(number):
        with Staging(out) as staging:
            path = staging.place(out / f"{n}_synthetic_T2.nii.gz")
            path.write_bytes(b"voxels")
            staging.publish([path])


def _finish(images: list[dict[str, Any]], record: RunRecord, out: Path) -> None:
    root = Path(common_folder(images))
    for item in images:
        name = f"{Path(item['image']).relative_to(root).stem}_synthetic_T2"
        file = out / f"{name}.nii.gz"
        facts = {**record.identity(), "output": [{"file": file.name, "sha256": checksum(file)}]}
        (out / f"{name}.json").write_text(json.dumps(facts), encoding="utf-8")


def _fill(images: Path, folder: str) -> None:
    cache = VolumeCache(Path(folder, "cache"))
    for path in sorted(images.glob("*.nii")):
        cache.get(path, Compose([]), _arranged)


def _arranged(item: dict[str, Any]) -> dict[str, Any]:
    return {"image": torch.zeros(8)}


def main(quick: bool = False, result: str | None = None, numbers: tuple[int, ...] = NUMBERS) -> None:
    """
    Args:
        quick: few files; nothing is written unless `result` is given.
        result: the JSON file; default: `benchmarks/results/performance_growth.json`.
        numbers: of files.
    """
    sys.addaudithook(_count)
    found = [row for number in ((10, 20) if quick else numbers) for row in rows(number)]
    for row in found:
        row |= {f"{name} a file": row[name] / row["files"] for name in ("opened", "listed")}
    found.sort(key=lambda row: (row["work"], row["files"]))
    print_table(found)
    write_result(result_path("growth", result, quick=quick), {"quick": quick, "rows": found})


if __name__ == "__main__":
    fire.Fire(main)
