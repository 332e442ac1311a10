"""One thread per test process, and a count of what was skipped for want of data beside the project.

With several threads, OpenMP's busy waiting makes a shared machine up to 50 times slower.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start

import pytest
import torch

from tests.helpers.shared import SHARED, VARIABLE, WANT

torch.set_num_threads(1)

collect_ignore = [
    "helpers/absent",  # to import its module for doctests would take Linux from this process
    "interop/stock_deploy.py",  # a program of MONAI Deploy's environment
]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped for want of data beside the project, and where these are looked for."""
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
