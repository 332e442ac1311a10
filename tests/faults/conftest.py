"""Counts of the faults that were tried and survived; `FAULTS_RESULTS=FILE make test-faults` writes them down."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_counts: dict[str, dict[str, int]] = {}


@pytest.fixture
def survived(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Called at the end of a test, with the fault and the number of tries, all of which must have been survived."""

    def count(fault: str, tries: int) -> None:
        record_property("fault", [fault, tries])

    return count


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the process that reports, to which pytest-xdist hands the properties of all."""
    if report.when == "call" and report.passed:
        for name, value in report.user_properties:
            if name == "fault":
                fault, tries = value
                entry = _counts.setdefault(str(fault), {"tried": 0, "survived": 0})
                entry["tried"] += tries
                entry["survived"] += tries


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run with a failure writes nothing."""
    file = os.environ.get("FAULTS_RESULTS")
    if file and exitstatus == 0 and _counts and not hasattr(session.config, "workerinput"):
        total: dict[str, Any] = {key: sum(entry[key] for entry in _counts.values()) for key in ("tried", "survived")}
        total["faults"] = dict(sorted(_counts.items()))
        Path(file).write_text(json.dumps(total, indent=2) + "\n")
