"""Tables that a user wrote: images with their patients and domains, and the splits of patients."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from .datalist import SPLITS
from .datalist_found import Findings, FoundImage, check_domain, renamed, unwanted

REQUIRED = ("patient", "domain", "image")


def find_in_csv(folder: Path, file: Path, *, names: Mapping[str, str] | None = None) -> Findings:
    """
    The images that a CSV file lists: columns patient, domain, image, and maybe session, label and split.

    Args:
        folder: where its relative paths start.
        file: the table, with a header line; separated by comma, semicolon or tab.
        names: see `domain_names`.

    Raises:
        FileNotFoundError: when the table, or a file that it names, does not exist.
        ValueError: when a column or a value is missing, or a split is none.
    """
    findings = Findings()
    for line, row in _rows(file, REQUIRED):
        where = f"{file.name}, line {line}"
        for name in REQUIRED:
            if not row[name]:
                raise ValueError(f"{where}: {name!r} is empty; every image needs {', '.join(REQUIRED)}.")
        path, label = folder / row["image"], folder / row["label"] if row.get("label") else None
        for given in (path, label):
            if given is not None and not os.path.exists(given):
                raise FileNotFoundError(f"{where}: {str(given)!r} does not exist. Correct the path or remove the line.")
        split = _split(row["split"], where) if row.get("split") else None
        domain = renamed(row["domain"], names)
        if domain is None:
            findings.left_out[row["image"]] = unwanted(row["domain"], names or {})
            continue
        check_domain(domain)
        session = {"session": row["session"]} if row.get("session") else {}
        findings.images.append(FoundImage(path, row["patient"], domain, session=session, label=label, split=split))
    return findings


def read_splits(file: str | Path) -> dict[str, str]:
    """
    The split of each patient, from an earlier datalist or from a CSV file with the columns patient and split.

    Raises:
        FileNotFoundError: when the file does not exist.
        ValueError: when it is neither, or names a patient in two splits.
    """
    path = Path(file)
    splits: dict[str, str] = {}
    for patient, split, where in _json_splits(path) if path.suffix == ".json" else _csv_splits(path):
        if splits.setdefault(patient, split) != split:
            raise ValueError(
                f"{where}: patient {patient!r} is in {splits[patient]!r} and {split!r}; a patient belongs to one split,"
                " or the scores are those of training data."
            )
    return splits


def _json_splits(path: Path) -> list[tuple[str, str, str]]:
    try:
        lists = json.loads(_text(path))
        return [
            (str(entry["patient"]), "training" if key == "training_paired" else key, path.name)
            for key in (*SPLITS, "training_paired")
            for entry in lists.get(key, [])
        ]
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is no datalist whose entries name their `patient` ({error!r}).") from error


def _csv_splits(path: Path) -> list[tuple[str, str, str]]:
    found = []
    for line, row in _rows(path, ("patient", "split")):
        where = f"{path.name}, line {line}"
        found.append((row["patient"], _split(row["split"], where), where))
    return found


def _split(name: str, where: str) -> str:
    if name not in SPLITS:
        raise ValueError(f"{where}: 'split' must be one of {', '.join(SPLITS)}, got {name!r}.")
    return name


def _rows(path: Path, required: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and rows, stripped; blank lines are passed over."""
    text = _text(path)
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [str(name).strip().lower() for name in reader.fieldnames or ()]
        if missing := [name for name in required if name not in columns]:
            raise ValueError(
                f"{path.name} must have the columns {', '.join(required)} in its first line, got {columns};"
                f" {', '.join(missing)} is missing."
            )
        reader.fieldnames = columns
        rows = [
            (reader.line_num, {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)})
            for row in reader
        ]
    except csv.Error as error:
        raise ValueError(f"{path.name}, line {reader.line_num}, is no CSV ({error}).") from error
    return [(line, row) for line, row in rows if any(row.values())]


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"The table {str(path)!r} does not exist.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} must be UTF-8 text ({error}): save it anew as CSV UTF-8.") from error
