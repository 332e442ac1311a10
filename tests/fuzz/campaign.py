"""Trying many damaged inputs of one kind: counted, reproducible, the first that breaks a rule is kept."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.verdicts import HangError, verdict

MANY = 9 * int(os.environ.get("HYPOTHESIS", "1"))


@dataclass(frozen=True)
class Input:
    """
    One damaged input.

    Args:
        attempt: works on it, and writes only below `output`.
        names: of which a refusal must name one.
        output: a folder, absent before.
        files: how many files an accepted input leaves there; None: any number.
    """

    attempt: Callable[[], object]
    names: list[str]
    output: Path
    files: int | None = None


Make = Callable[[Path, np.random.Generator], Input]


def share(few: int) -> Callable:
    """Runs a test that takes `tries` with a few of them in `make test`, with others and many in `make test-faults`."""
    many = pytest.param(range(few, few + few * MANY), marks=pytest.mark.faults, id="many")
    return pytest.mark.parametrize("tries", [pytest.param(range(few), id="few"), many])


def campaign(kind: str, tries: range, make: Make) -> Counter:
    """
    Tries the inputs of some seeds.

    Args:
        kind: for messages and for the report.
        tries: seeds.
        make: damages an input in a folder.

    Raises:
        AssertionError: naming the seed, and where the input is kept.
    """
    counts: Counter = Counter()
    for seed in tries:
        folder = Path(tempfile.mkdtemp(prefix=f"fuzz_{kind}_"))
        try:
            one = make(folder, np.random.default_rng(seed))
            outcome = verdict(one.attempt, names=one.names)
            _check_files(one, outcome)
        except (Exception, HangError) as error:
            text = f"{kind}, seed {seed}, kept in {folder}: {type(error).__name__}: {error}"
            raise AssertionError(text) from error
        counts[outcome] += 1
        shutil.rmtree(folder)
    _report(kind, counts)
    return counts


def _check_files(one: Input, outcome: str) -> None:
    """Whole outputs or none, and no hidden temporary file."""
    found = sorted(path for path in one.output.rglob("*") if path.is_file())
    assert not [path for path in found if path.name.startswith(".")], f"temporary files are left: {found}"
    if outcome == "refused":
        assert not found, f"refused, but {found} is there"
    elif one.files is not None:
        images = [path for path in found if path.name.endswith((".nii", ".nii.gz"))]
        assert len(images) == one.files, f"accepted, but the outputs are {found}"


def _report(kind: str, counts: Counter) -> None:
    """Adds the counts to the file that REPORT_FILE names, where it is set."""
    if not (name := os.environ.get("REPORT_FILE")):
        return
    path = Path(name)
    figures = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    before = Counter(figures.get(kind, {}))
    total = {"accepted": before["accepted"] + counts["accepted"], "refused": before["refused"] + counts["refused"]}
    figures[kind] = {"tried": total["accepted"] + total["refused"], **total}
    figures.pop("all", None)
    figures["all"] = {key: sum(kinds[key] for kinds in figures.values()) for key in ("tried", "accepted", "refused")}
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
