"""Blocks that are freed and asked for again: with `keep_memory` the system does not have to provide them anew."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from common.memory import keep_memory

FAULTS_OF_BLOCKS = """
import resource, sys
import torch
from common.memory import keep_memory
if sys.argv[1] == "kept":
    assert keep_memory()
for number in range(40):
    if number == 30:  # by then it has found its places
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = torch.empty(2**26, dtype=torch.uint8).fill_(1)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


@glibc
def test_a_block_of_a_layers_size_is_not_asked_for_again(monkeypatch):
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    returned, kept = (page_faults(how) for how in ("returned", "kept"))
    assert returned >= 10 * 32  # pages of 2 MB, at least
    assert kept < returned / 4


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS_OF_BLOCKS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_what_the_environment_says_of_memory_is_left_alone(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1")
    assert not keep_memory()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert not keep_memory()
