"""Blinded reading: a sheet that names no method, a separate key, and the results of the filled sheets."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import write_text
from ..metrics.window import WINDOW_HU
from . import html
from .drawing import Panel, panel_png, require
from .inputs import Case, read_inputs
from .volumes import load_case, radiological

READERS, KEY = "for_readers", "key.csv"
SHEET = f"{READERS}/sheet.html"
GRADES = (1, 2, 3, 4, 5)
CRITERIA = {"image_quality": "Image quality", "artifact": "Degree of artifact"}
Grades = dict[str, dict[str, list[int]]]

SLICES = 4
WIDTH_PX = 300
GUIDE = (
    "Grade each reading by itself, before you scroll on, from 1 (excellent) to 5 (poor): image quality, and degree of "
    "artifact. Upper row: the scan that was translated; lower row: the image to be graded, at the same places. Write "
    "both grades into grades.csv; several readers take a copy each (grades_ANNA.csv)."
)


def write_grades(folder: Path, numbers: Sequence[str]) -> Path:
    """Write the CSV that a reader fills in: one row per reading, in the sheet's order."""
    return _write(
        folder / READERS / "grades.csv", ["reading", *CRITERIA], [[n, *("" for _ in CRITERIA)] for n in numbers]
    )


def write_key(folder: Path, entries: Sequence[tuple[str, str, Case]]) -> Path:
    """Write the CSV with the method and patient of each reading."""
    rows = [[number, method, case.patient, case.direction] for number, method, case in entries]
    return _write(folder / KEY, ["reading", "method", "patient", "direction"], rows)


def read_grades(folder: str | os.PathLike[str]) -> Grades:
    """Read the grades of each method, `{criterion: {method: [grade, ...]}}`, from all filled sheets and the key.

    Args:
        folder: Folder of `write_reading_sheet`; every `for_readers/grades*.csv` in it counts, one per reader. Cells may
            be empty; commas or semicolons may separate them.

    Raises:
        FileNotFoundError: If the key or the grades are missing.
        ValueError: If a grade is not an integer from 1 to 5 (the row is named), a reading is unknown, twice in one
            file, or a column is missing.
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
    """Write mean grade and distribution by method as text; raise like `read_grades`."""
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
    """Return the reading's number in the key's form: spreadsheets drop leading zeros."""
    text = (cell or "").strip()
    return next((number for number in known if number == text or number.lstrip("0") == text.lstrip("0")), None)


def _read(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Yield (line, row) of a CSV file; a byte-order mark and semicolons, as spreadsheets write them, are accepted."""
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


@dataclass(frozen=True)
class Reading:
    """Image to be graded: its number on the sheet, the method that made it, and its case."""

    number: str
    method: str
    case: Case


def write_reading_sheet(
    run_dirs: Sequence[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str],
    *,
    seed: int = 0,
    cases: int | None = None,
    window: tuple[float, float] = WINDOW_HU,
) -> Path:
    """Write a blinded reading sheet of several methods' outputs for the same patients.

    The grades are those of Seo et al., "Neural contrast enhancement of CT image", WACV 2021, section 4.3: image quality
    and degree of artifact, each from 1 (excellent) to 5 (poor), of whole cases. Every method shows the same patients at
    the same slices, evenly spaced; the order of all readings is random.

    Args:
        run_dirs: Folders that `evaluating` wrote, one per method; a method is called by the folder's path as given.
        output_dir: Folder without a sheet; `for_readers/` in it is handed out, `key.csv` is kept back.
        seed: Seed of the order and of the choice of patients.
        cases: Number of patients, drawn at random; by default all that every run has.
        window: Lowest and highest shown HU.

    Returns:
        Path of the sheet, an HTML page for the screen or for paper.

    Raises:
        FileExistsError: If the folder has a sheet, which may have been filled in.
        FileNotFoundError: If a run left nothing to read.
        ValueError: If no run or one run twice is given, the runs share no case, the number of cases is not positive, or
            the window does not rise.
    """
    require("matplotlib")
    folder = Path(output_dir)
    if (folder / KEY).exists() or (folder / SHEET).exists():
        raise FileExistsError(f"`output_dir` '{folder}' holds a sheet and its key already; give a new folder.")
    if not window[0] < window[1]:
        raise ValueError(f"`window` must be (low, high) with low < high in HU, got {window}.")
    readings = draw_readings(_common_cases(run_dirs), seed=seed, cases=cases)
    rows = [(reading.number, *_pictures(reading, window)) for reading in readings]
    table = html.part("readings", rows, list(CRITERIA.values()), GRADES)
    low, high = window
    about = f"{len(readings)} readings, window {high - low:g}/{(low + high) / 2:g} HU (width/level)"
    page = html.page("Reading sheet", about, [html.section("", html.part("paragraph", GUIDE), table)])
    write_grades(folder, [reading.number for reading in readings])
    write_key(folder, [(reading.number, reading.method, reading.case) for reading in readings])
    return write_text(folder / SHEET, page)


