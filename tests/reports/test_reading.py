"""Blinded reading: nothing on the sheet tells the method, the key joins it again, wrong grades are named."""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from common.__main__ import main
from common.reports import reading_results, write_reading_sheet
from common.reports.inputs import Case
from common.reports.reading import draw_readings, read_grades
from tests.helpers.abdomen import write_run

PATIENTS = ["p0", "p1", "p2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    return [str(write_run(folder / name, PATIENTS, gain=gain)) for name, gain in (("ours_s", 1.0), ("single", 0.5))]


@pytest.fixture(scope="module")
def sheet(runs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder; do not change it."""
    folder = tmp_path_factory.mktemp("reading") / "sheet"
    assert write_reading_sheet(runs, folder, seed=1) == folder / "for_readers" / "sheet.html"
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def filled(
    sheet: Path, folder: Path, grades: dict[str, tuple[str, str]], name: str = "grades.csv", sep: str = ","
) -> None:
    """A copy of the sheet's files in which each method got the same two grades for all of its readings."""
    (folder / "for_readers").mkdir(parents=True, exist_ok=True)
    (folder / "key.csv").write_text((sheet / "key.csv").read_text())
    lines = [sep.join(["reading", "image_quality", "artifact"])]
    for row in rows_of(sheet / "key.csv"):
        lines.append(sep.join([row["reading"], *grades[Path(row["method"]).name]]))
    (folder / "for_readers" / name).write_text("\n".join(lines) + "\n")


def test_every_method_is_read_on_every_patient_in_random_order(sheet: Path, runs: list[str]) -> None:
    key = rows_of(sheet / "key.csv")
    assert [row["reading"] for row in key] == ["01", "02", "03", "04", "05", "06"]
    assert Counter((row["method"], row["patient"]) for row in key) == Counter((r, p) for r in runs for p in PATIENTS)
    assert [row["method"] for row in key] not in ([runs[0]] * 3 + [runs[1]] * 3, [runs[1]] * 3 + [runs[0]] * 3)
    template = rows_of(sheet / "for_readers" / "grades.csv")
    assert template == [{"reading": row["reading"], "image_quality": "", "artifact": ""} for row in key]


def test_what_readers_get_names_no_method_and_no_patient(sheet: Path) -> None:
    files = [path for path in (sheet / "for_readers").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"sheet.html", "grades.csv"}
    page = (sheet / "for_readers" / "sheet.html").read_text(encoding="utf-8")
    visible = re.sub(r"base64,[A-Za-z0-9+/=]+|<style>.*?</style>", "", page, flags=re.DOTALL)
    assert not re.search(r"ours_s|single|p0|p1|p2|NECT|CECT|network", visible)
    assert page.count('<th scope="row">') == 6
    assert all(f"<th>{title}</th>" in page for title in ("Image quality", "Degree of artifact"))
    # Three slices, source and output, a row.
    assert page.count("<img") == 6 * 6


def test_the_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    methods = {m: {p: Case(p, "a->b", Path(), Path(m)) for p in "abcdefgh"} for m in ("x", "y")}
    first = [(r.method, r.case.patient) for r in draw_readings(methods, seed=3)]
    assert first == [(r.method, r.case.patient) for r in draw_readings(methods, seed=3)]
    assert first != [(r.method, r.case.patient) for r in draw_readings(methods, seed=4)]
    some = draw_readings(methods, seed=3, cases=2)
    assert len(some) == 4
    assert len({reading.case.patient for reading in some}) == 2


def test_grades_are_joined_with_the_key(sheet: Path, tmp_path: Path) -> None:
    filled(sheet, tmp_path, {"ours_s": ("1", "2"), "single": ("4", "5")})
    filled(sheet, tmp_path, {"ours_s": ("2", ""), "single": ("4", " 3 ")}, name="grades_anna.csv", sep=";")
    grades = {criterion: {Path(m).name: g for m, g in by.items()} for criterion, by in read_grades(tmp_path).items()}
    assert grades["image_quality"] == {"ours_s": [1] * 3 + [2] * 3, "single": [4] * 6}
    assert grades["artifact"] == {"ours_s": [2] * 3, "single": [5] * 3 + [3] * 3}
    text = reading_results(tmp_path)
    quality, artifact = text.split("\n\n")
    assert re.search(r"ours_s +1\.50 +6 +3 +3 +0 +0 +0", quality)
    assert re.search(r"single +4\.00 +6 +0 +0 +3 +0 +3", artifact)
    assert quality.index("ours_s") < quality.index("single")  # the best first


def test_an_unfilled_sheet_has_no_mean(sheet: Path) -> None:
    text = reading_results(sheet)
    assert len(re.findall(r"  -     0     0    0    0    0    0", text)) == 4


def test_spreadsheets_may_drop_leading_zeros_and_add_a_mark(sheet: Path, tmp_path: Path) -> None:
    filled(sheet, tmp_path, {"ours_s": ("1", "1"), "single": ("2", "2")})
    path = tmp_path / "for_readers" / "grades.csv"
    path.write_text(re.sub(r"(?m)^0", "", path.read_text()), encoding="utf-8-sig")
    assert sum(len(given) for given in read_grades(tmp_path)["artifact"].values()) == 6


@pytest.mark.parametrize("grade", ["0", "6", "2.5", "good", "-1"])
def test_a_grade_outside_1_to_5_names_its_row(sheet: Path, tmp_path: Path, grade: str) -> None:
    filled(sheet, tmp_path, {"ours_s": ("1", "1"), "single": ("1", "1")})
    path = tmp_path / "for_readers" / "grades.csv"
    path.write_text(path.read_text().replace("03,1,1", f"03,1,{grade}"))
    rule = rf"grades.csv, row 4 \(reading 03\): `artifact` must be a whole number from 1 to 5, got '{grade}'; correct"
    with pytest.raises(ValueError, match=rule):
        read_grades(tmp_path)


def test_unknown_and_repeated_readings_and_missing_columns_are_refused(sheet: Path, tmp_path: Path) -> None:
    filled(sheet, tmp_path, {"ours_s": ("1", "1"), "single": ("1", "1")})
    path = tmp_path / "for_readers" / "grades.csv"
    good = path.read_text()
    for bad, message in (
        (good + "77,1,1\n", "grades.csv, row 8: reading '77' is not in the key; correct the row"),
        (good + "01,2,2\n", "grades.csv, row 8: reading '01' is there twice"),
        (good.replace("artifact", "artefact"), r"must have the columns .*, got none called \['artifact'\]"),
    ):
        path.write_text(bad)
        with pytest.raises(ValueError, match=message):
            read_grades(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"key.csv` must exist, .* give the folder of `reading_sheet`"):
        read_grades(tmp_path / "elsewhere")


def test_a_sheet_is_never_overwritten(sheet: Path, runs: list[str]) -> None:
    with pytest.raises(FileExistsError, match="holds a sheet and its key already; give a new folder"):
        write_reading_sheet(runs, sheet)


def test_runs_that_cannot_be_compared_are_refused(runs: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for given in ([], [runs[0], runs[0] + "/"]):
        with pytest.raises(ValueError, match="`run_dirs` must be one or more different folders"):
            write_reading_sheet(given, out)
    other = str(write_run(tmp_path / "other", ["q"]))
    with pytest.raises(ValueError, match="`run_dirs` must share at least one patient and direction, got none"):
        write_reading_sheet([runs[0], other], out)
    with pytest.raises(ValueError, match="`cases` must be >= 1 patients, got 0"):
        write_reading_sheet(runs, out, cases=0)
    with pytest.raises(ValueError, match=r"`window` must be \(low, high\)"):
        write_reading_sheet(runs, out, window=(1.0, 1.0))
    with pytest.raises(FileNotFoundError, match="found none in"):
        write_reading_sheet([str(tmp_path / "nothing")], out)
    assert not out.exists()


def test_the_two_commands_work(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["common", *words])
        main()
        return capsys.readouterr().out

    out = str(tmp_path / "out")
    printed = command("reading_sheet", *runs, "--output_dir", out, "--seed", "5", "--cases", "1")
    assert "Reading sheet: " in printed
    assert "To fill in: " in printed
    assert len(rows_of(tmp_path / "out" / "key.csv")) == 2
    assert "Image quality (1 excellent, 5 poor)" in command("reading_results", out)
    with pytest.raises(SystemExit):
        command("reading_sheet", *runs, "--output_dir", out)
    assert "error: `output_dir`" in capsys.readouterr().err
