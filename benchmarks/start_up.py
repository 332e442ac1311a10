"""
What a start of the command line imports: the help, and a translation up to its end, by `python -X importtime`.

    python benchmarks/start_up.py [--result PATH]

Numbers of modules and shares of the import time are shown, as the seconds depend on what else the machine does.
"""

from __future__ import annotations

import re
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
    for time, name in lines:
        package = name.partition(".")[0]
        numbers[package] += 1
        times[package] += int(time)
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


def main(result: str | None = None) -> None:
    """
    Args:
        result: the JSON file; default: `benchmarks/results/performance_start_up.json`.
    """
    with tempfile.TemporaryDirectory() as folder:
        places = ["--bundle", str(ROOT / "bundles" / "nec_t1t2"), "--output_dir", folder, "--guards", "warn"]
        found = rows("--help", ["--help"])[-1:] + rows("translate", ["translate", str(SCAN), *places])
    print_table(found)
    write_result(result_path("start_up", result, quick=False), {"quick": False, "rows": found})


if __name__ == "__main__":
    fire.Fire(main)
