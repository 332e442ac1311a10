"""docs/architecture.md: its picture is that of the code, its files exist, and what it says of adding a part works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.draw_architecture import PAGE, with_diagram
from tests.helpers.commands import ROOT

TEXT = PAGE.read_text(encoding="utf-8")
COPIED = {  # and what of it is not: what runs leave, and the programs that bundles are deployed to
    "common": shutil.ignore_patterns("__pycache__", "deploy"),
    "bundles": shutil.ignore_patterns("data", "output"),
}


def test_the_picture_shows_the_imports_of_today():
    assert with_diagram(TEXT) == TEXT, "The imports have changed: run python docs/draw_architecture.py."


def sections() -> dict[str, list[str]]:
    """The code blocks below each `### A ...` of "How to add ..."."""
    parts = re.split(r"^### A ", TEXT.partition("## How to add")[2], flags=re.MULTILINE)[1:]
    return {part.split("\n", 1)[0]: re.findall(r"```\w+\n.*?```", part, flags=re.DOTALL) for part in parts}


def apply(block: str, place: Path) -> str:
    """Do what a block says in a copy of the repository; returns what its commands printed."""
    kind, code = re.fullmatch(r"```(\w+)\n(.*)```", block, flags=re.DOTALL).groups()
    if kind == "bash":
        environment = {
            **os.environ,
            "PYTHONPATH": str(place),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
        return done.stdout + done.stderr
    first, content = code.split("\n", 1)
    if new := re.fullmatch(r"# new file: (\S+)", first):
        path = place / new[1]
        assert not path.exists()
        path.write_text(content, encoding="utf-8")
    elif imported := re.fullmatch(r"# imported in: (\S+)", first):
        path = place / imported[1]
        before, all_names, after = path.read_text(encoding="utf-8").partition("\n__all__")
        assert all_names
        path.write_text(before + "\n" + content + all_names + after, encoding="utf-8")
    else:
        changed = re.fullmatch(r"# changed in: (\S+)", first)
        assert changed, first
        path = place / changed[1]
        old, new_lines = ("\n".join(line[2:] for line in content.splitlines() if line[:1] == sign) for sign in "-+")
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, old
        path.write_text(text.replace(old, new_lines), encoding="utf-8")
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("part", ["method", "bundle", "guard", "baseline"])
def test_a_part_is_added_as_the_page_says(part, tmp_path):
    for folder, not_copied in COPIED.items():
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=not_copied)
    printed = "".join(apply(block, tmp_path) for block in sections()[part])
    PROOFS[part](tmp_path / "runs", printed)


def _method(runs: Path, printed: str) -> None:
    header = (runs / "method" / "losses.csv").read_text().splitlines()[0]
    assert "distance" in header
    assert (runs / "method" / "models" / "model.pt").is_file()


def _bundle(runs: Path, printed: str) -> None:
    assert list((runs / "t2_pd").rglob("*_synthetic_PD.nii.gz"))


def _guard(runs: Path, printed: str) -> None:
    assert "slices of 5 mm, but the network was trained with at most 2.5 mm" in printed
    assert list((runs / "thin").rglob("*_synthetic_B30f.nii.gz"))


def _baseline(runs: Path, printed: str) -> None:
    rows = (runs / "evaluation" / "metrics.csv").read_text().splitlines()
    assert sum(",negative," in row for row in rows) == 2  # test patients


PROOFS = {"method": _method, "bundle": _bundle, "guard": _guard, "baseline": _baseline}
