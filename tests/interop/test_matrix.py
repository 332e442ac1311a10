"""Every row of the README's table of programs is backed by tests that exist, for each bundle."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from .conftest import BUNDLES, ROOT

pytestmark = pytest.mark.interop

PAGE = (ROOT / "README.md").read_text().split("## Where the bundles run")[1].split("\n## ")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")][2:]
PLACES = ["tests/interop", "tests/test_translation.py"]
PLACES += ["tests/bundles/test_monai_algo.py", "tests/bundles/test_workflows.py"]
NOT_PER_BUNDLE = ("test_federated.py",)


def test_the_table_tells_stock_loaders_from_adapters():
    assert len(ROWS) >= 9
    assert {row[1] for row in ROWS} == {"stock", "adapter", "ours"}
    assert len({row[0] for row in ROWS}) == len(ROWS)


@pytest.fixture(scope="module")
def collected() -> str:
    """The names of all tests, as pytest lists them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-m", "", *PLACES]  # pyproject.toml adds -q
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200).stdout


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_named_tests_exist_for_each_bundle(row, collected):
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row[3])
    assert named
    for file, function in named:
        assert f"{file}::{function}" in collected
        for bundle in () if file in NOT_PER_BUNDLE else BUNDLES:
            assert re.search(rf"{file}::{function}\[[^\]]*{bundle}", collected), (function, bundle)
