"""Outputs of any program are scored as the network's are, and what does not fit is refused by name, rule and cure."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from common.data import load_datalist
from common.files import write_json
from common.scoring import Wanted, check_grid, find_outputs, score_outputs
from tests.helpers.brains import brain
from tests.helpers.pages import commands, run_line

PAGE = Path(__file__).parents[1] / "docs" / "report.md"
AFFINE = np.diag([-1.0, -1.0, 4.0, 1.0])


def save(path: Path, volume: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(volume, dtype=np.float32), affine), path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients with T1 and T2, whose T2 is not the inverted T1."""
    folder = tmp_path_factory.mktemp("data")
    entries = []
    for index in (1, 2):
        t1, t2 = brain(False) * index, brain(True)
        entry = {"patient": f"p{index}"}
        for domain, volume in (("T1", t1), ("T2", t2)):
            entry[domain] = f"images/p{index}_{domain}.nii.gz"
            save(folder / entry[domain], volume)
        entries.append(entry)
    write_json(folder / "datalist.json", {"test": entries, "training": [], "labels": {}})
    return folder


def truth(data: Path, patient: str) -> np.ndarray:
    return np.asarray(nib.load(data / "images" / f"{patient}_T2.nii.gz").dataobj)


def rows(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return {(row["patient"], row["method"]): row for row in csv.DictReader(file)}


def score(folder: Path, data: Path, out: Path, **options: Any) -> Path:
    return score_outputs(folder, data, bundle="nec_t1t2", output_dir=out, **options)


@pytest.fixture(scope="module")
def scored(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The truth plus 7 for one patient, and the source itself for the other."""
    folder, out = tmp_path_factory.mktemp("outputs") / "a tool", tmp_path_factory.mktemp("scores")
    save(folder / "deep" / "p1_T1_synthetic_T2.nii.gz", truth(data, "p1") + 7)
    shutil.copy(data / "images" / "p2_T1.nii.gz", folder / "p2_T1_synthetic_T2.nii.gz")
    return out, score(folder, data, out).read_text(encoding="utf-8")


def test_the_scores_are_those_of_the_volumes_themselves(scored: tuple[Path, str], data: Path) -> None:
    found = rows(scored[0])
    assert float(found["p1", "network"]["mae"]) == pytest.approx(7.0, abs=1e-3)
    assert float(found["p1", "network"]["rmse"]) == pytest.approx(7.0, abs=1e-3)
    source = np.asarray(nib.load(data / "images" / "p2_T1.nii.gz").dataobj)
    expected = np.abs(source - truth(data, "p2")).mean()
    assert float(found["p2", "network"]["mae"]) == pytest.approx(expected, rel=1e-4)
    assert float(found["p2", "network"]["source_correlation"]) == pytest.approx(1.0)
    assert {method for _, method in found} > {"network", "identity"}


def test_report_and_facts_name_the_outputs_and_no_network(scored: tuple[Path, str]) -> None:
    out, page = scored
    facts = json.loads((out / "run.json").read_text())
    assert facts["bundle"] == "a tool"
    assert facts["evaluation_of"] == "nec_t1t2"
    assert "network" not in facts
    assert "parameters" not in facts
    assert facts["task"] == "sequence_translation"
    assert "<title>a tool: report</title>" in page
    assert "NECGenerator" not in page
    cases = json.loads((out / "cases.json").read_text())["cases"]
    assert [case["patient"] for case in cases] == ["p1", "p2"]
    assert all((out / case["prediction"]).is_file() for case in cases)


def test_a_pattern_names_the_outputs_of_other_programs(data: Path, tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        save(tmp_path / "made" / patient / "t2_from_T1.nii", truth(data, patient))
    out = tmp_path / "out"
    score(tmp_path / "made", data, out, pattern="{patient}/t2_from_{source}", name="Tool 3")
    found = rows(out)
    assert float(found["p1", "network"]["mae"]) == 0.0
    assert float(found["p2", "network"]["ssim"]) == pytest.approx(1.0)
    assert json.loads((out / "run.json").read_text())["bundle"] == "Tool 3"


def written(data: Path, folder: Path, patients: tuple[str, ...] = ("p1", "p2")) -> dict[str, Path]:
    return {p: save(folder / f"{p}_T1_synthetic_T2.nii.gz", truth(data, p)) for p in patients}


def refusal(data: Path, tmp_path: Path, error: type[Exception], **options: Any) -> str:
    with pytest.raises(error) as caught:
        score(tmp_path / "made", data, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    return str(caught.value)


def test_a_missing_output_is_named_with_its_patient_and_the_cure(data: Path, tmp_path: Path) -> None:
    assert "there is no such folder" in refusal(data, tmp_path, FileNotFoundError)
    (tmp_path / "made").mkdir()
    said = refusal(data, tmp_path, FileNotFoundError)
    assert "found none, such as 'p1_T1_synthetic_T2'" in said
    assert "--pattern" in said
    written(data, tmp_path / "made", ("p1",))
    said = refusal(data, tmp_path, FileNotFoundError)
    assert "lacks 'p2_T1_synthetic_T2' (patient p2, T1 to T2): make them as well" in said


def test_another_grid_is_refused_with_both_files(data: Path, tmp_path: Path) -> None:
    path = written(data, tmp_path / "made")["p2"]
    for volume, affine, fault in (
        (truth(data, "p2")[:-1], AFFINE, "shape (63, 64, 3), expected (64, 64, 3)"),
        (truth(data, "p2"), np.diag([-1.0, -1.0, 4.1, 1.0]), "another affine"),
    ):
        save(path, volume, affine)
        said = refusal(data, tmp_path, ValueError)
        assert said.startswith(repr(str(path)))
        assert "p2_T1.nii.gz" in said
        assert fault in said
        assert "resample it to that grid" in said


def test_an_output_in_another_orientation_is_on_the_same_grid(data: Path, tmp_path: Path) -> None:
    for patient, path in written(data, tmp_path / "made").items():
        turned = nib.as_closest_canonical(nib.load(path))
        assert not np.allclose(turned.affine, AFFINE), patient
        nib.save(turned, path)
    score(tmp_path / "made", data, tmp_path / "out")
    assert float(rows(tmp_path / "out")["p1", "network"]["mae"]) == 0.0


def test_a_direction_without_any_output_is_left_out(data: Path, tmp_path: Path) -> None:
    made = written(data, tmp_path / "made")
    cases = load_datalist(str(data), "test")
    found = find_outputs(tmp_path / "made", cases, [["T2", "T1"], ["T1", "T2"]])
    assert [(each.patient, each.source, each.target) for each in found] == [("p1", "T1", "T2"), ("p2", "T1", "T2")]
    assert [each.output for each in found] == list(made.values())


def test_in_super_resolution_pixels_are_finer_and_their_corners_agree(tmp_path: Path) -> None:
    source = save(tmp_path / "source.nii.gz", np.zeros((4, 6, 3)), np.diag([0.8, 0.8, 4.0, 1.0]))
    affine = np.diag([0.4, 0.4, 4.0, 1.0])
    affine[:2, 3] = -0.2  # from the centre of a pixel of 0.8 mm to that of its first half
    output = save(tmp_path / "output.nii.gz", np.zeros((8, 12, 3)), affine)
    wanted = Wanted("p1", "clinical", "micro", str(source), output)
    check_grid(wanted, factor=2)
    with pytest.raises(ValueError, match=r"of 4 times as fine pixels .* shape \(8, 12, 3\), expected \(16, 24, 3\)"):
        check_grid(wanted, factor=4)
    save(output, np.zeros((8, 12, 3)), np.diag([0.4, 0.4, 4.0, 1.0]))
    with pytest.raises(ValueError, match="another affine"):
        check_grid(wanted, factor=2)


def test_two_files_for_one_output_are_refused(data: Path, tmp_path: Path) -> None:
    written(data, tmp_path / "made")
    save(tmp_path / "made" / "p1_T1_synthetic_T2.nii", truth(data, "p1"))
    assert "could both be the output 'p1_T1_synthetic_T2'" in refusal(data, tmp_path, ValueError)


@pytest.mark.parametrize(
    "pattern", ["{patient}_{domain}", "{patient.__class__}", "{patient:>9}", "{patient!r}", "{", "{}"]
)
def test_a_pattern_holds_known_fields_alone(data: Path, tmp_path: Path, pattern: str) -> None:
    (tmp_path / "made").mkdir()
    assert re.match(r"`pattern` may hold \{patient\}", refusal(data, tmp_path, ValueError, pattern=pattern))


def test_a_pattern_does_not_lead_out_of_the_folder(data: Path, tmp_path: Path) -> None:
    written(data, tmp_path / "elsewhere")
    (tmp_path / "made").mkdir()
    pattern = "../elsewhere/{patient}_{source}_synthetic_{target}"
    refusal(data, tmp_path, ValueError, pattern=pattern)


def test_what_is_no_number_or_no_volume_is_refused(data: Path, tmp_path: Path) -> None:
    paths = written(data, tmp_path / "made")
    volume = truth(data, "p1")
    volume[3, 4, 1] = np.nan
    save(paths["p1"], volume)
    with pytest.raises(ValueError, match=r"p1_T1_synthetic_T2.nii.gz' must hold finite numbers, but 1 voxels"):
        score(tmp_path / "made", data, tmp_path / "out")
    paths["p1"].write_bytes(b"no volume")
    with pytest.raises(ValueError, match=r"p1_T1_synthetic_T2.nii.gz' must be a NIfTI file"):
        score(tmp_path / "made", data, tmp_path / "out")


def test_the_commands_of_the_page_run_in_order(data: Path, tmp_path: Path) -> None:
    """They are typed where the bundles are found by name."""
    made = tmp_path / "PREDICTIONS"
    for patient in ("p1", "p2"):
        for name in (f"{patient}_T1_synthetic_T2", f"{patient}_T2"):
            save(made / f"{name}.nii.gz", truth(data, patient))
    lines = commands(PAGE)
    assert len(lines) == 4
    places = {"OUT": tmp_path / "SCORES", "DATA": data, "PREDICTIONS": made, "SCORES": tmp_path / "SCORES"}
    scoring_first = sorted(lines, key=lambda line: " report " in line)
    for line in scoring_first:
        filled = re.sub(r"\b(" + "|".join(places) + r")\b", lambda match: str(places[match.group()]), line)
        done = run_line(filled, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
    assert "<script" not in (tmp_path / "SCORES" / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "SCORES" / "run.json").read_text())["bundle"] == "Tool 3"
