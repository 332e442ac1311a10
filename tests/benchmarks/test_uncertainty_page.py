"""docs/uncertainty.md shows the committed results, and the shipped calibrations belong to the shipped weights."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from common.uncertainty import FILE, Uncertainty
from tests.helpers.commands import ROOT

RESULTS = sorted((ROOT / "benchmarks" / "results").glob("uncertainty_*.json"))
SHIPPED = sorted(path.parents[1].name for path in (ROOT / "bundles").glob(f"*/models/{FILE}"))


@pytest.mark.parametrize("verb", ["coverage", "structures", "gate", "surprises"])
def test_the_tables_of_the_page_come_from_the_committed_results(verb):
    command = [sys.executable, "benchmarks/uncertainty.py", verb]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    page = (ROOT / "docs" / "uncertainty.md").read_text()
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) > len(RESULTS)
    assert [row for row in rows if row not in page] == []


def test_each_shipped_calibration_has_a_result_and_each_result_a_calibration():
    assert [path.stem.removeprefix("uncertainty_") for path in RESULTS] == SHIPPED


@pytest.mark.parametrize("bundle", SHIPPED)
def test_a_shipped_calibration_belongs_to_the_shipped_weights(bundle):
    known = Uncertainty(ROOT / "bundles" / bundle / "models")
    result = json.loads((ROOT / "benchmarks" / "results" / f"uncertainty_{bundle}.json").read_text())
    assert result["weights_sha256"] == known.content["weights_sha256"]
    assert result["gate"]["passed"] == known.content["gate"]["passed"]
