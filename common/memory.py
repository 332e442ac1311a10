"""Available and peak memory, and the reuse of freed blocks."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

import psutil

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = 2**30  # bytes; larger blocks are still returned at once
OWN_CHOICES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
STATUS = Path("/proc/self/status")


def keep_memory() -> bool:
    """Let this process keep freed blocks of up to 1 GiB.

    glibc returns blocks above 32 MB to the system as soon as they are freed. A layer's output is such a block, which
    the system must then clear again for each layer: a third of the time of a GGCL training on a CPU
    (docs/performance.md). Kept blocks may lie between blocks in use, so that peak memory can grow.

    Nothing happens on other systems, or if the environment configures memory allocation.

    Returns:
        Whether blocks are kept.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in OWN_CHOICES):
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(M_MMAP_THRESHOLD, KEPT)) and bool(library.mallopt(M_TRIM_THRESHOLD, -1))


def available_memory() -> int | None:
    """Return the memory that a process can still get, in bytes; None if the system does not say."""
    try:
        return int(psutil.virtual_memory().available)
    except (psutil.Error, OSError):
        return None


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process in MiB, or the present one where the system records no peak.

    Linux's own number is read, as `getrusage` there also counts what the parent had at the fork. macOS gives bytes
    where other systems give KiB.

    Example:
        >>> peak_memory_mb() >= 0.99 * psutil.Process().memory_info().rss / 2**20
        True
    """
    try:
        lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        memory = psutil.Process().memory_info()
        return float(getattr(memory, "peak_wset", memory.rss)) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)
