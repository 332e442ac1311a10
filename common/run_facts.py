"""Facts of a run: command, versions, machine, time and memory."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ignite
import monai
import numpy as np
import torch
from torch import nn

from .devices import accelerator_name, peak_accelerator_memory_mb
from .memory import peak_memory_mb

START = time.time()


def run_facts(*, bundle_root: str | Path, network: nn.Module | None = None, **more: Any) -> dict[str, Any]:
    """Collect versions, command, time and memory of this process for `run.json` and the report.

    Args:
        bundle_root: The bundle's folder.
        network: Network whose class and size are recorded.
        more: Further facts, such as `seed` or `device`.
    """
    facts: dict[str, Any] = {
        "bundle": Path(bundle_root).resolve().name,
        "command": " ".join(_relative(argument) for argument in sys.argv),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.time() - START, 1),
        "peak_memory_mb": round(peak_memory_mb()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "ignite": ignite.__version__,
        "numpy": np.__version__,
        "commit": _commit(Path(bundle_root)),
    }
    if network is not None:
        facts["network"] = type(network).__name__
        facts["parameters"] = sum(p.numel() for p in network.parameters())
    if (name := accelerator_name()) is not None:
        facts["gpu"] = name
    if (peak := peak_accelerator_memory_mb()) is not None:
        facts["peak_gpu_memory_mb"] = peak
    return {**facts, **more}


def _relative(argument: str) -> str:
    """Shorten absolute paths, which do not belong in a file that is passed on, to their last three parts."""
    parts = Path(argument).parts
    return str(Path(*parts[-3:])) if Path(argument).is_absolute() and len(parts) > 3 else argument


def _commit(folder: Path) -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
