"""
What a start of the command line costs: imports, by `python -X importtime`; the first voxel; the share of the checks.

    python benchmarks/start_up.py [--real_data FOLDER] [--result PATH]

Of the imports, numbers of modules and shares of the time are shown. Times are processor seconds of one thread, which
other work on the machine changes little. With `--real_data`, each bundle translates a real scan, guards as warnings.
"""

from __future__ import annotations

import compileall
import json
import os
import re
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import fire
from measuring import ROOT, print_table, result_path, write_result

from common.processes import run_child

LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
SHOWN = 0.02  # share of the time from which a package has its own row
REPEATS = 3
REAL: dict[str, tuple[str, dict[str, Any]]] = {  # a scan for each bundle, and options
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


def real(folder: str | Path) -> list[dict[str, Any]]:
    """A row for each bundle, each in a process of its own; of three runs, the one with the median first voxel."""
    runs: dict[str, list[dict[str, Any]]] = {bundle: [] for bundle in REAL}
    for _ in range(REPEATS):
        for bundle, (name, options) in REAL.items():
            scan = str(Path(folder, name))
            with tempfile.TemporaryDirectory() as log:
                command = [
                    sys.executable,
                    str(ROOT / "benchmarks" / "first_voxel.py"),
                    bundle,
                    scan,
                    json.dumps(options),
                ]
                code = run_child(command, log=Path(log, "log.txt"), folder=ROOT)
                lines = Path(log, "log.txt").read_text(encoding="utf-8")
            if code:
                raise SystemExit(f"{command} ended with exit code {code}.\n{lines}")
            found = next(line for line in lines.splitlines() if line.startswith("{"))
            runs[bundle].append({"bundle": bundle, "scan": Path(name).name, **json.loads(found)})
            print(runs[bundle][-1], flush=True)
    return [sorted(rows, key=lambda row: float(row["first_voxel"]))[REPEATS // 2] for rows in runs.values()]


def main(result: str | None = None, real_data: str | None = None) -> None:
    """
    Args:
        result: the JSON file; default: `benchmarks/results/performance_start_up.json`.
        real_data: folder of the real scans, of which each bundle translates one; default: none is translated.
    """
    compileall.compile_dir(ROOT / "common", quiet=1)  # as on a user's machine from the second start on
    with tempfile.TemporaryDirectory() as folder:
        places = ["--bundle", str(ROOT / "bundles" / "nec_t1t2"), "--output_dir", folder, "--guards", "warn"]
        found = rows("--help", ["--help"])[-1:] + rows("translate", ["translate", str(SCAN), *places])
    print_table(found)
    content = {"quick": False, "load": os.getloadavg()[1], "help_cpu_seconds": help_seconds(), "rows": found}
    scans = [] if real_data is None else real(real_data)
    write_result(result_path("start_up", result, quick=False), {**content, "real": scans})


if __name__ == "__main__":
    fire.Fire(main)
