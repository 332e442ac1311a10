"""
What a start of the command line costs: imports, by `python -X importtime`; the first voxel; the share of the checks.

    python benchmarks/start_up.py [--real_data FOLDER] [--result PATH]

Of the imports, numbers of modules and shares of the time are shown. Times are processor seconds of one thread, which
other work on the machine changes little. With `--real_data`, each bundle translates a real scan, guards as warnings.
"""

from __future__ import annotations

import logging
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fire
from measuring import ROOT, print_table, result_path, write_result

from common.processes import run_child, worker_pool

LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
SHOWN = 0.02  # share of the time from which a package has its own row
REAL = {  # a scan for each bundle, and options
    "ggcl": ("chest_ct/rider_pilot_0117_STANDARD_40slices.nii.gz", {"source": "B30f", "target": "B70f"}),
    "kcgan_kernel_conversion": ("chest_ct/rider_pilot_0117_STANDARD_40slices.nii.gz", {"source": "B30f"}),
    "nect2cect": ("abdomen_ct/totalseg_example_ct_noncontrast_3mm.nii.gz", {}),
    "nec_t1t2": ("brain_mri/openms_cross07_T1.nii.gz", {}),
    "sr_cyclegan": ("chest_ct/lidc_idri_0314_native_40slices.nii.gz", {"slab": [18, 20]}),
}
SCAN = ROOT / "tests" / "bundles" / "golden" / "nec_t1t2_source.nii.gz"


def imports(arguments: list[str]) -> tuple[Counter[str], Counter[str]]:
    """
    Numbers of modules and their own import time in microseconds, by package, of `python -m common`.

    Args:
        arguments: of the command line.
    """
    command = [sys.executable, "-X", "importtime", "-m", "common", *arguments]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.txt")
        if code := run_child(command, log=log, folder=ROOT):
            raise SystemExit(f"{command} ended with exit code {code}.\n{log.read_text(encoding='utf-8')}")
        lines = LINE.findall(log.read_text(encoding="utf-8"))
    numbers: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for spent, name in lines:
        package = name.partition(".")[0]
        numbers[package] += 1
        times[package] += int(spent)
    return numbers, times


def rows(name: str, arguments: list[str]) -> list[dict[str, Any]]:
    """A row for each large package, and one for all."""
    numbers, times = imports(arguments)
    total = sum(times.values())
    large = [package for package, time in times.most_common() if time >= SHOWN * total]
    shown = [(package, numbers[package], times[package] / total) for package in large]
    return [
        {"command": name, "package": package, "modules": number, "share of the import time": share}
        for package, number, share in [*shown, ("all", sum(numbers.values()), 1.0)]
    ]


def help_seconds() -> float:
    """Processor seconds of `python -m common --help`, interpreter included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        run_child([sys.executable, "-m", "common", "--help"], log=Path(folder, "log.txt"), folder=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Watch:
    """Processor seconds that calls took, by name, each in its own thread, and those before the first call of a name."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self.first: dict[str, tuple[float, float]] = {}

    def over(self, owner: type, method: str, name: str) -> None:
        """Watch a method of a class from now on."""
        watched: Callable[..., Any] = getattr(owner, method)

        def call(*arguments: Any, **options: Any) -> Any:
            self.first.setdefault(name, (time.process_time(), self.spent["network"]))
            start = time.thread_time()
            try:
                return watched(*arguments, **options)
            finally:
                self.spent[name] += time.thread_time() - start

        setattr(owner, method, call)


def translated(bundle: str, scan: str, options: dict[str, Any]) -> dict[str, float]:
    """
    Translate a scan in this process, whose seconds are counted from its start.

    Args:
        bundle: its folder's name.
        scan: the file.
        options: ids of `inference.yaml`.
    """
    logging.disable(logging.WARNING)
    import torch

    import common
    from common import networks
    from common.images import NiftiSliceWriter
    from common.inference import OutputCheck
    from common.inference.output_check import PairedSlices
    from common.networks.definition import network_class, read_definition
    from common.transforms import Guards

    torch.set_num_threads(1)
    watch = Watch()
    definition = read_definition(ROOT / "bundles" / bundle)
    outer = networks.WithTarget if "source" in options else network_class(definition["class"])
    watch.over(outer, "forward", "network")
    watch.over(Guards, "__call__", "guards")
    watch.over(OutputCheck, "__call__", "output")
    watch.over(PairedSlices, "add", "slices")
    watch.over(NiftiSliceWriter, "write", "writing")
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        given = {"guards": "warn", "device": "cpu", **options}
        common.translate(scan, bundle=ROOT / "bundles" / bundle, output_dir=folder, **given)
    whole = time.process_time()
    checks = sum(watch.spent[name] for name in ("guards", "output", "slices"))
    first, network = watch.first["writing"]
    row = {"first_voxel": first, "on_two_cores": first - network / 2, "whole": whole, "network": watch.spent["network"]}
    return row | {"checks": checks, "share_of_whole": checks / whole, "without_start": checks / (whole - start)}


def real(folder: str | Path) -> list[dict[str, Any]]:
    """A row for each bundle, each in a process of its own."""
    found = []
    for bundle, (name, options) in REAL.items():
        with worker_pool(1) as process:
            row = process.submit(translated, bundle, str(Path(folder, name)), options).result()
        found.append({"bundle": bundle, "scan": Path(name).name, **row})
        print(found[-1], flush=True)
    return found


def main(result: str | None = None, real_data: str | None = None) -> None:
    """
    Args:
        result: the JSON file; default: `benchmarks/results/performance_start_up.json`.
        real_data: folder of the real scans, of which each bundle translates one; default: none is translated.
    """
    with tempfile.TemporaryDirectory() as folder:
        places = ["--bundle", str(ROOT / "bundles" / "nec_t1t2"), "--output_dir", folder, "--guards", "warn"]
        found = rows("--help", ["--help"])[-1:] + rows("translate", ["translate", str(SCAN), *places])
    print_table(found)
    content = {"quick": False, "help_cpu_seconds": help_seconds(), "rows": found}
    scans = [] if real_data is None else real(real_data)
    write_result(result_path("start_up", result, quick=False), {**content, "real": scans})


if __name__ == "__main__":
    fire.Fire(main)
