"""Datalists from DICOM headers: the domains that they state, and what is left out rather than guessed."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from common.__main__ import main
from common.data import load_datalist
from common.datalists.dicom_rules import contrast_of, kernel_of, sequence_of
from common.datalists.make import make_datalist
from tests.helpers.commands import ROOT
from tests.helpers.dicom_series import write_source_series
from tests.helpers.pages import commands
from tests.helpers.shared import needs_shared, shared

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def series(folder: Path, patient: str, modality: str = "CT", *, shift: float = 0, **header: object) -> Path:
    """Three small slices, whose pixels no other folder has."""
    rng = np.random.default_rng(list(str(folder).encode()))
    affine = AFFINE.copy()
    affine[0, 3] = shift
    volume = rng.integers(0, 900, (5, 4, 3))
    return write_source_series(folder, volume, affine, modality, PatientID=patient, **header)


def paired(folder: Path, count: int = 3, **header: object) -> Path:
    """Patients with two kernels of one acquisition."""
    for number in range(count):
        study = {"study": generate_uid(), "FrameOfReferenceUID": generate_uid(), "ContrastBolusAgent": "", **header}
        for kernel in ("B30f", "B70f"):
            series(folder / f"p{number}" / kernel, f"p{number}", ConvolutionKernel=kernel, **study)
    return folder


def refused(folder: Path, **options: object) -> str:
    with pytest.raises(ValueError, match="finds no image") as error:
        make_datalist(folder, "dicom:kernel", split=(1, 0, 0), **options)
    return str(error.value)


def test_kernels_of_one_acquisition_are_paired(tmp_path):
    made = make_datalist(paired(tmp_path), "dicom:kernel")
    (entry,) = load_datalist(tmp_path, "test")
    assert {Path(entry[kernel]).name for kernel in ("B30f", "B70f")} == {"B30f", "B70f"}
    assert len(made.content["training"]) == 2


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"FrameOfReferenceUID": "1.2.3"}, "its domains lie on different grids"),
        ({"shift": 1.0}, "its domains lie on different grids"),
        ({"study": "1.2.4"}, "its domains are of different sessions"),
    ],
)
def test_kernels_that_do_not_fit_are_not_paired(tmp_path, change, why):
    paired(tmp_path)
    first = dcmread(next((tmp_path / "p0" / "B30f").iterdir()))
    shutil.rmtree(tmp_path / "p0" / "B70f")
    same = {"study": first.StudyInstanceUID, "FrameOfReferenceUID": first.FrameOfReferenceUID}
    series(tmp_path / "p0" / "B70f", "p0", **{"ConvolutionKernel": "B70f", **same, **change})
    made = make_datalist(tmp_path, "dicom:kernel", split=(0.5, 0, 0.5))
    assert f"{why}" in made.report
    assert "p0" not in {entry["patient"] for key in ("training_paired", "test") for entry in made.content[key]}


def test_what_is_no_acquired_volume_of_its_own_is_left_out(tmp_path):
    series(tmp_path / "a", "a", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    series(tmp_path / "b", "b", ImageType=["DERIVED", "SECONDARY", "MPR"])
    series(tmp_path / "c", "c", SyntheticData="YES")
    series(tmp_path / "d", " ")
    series(tmp_path / "e", "e", ConvolutionKernel="")
    series(tmp_path / "f", "f", "MR")
    series(tmp_path / "g", "g")
    min((tmp_path / "g").iterdir()).write_bytes(bytes(128) + b"DICM\x02")
    middle = sorted(series(tmp_path / "h", "h").iterdir())[1]
    middle.unlink()
    (tmp_path / "notes.txt").write_text("no image")
    series(tmp_path / "good", "good")
    made = make_datalist(tmp_path, "dicom:kernel", split=(1, 0, 0))
    assert [entry["image"] for entry in made.content["training"]] == ["good", "h"]  # two slices are an even stack
    for words in (
        "a localizer",
        "not acquired (MPR in ImageType)",
        "synthetic: the output of a network",
        "no PatientID",
        "no ConvolutionKernel",
        "modality MR, and dicom:kernel is for CT",
        "cannot be read",
    ):
        assert words in made.report, words


def test_two_series_in_one_folder_are_left_out_with_the_cure(tmp_path):
    series(tmp_path / "a", "a")
    for file in series(tmp_path / "b", "a").iterdir():
        file.rename(tmp_path / "a" / f"second{file.name}")
    assert "give each a folder of its own" in refused(tmp_path)


def test_a_series_under_two_patients_is_refused(tmp_path):
    paired(tmp_path)
    shutil.copytree(tmp_path / "p0" / "B30f", tmp_path / "x")
    for file in (tmp_path / "x").iterdir():
        image = dcmread(file)
        image.PatientID = "x"
        image.save_as(file)
    with pytest.raises(ValueError, match=r"Patients 'p0' and 'x' share an image: .* the same SeriesInstanceUID"):
        make_datalist(tmp_path, "dicom:kernel")


def test_a_series_identified_anew_is_recognised_by_its_pixels(tmp_path):
    paired(tmp_path)
    shutil.copytree(tmp_path / "p0" / "B30f", tmp_path / "x")
    uid = generate_uid()
    for file in (tmp_path / "x").iterdir():
        image = dcmread(file)
        image.PatientID, image.SeriesInstanceUID, image.SOPInstanceUID = "x", uid, generate_uid()
        image.save_as(file)
    with pytest.raises(ValueError, match=r"Patients 'p0' and 'x' share an image: .* the same voxels"):
        make_datalist(tmp_path, "dicom:kernel")
    assert not (tmp_path / "datalist.json").exists()


def test_folders_of_series_are_found_by_a_pattern_too(tmp_path):
    made = make_datalist(paired(tmp_path, PatientName="A^B"), "{patient}/{domain}")
    assert made.content["domains"] == ["B30f", "B70f"]
    assert len(made.content["test"]) == 1


def test_an_unknown_header_rule_is_named(tmp_path):
    with pytest.raises(ValueError, match="'dicom:phase' must be one of dicom:kernel, dicom:contrast, dicom:sequence"):
        make_datalist(tmp_path, "dicom:phase")


@pytest.mark.parametrize(("value", "kernel"), [("B30f ", "B30f"), (["Br40d", "3"], "Br40d"), ("", None), (None, None)])
def test_the_kernel_is_the_first_value(value, kernel):
    assert kernel_of({"ConvolutionKernel": value})[0] == kernel


@pytest.mark.parametrize(
    ("agent", "description", "route", "domain"),
    [
        ("Iomeprol", "Abdomen portal venous", "IV", "CECT"),
        ("Iomeprol", "Thorax", "", "CECT"),
        ("", "Abdomen 3.0 B30f", "", "NECT"),
        ("NO", "Abdomen nativ", "", "NECT"),
        ("Iomeprol", "Abdomen nativ", "IV", None),
        ("", "Abdomen arterial phase", "", None),
        ("Gastrografin", "Abdomen", "ORAL", None),
        ("", "ABD W/O CONTRAST", "", "NECT"),
    ],
)
def test_contrast_is_taken_from_the_agent_unless_the_description_contradicts(agent, description, route, domain):
    header = {"ContrastBolusAgent": agent, "SeriesDescription": description, "ContrastBolusRoute": route}
    found, why = contrast_of(header)
    assert found == domain
    assert bool(why) == (domain is None)


@pytest.mark.parametrize(
    ("description", "times", "sequence"),
    [
        ("t1_mprage_sag", (2300, 2.9, 900, ["GR", "IR"]), "T1"),
        ("t1_se_tra", (500, 12, 0, "SE"), "T1"),
        ("t2_tse_tra", (4500, 96, 0, "SE"), "T2"),
        ("t2_tirm_tra_dark-fluid", (9000, 110, 2500, ["SE", "IR"]), "FLAIR"),
        ("AX FLAIR", (9000, 120, 2250, ["SE", "IR"]), "FLAIR"),
        ("PD/T2", (3000, 14, 0, "SE"), "PD"),
        ("PD/T2", (3000, 90, 0, "SE"), "T2"),
        ("axial", (500, 12, 0, "SE"), "T1"),
        ("axial", (3000, 14, 0, "SE"), "PD"),
        ("T2w", None, "T2"),
        ("axial", (1500, 50, 0, "SE"), None),
        ("axial", None, None),
        ("T2 axial", (500, 12, 0, "SE"), None),
        ("t2* gre", (700, 20, 0, "GR"), None),
        ("ep2d_diff_3scan_trace", (5000, 90, 0, "SE"), None),
        ("t1_se_tra_gd", (500, 12, 0, "SE"), None),
        ("t1 pre contrast", (500, 12, 0, "SE"), "T1"),
        ("T1+C", (500, 12, 0, "SE"), None),
        ("t1_flair", (2000, 9, 850, ["SE", "IR"]), None),
        ("PD T2", None, None),
    ],
)
def test_sequences_are_recognised_only_where_nothing_contradicts(description, times, sequence):
    header: dict[str, object] = {"SeriesDescription": description}
    if times:
        header |= dict(zip(("RepetitionTime", "EchoTime", "InversionTime", "ScanningSequence"), times))
    found, why = sequence_of(header)
    assert found == sequence
    assert bool(why) == (sequence is None)


@needs_shared("data", "dicom")
def test_real_headers_give_their_kernels_and_sequence(tmp_path):
    for archive in shared("data", "dicom").glob("*.zip"):
        zipfile.ZipFile(archive).extractall(tmp_path / archive.stem)
    made = make_datalist(tmp_path, "dicom:kernel", split=(1, 0, 0))
    kernels = {(entry["patient"], entry["domain"]) for entry in made.content["training"]}
    # UB and YA of one head phantom; STS_019 has kernel SOFT
    assert {("PLASTIC", "UB"), ("PLASTIC", "YA"), ("STS_019", "SOFT")} < kernels
    pair = make_datalist(tmp_path, "dicom:kernel", split=(0, 0, 1), domains="UB,YA", dry_run=True)
    assert [entry["patient"] for entry in pair.content["test"]] == ["PLASTIC"]
    sequence = make_datalist(tmp_path, "dicom:sequence", split=(1, 0, 0), dry_run=True)
    assert [(entry["patient"], entry["domain"]) for entry in sequence.content["training"]] == [("STS_019", "T1")]


def test_the_commands_of_the_page_run_in_order(tmp_path, monkeypatch, capsys):
    """One folder for all of them: images by name, by folder and by table, kernels, contrast and sequences."""
    rng = np.random.default_rng(0)
    table = ["patient,domain,image"]
    for number in range(3):
        for name in (
            *(f"p{number}_{part}" for part in ("T1", "T2", "label")),
            f"q{number}/soft/a",
            f"q{number}/sharp/b",
        ):
            path = tmp_path / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(rng.integers(0, 900, (4, 4, 2)).astype(np.int16), np.eye(4)), path)
        table += [f"{number},{domain},p{number}_{domain}.nii.gz" for domain in ("T1", "T2")]
        for place, agent in (("plain", ""), ("enhanced", "Iomeprol")):
            more = {"ContrastBolusAgent": agent, "ProtocolName": "Abdomen", "study": f"1.2.{number + 1}"}
            series(tmp_path / f"c{number}" / place, f"c{number}", FrameOfReferenceUID=f"1.3.{number + 1}", **more)
        for name, times in (("T1", ("500", "12")), ("T2", ("4000", "90"))):
            more = {"RepetitionTime": times[0], "EchoTime": times[1], "InversionTime": "", "ProtocolName": name}
            more |= {"study": f"1.4.{number + 1}", "FrameOfReferenceUID": f"1.5.{number + 1}"}
            series(tmp_path / f"m{number}" / name, f"m{number}", "MR", **more)
    (tmp_path / "images.csv").write_text("\n".join(table))
    paired(tmp_path / "kernels")
    found = [line for line in commands(ROOT / "docs" / "data.md") if " datalist " in line]
    assert len(found) == 7
    for line in found:
        monkeypatch.setattr(sys, "argv", shlex.split(line.replace("DATA", str(tmp_path)))[2:])
        main()
        report = capsys.readouterr().out
        assert all(f"\n{split} " in report for split in ("training", "validation", "test")), report
        lists = json.loads(Path(report.rpartition("Datalist: ")[2].strip()).read_text())
        assert [len(lists[key]) for key in ("validation", "test")] == [1, 1], line
