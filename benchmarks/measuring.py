"""What the benchmarks of speed share: interleaved timing, peaks of memory and arithmetic, tables, result files."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from common.devices import accelerator_name
from common.memory import peak_memory_mb as own_peak_mb
from common.processes import worker_pool

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MATRIX = 2048  # of the product that measures the machine's peak


def interleaved(
    candidates: Mapping[str, Callable[[], Any]], *, repeats: int = 5, warm_up: int = 1
) -> dict[str, dict[str, float]]:
    """
    Time some candidates in turn, so that what else the machine does meets all of them alike.

    Args:
        candidates: what to call, by name.
        repeats: timed calls of each.
        warm_up: untimed calls of each before.

    Returns:
        by name: `seconds`, the median of the calls; `fastest` and `slowest`.
    """
    for _ in range(warm_up):
        for call in candidates.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            wait_for_device()
            times[name].append(time.perf_counter() - start)
    return {
        name: {"seconds": statistics.median(found), "fastest": min(found), "slowest": max(found)}
        for name, found in times.items()
    }


def peak_memory_mb(work: Callable[..., Any], *arguments: Any) -> float:
    """
    The peak of the resident memory of a fresh process in which `work(*arguments)` runs, in MB.

    Args:
        work: a function of a module, with arguments that can be pickled.
    """
    with worker_pool(1) as process:
        return process.submit(_measured, work, *arguments).result()


def peak_gflops(dtype: torch.dtype = torch.float32, *, repeats: int = 7) -> float:
    """The arithmetic that this machine's matrix product reaches, in GFLOP/s: what an ideal network would reach."""
    left, right = (torch.randn(MATRIX, MATRIX).to(dtype) for _ in range(2))
    best = min(interleaved({"product": lambda: left @ right}, repeats=repeats)["product"].values())
    return 2 * MATRIX**3 / best / 1e9


def machine() -> dict[str, Any]:
    """What the numbers belong to, without a name of the machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": accelerator_name(),
        "torch": torch.__version__,
        "commit": _commit(),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as a Markdown table."""
    names = list(rows[0])
    return "\n".join([_line(names), _line("---" for _ in names), *(_line(map(_cell, row.values())) for row in rows)])


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of equal keys as a Markdown table."""
    print(table(rows))


def write_result(path: str | Path | None, content: Mapping[str, Any]) -> None:
    """Write a file of results: the numbers and the machine; nothing when `path` is None."""
    if path is None:
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(
        json.dumps({"machine": machine(), **content}, indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )
    print(f"written: {path}")


def result_path(name: str, result: str | None, *, quick: bool) -> Path | None:
    """Where a benchmark's results go: as told, else its committed file, which a quick run leaves alone."""
    if result is not None:
        return Path(result)
    return None if quick else RESULTS / f"performance_{name}.json"


def _measured(work: Callable[..., Any], *arguments: Any) -> float:
    work(*arguments)
    return own_peak_mb()


def wait_for_device() -> None:
    """Wait until the accelerator, if there is one, has done all that it was given."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):  # what was measured must not be lost for want of this
        return "unknown"
    return done.stdout.strip() or "unknown"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