def draw_readings(
    methods: Mapping[str, Mapping[str, Case]], *, seed: int = 0, cases: int | None = None
) -> list[Reading]:
    """Number the outputs of all methods for the same patients in random order.

    Args:
        methods: Cases `{method: {patient: case}}`, of the same patients for all.
        seed: Random seed; the same seed gives the same order.
        cases: Number of patients; by default all.

    Raises:
        ValueError: If there is no patient, or `cases` is not positive.
    """
    patients = sorted({patient for known in methods.values() for patient in known})
    if not patients:
        raise ValueError("`run_dirs` must share at least one patient and direction, got none; evaluate the same data.")
    if cases is not None and cases < 1:
        raise ValueError(f"`cases` must be >= 1 patients, got {cases}.")
    rng = np.random.default_rng(seed)
    chosen = [patients[index] for index in rng.permutation(len(patients))[:cases]]
    pairs = [(method, known[patient]) for method, known in methods.items() for patient in chosen]
    digits = max(len(str(len(pairs))), 2)
    order = rng.permutation(len(pairs))
    return [Reading(f"{place:0{digits}}", *pairs[index]) for place, index in enumerate(order, start=1)]


def _common_cases(run_dirs: Sequence[str | os.PathLike[str]]) -> dict[str, dict[str, Case]]:
    """Return the cases of each run by patient, in the first run's first direction, as far as every run has them."""
    names = [Path(str(run)).as_posix() for run in run_dirs]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"`run_dirs` must be one or more different folders, got {names}.")
    listed = {name: read_inputs(name).cases for name in names}
    for name, found in listed.items():
        if not found:
            raise FileNotFoundError(
                f"`{name}` must hold a cases.json with outputs, found none; run `evaluating` there."
            )
    direction = listed[names[0]][0].direction
    known = {
        name: {case.patient: case for case in found if case.direction == direction} for name, found in listed.items()
    }
    shared = set.intersection(*(set(cases) for cases in known.values()))
    return {
        name: {patient: case for patient, case in cases.items() if patient in shared} for name, cases in known.items()
    }


def _pictures(reading: Reading, window: tuple[float, float]) -> tuple[list[tuple[str, str]], int]:
    """Draw the pictures of a row, which contain neither the patient's nor the method's name.

    Returns:
        Address and description of each picture, and the number of columns.
    """
    volumes = load_case(reading.case)
    depth = volumes.source.shape[2]
    places = sorted({round((index + 0.5) * depth / SLICES - 0.5) for index in range(SLICES)})
    pixel_mm = (volumes.zooms[1], volumes.zooms[0])
    pictures = []
    for volume, name in ((volumes.source, "source"), (volumes.prediction, "to be graded")):
        for place in places:
            panel = Panel("", radiological(volume[:, :, place]), window)
            png = panel_png(panel, pixel_mm=pixel_mm, width_px=WIDTH_PX, few_colours=True)
            pictures.append((html.png_address(png), f"Reading {reading.number}, {name}, slice {place + 1}"))
    return pictures, len(places)
