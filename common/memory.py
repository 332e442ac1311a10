"""Memory that a process keeps for its next layer, instead of handing it back and asking for it again."""

from __future__ import annotations

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT = 2**30  # bytes; larger blocks still go back at once
OWN_CHOICES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_memory() -> bool:
    """
    Lets this process keep freed blocks of up to 1 GiB; tells whether it does.

    glibc returns blocks above 32 MB to the system as soon as they are freed. A layer's output is such a block, which
    the system must then clear anew for each layer: a third of the time of a GGCL training on a CPU
    (docs/performance.md). What is kept may lie between blocks that are in use, so that the peak of the memory can grow.

    Nothing happens on other systems, and where the environment says how memory is allocated.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in OWN_CHOICES):
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(M_MMAP_THRESHOLD, KEPT)) and bool(library.mallopt(M_TRIM_THRESHOLD, -1))
