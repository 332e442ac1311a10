"""One thread per test process, and a count of what was skipped for want of data beside the project.

With several threads, OpenMP's busy waiting makes a shared machine up to 50 times slower.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start

import psutil
import pytest
import torch

from tests.helpers.shared import SHARED, VARIABLE, WANT

torch.set_num_threads(1)

KILLED: list[str] = []  # tests whose worker process ended

collect_ignore = [
    "helpers/absent",  # to import its module for doctests would take Linux from this process
    "interop/stock_deploy.py",  # a program of MONAI Deploy's environment
]


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: pytest.TestReport, sched: Any) -> None:
    """Run a test once more whose process was killed, for want of memory for instance; the second time it fails.

    xdist's `worksteal` can do so; its `loadscope` and `loadfile` wait forever for the tests of a worker that is gone.
    """
    if crashitem not in KILLED and type(sched).__name__ == "WorkStealingScheduling":
        sched.mark_test_pending(crashitem)
        report.outcome = "rerun"  # type: ignore[assignment]
    KILLED.append(crashitem)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests lost their process, and how many were skipped for want of data beside the project."""
    for test in KILLED:
        left = psutil.virtual_memory().available / 1e9
        terminalreporter.write_line(f"The process of {test} was killed; {left:.1f} GB of memory are free now.")
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    if count := sum(WANT in reason for reason in reasons):
        where = f"looked for in {SHARED} ({VARIABLE})"
        terminalreporter.write_line(f"{count} tests were skipped for want of data beside the project, {where}.")


@pytest.fixture(autouse=True)
def _reserved_folders_are_given_back() -> Iterator[None]:
    """Another test process may need the folders that the preflight of a bundle reserved for this one."""
    yield
    if files := sys.modules.get("common.files"):
        files.release_claims()
