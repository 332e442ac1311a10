"""Every cell of the README's table of bundles and consumers is backed by a test that exists, with that bundle."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from .conftest import BUNDLES, ROOT

pytestmark = pytest.mark.interop

PAGE = (ROOT / "README.md").read_text().split("## Where the bundles run")[1].split("\n## ")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
NOT_PER_BUNDLE = ("test_federated.py",)


def test_the_table_has_every_bundle_and_consumer():
    consumers = ROWS[0][1:]
    assert len(consumers) == 8
    marks = {row[0].strip("`"): row[1:] for row in ROWS[2:] if row[0].startswith("`")}
    assert marks == {bundle: ["✓"] * 8 for bundle in BUNDLES}
    assert [row[0] for row in ROWS[-8:]] == consumers


@pytest.fixture(scope="module")
def collected() -> str:
    """The names of all tests, as pytest lists them."""
    places = ["tests/interop", "tests/bundles/test_monai_algo.py"]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-m", "", *places]  # pyproject.toml adds -q
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200).stdout


@pytest.mark.parametrize("row", ROWS[-8:], ids=lambda row: row[0])
def test_the_named_tests_exist_for_each_bundle(row, collected):
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row[2])
    assert named
    for file, function in named:
        assert f"{file}::{function}" in collected
        for bundle in () if file in NOT_PER_BUNDLE else BUNDLES:
            assert re.search(rf"{file}::{function}\[[^\]]*{bundle}", collected), (function, bundle)
