"""The files of a blinded reading: the grades to fill in, the key apart from them, and their joined result."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from ..metrics.summary import write_text
from .inputs import Case

READERS, KEY = "for_readers", "key.csv"
SHEET = f"{READERS}/sheet.html"
GRADES = (1, 2, 3, 4, 5)
CRITERIA = {"image_quality": "Image quality", "artifact": "Degree of artifact"}
Grades = dict[str, dict[str, list[int]]]


def write_grades(folder: Path, numbers: Sequence[str]) -> Path:
    """The CSV that a reader fills in: one row a reading, in the sheet's order."""
    return _write(
        folder / READERS / "grades.csv", ["reading", *CRITERIA], [[n, *("" for _ in CRITERIA)] for n in numbers]
    )


def write_key(folder: Path, entries: Sequence[tuple[str, str, Case]]) -> Path:
    """The CSV that tells which method and patient each reading is."""
    rows = [[number, method, case.patient, case.direction] for number, method, case in entries]
    return _write(folder / KEY, ["reading", "method", "patient", "direction"], rows)


def read_grades(folder: str | os.PathLike[str]) -> Grades:
    """Grades of each method: ``{criterion: {method: [grade, ...]}}``, joined from all filled sheets and the key.

    Args:
        folder: that `write_reading_sheet` wrote; every ``for_readers/grades*.csv`` in it counts, one a reader. Cells
            may be empty; commas or semicolons may separate them.

    Raises:
        FileNotFoundError: when the key or the grades are missing.
        ValueError: when a grade is not a whole number from 1 to 5 (the row is named), a reading is unknown, twice in
            one file, or a column is missing.
    """
    key_file = Path(folder) / KEY
    files = sorted((Path(folder) / READERS).glob("grades*.csv"))
    for path, found in ((key_file, key_file.is_file()), (Path(folder) / READERS / "grades.csv", bool(files))):
        if not found:
            raise FileNotFoundError(f"`{path}` must exist, found no such file; give the folder of `reading_sheet`.")
    methods = {row["reading"]: row["method"] for _, row in _read(key_file, ("reading", "method"))}
    result: Grades = {criterion: {method: [] for method in methods.values()} for criterion in CRITERIA}
    for path in files:
        seen: set[str] = set()
        for line, row in _read(path, ("reading", *CRITERIA)):
            number = _number(row["reading"], methods)
            if number is None or number in seen:
                fault = "is not in the key" if number is None else "is there twice"
                raise ValueError(f"{path.name}, row {line}: reading {row['reading']!r} {fault}; correct the row.")
            seen.add(number)
            for criterion in CRITERIA:
                grade = _grade(row[criterion], f"{path.name}, row {line} (reading {number})", criterion)
                result[criterion][methods[number]] += [] if grade is None else [grade]
    return result


def reading_results(folder: str | os.PathLike[str]) -> str:
    """Mean grade and distribution by method, as text; raises like `read_grades`."""
    grades = read_grades(folder)
    width = max(len("Method"), *(len(method) for by_method in grades.values() for method in by_method))
    lines = []
    for criterion, by_method in grades.items():
        lines += [f"{CRITERIA[criterion]} (1 excellent, 5 poor)"]
        lines += [f"  {'Method':<{width}}   mean     n   " + "  ".join(f"{grade:>3}" for grade in GRADES)]
        for method, given in sorted(
            by_method.items(), key=lambda item: (not item[1], sum(item[1]) / (len(item[1]) or 1))
        ):
            mean = f"{sum(given) / len(given):.2f}" if given else "-"
            counts = "  ".join(f"{given.count(grade):>3}" for grade in GRADES)
            lines += [f"  {method:<{width}}  {mean:>5}  {len(given):>4}   {counts}"]
        lines += [""]
    return "\n".join(lines).rstrip()


def _grade(cell: str, where: str, criterion: str) -> int | None:
    text = (cell or "").strip()
    if not text:
        return None
    if text not in map(str, GRADES):
        raise ValueError(f"{where}: `{criterion}` must be a whole number from 1 to 5, got {text!r}; correct the row.")
    return int(text)


def _number(cell: str, known: dict[str, str]) -> str | None:
    """The reading's number in the key's form: spreadsheets drop leading zeros."""
    text = (cell or "").strip()
    return next((number for number in known if number == text or number.lstrip("0") == text.lstrip("0")), None)


def _read(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(line, row) of a CSV file; a byte-order mark and semicolons, as spreadsheets write them, are taken."""
    text = path.read_text(encoding="utf-8-sig")
    first = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text), delimiter=";" if ";" in first else ",")
    missing = [column for column in columns if column not in (rows.fieldnames or [])]
    if missing:
        raise ValueError(f"`{path}` must have the columns {list(columns)}, got none called {missing}.")
    return [(rows.line_num, row) for row in rows if any((cell or "").strip() for cell in row.values() if cell)]


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return write_text(path, text.getvalue())
