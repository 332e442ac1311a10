"""Run `python -m monai.bundle ARGUMENTS` in this process and write how much memory it took.

    python -m common.leaderboard.measured FILE run training --config_file ...

FILE gets the peak memory of the process and, on a GPU, the peak that torch allocated there, in MB. For a training that
was interrupted and continued, it keeps the larger value.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

from ..devices import peak_accelerator_memory_mb
from ..files import write_json
from ..memory import peak_memory_mb


def main() -> None:
    """Take FILE off the arguments and hand the others on."""
    path = Path(sys.argv[1])
    sys.argv = ["monai.bundle", *sys.argv[2:]]
    try:
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    finally:
        peaks = {"peak_memory_mb": round(peak_memory_mb())}
        if (peak := peak_accelerator_memory_mb()) is not None:
            peaks["peak_gpu_memory_mb"] = peak
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        write_json(path, {name: max(value, earlier.get(name, 0)) for name, value in peaks.items()})


if __name__ == "__main__":
    main()
