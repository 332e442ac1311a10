"""What a run left behind: the files a report is made from, each of which may be missing."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..metrics.summary import Summary, read_rows, summarise

FILES = ("summary.json", "metrics.csv", "cases.json", "losses.csv", "validation.csv")
Columns = dict[str, list[float]]


@dataclass(frozen=True)
class Case:
    """One translated patient: paths of NIfTI volumes on one grid; in super-resolution the source's is coarser."""

    patient: str
    direction: str
    source: Path
    prediction: Path
    target: Path | None = None
    label: Path | None = None
    bicubic: Path | None = None


@dataclass(frozen=True)
class Inputs:
    """Everything a report can show."""

    summary: Summary = field(default_factory=dict)
    blends: Summary = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    label_names: dict[int, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    losses: Columns = field(default_factory=dict)
    validation: Columns = field(default_factory=dict)


def read_inputs(output_dir: str | os.PathLike[str]) -> Inputs:
    """Read a run's output folder.

    Args:
        output_dir: folder with any of ``summary.json``, ``metrics.csv``, ``cases.json``, ``run.json``, and beside a
            summary maybe ``blends.json``, of the same form; the training's
            ``losses.csv`` and ``validation.csv`` lie in the folder that ``run.json`` names as ``training`` (relative to
            ``output_dir``), or in ``output_dir`` itself.

    Raises:
        FileNotFoundError: when the folder is missing or holds nothing to report.
        ValueError: when a file is not what its name says.
    """
    folder = Path(output_dir)
    facts = _read_json(folder / "run.json")
    training = folder / str(facts.get("training") or ".")
    if not any((folder / name).is_file() or (training / name).is_file() for name in FILES):
        raise FileNotFoundError(
            f"`output_dir` must hold at least one of {list(FILES)} to report on, found none in `{folder}`; "
            "run `python -m monai.bundle run inference` or `run evaluating` with this output folder first."
        )
    rows = read_rows(folder / "metrics.csv") if (folder / "metrics.csv").is_file() else []
    listed = _read_json(folder / "cases.json")
    return Inputs(
        summary=_read_json(folder / "summary.json") or summarise(rows),
        blends=_read_json(folder / "blends.json"),
        rows=rows,
        cases=[_case(entry, folder) for entry in listed.get("cases", []) if entry.get("prediction")],
        label_names={int(value): str(name) for value, name in listed.get("label_names", {}).items()},
        facts=facts,
        losses=_read_columns(training / "losses.csv"),
        validation=_read_columns(training / "validation.csv"),
    )


def _case(entry: Mapping[str, Any], folder: Path) -> Case:
    missing = [key for key in ("patient", "direction", "source") if not entry.get(key)]
    if missing:
        raise ValueError(f"each case of `cases.json` must have {missing}, got {dict(entry)}; write the file again.")
    named = ("source", "prediction", "target", "label", "bicubic")
    paths = {key: folder / entry[key] for key in named if entry.get(key)}
    for key, path in paths.items():
        if not path.is_file():
            raise FileNotFoundError(f"`{key}` of patient {entry['patient']} must exist, found no file `{path}`.")
    return Case(patient=str(entry["patient"]), direction=str(entry["direction"]), **paths)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"`{path}` must be JSON, got {error}; write the file again.") from None
    if not isinstance(content, dict):
        raise ValueError(f"`{path}` must hold a JSON object, got {type(content).__name__}; write the file again.")
    return content


def _read_columns(path: Path) -> Columns:
    """Columns of a CSV file of numbers; empty cells are NaN."""
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return {}
    return {name: [float(row[name]) if row[name] else float("nan") for row in rows] for name in rows[0] if name}
