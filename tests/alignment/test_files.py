"""`python -m common align` on files: outputs, sidecars, pairs of folders, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from common.alignment import Options, align_files, align_pairs, files
from common.alignment.files import Pair
from common.files import checksum
from common.phantoms import generate_phantom
from tests.helpers.commands import ROOT, python_m
from tests.helpers.misaligned import AFFINE, body_at, moved, noisy, points, rotated
from tests.helpers.pages import commands, run_line

sitk = pytest.importorskip("SimpleITK", reason="SimpleITK (the extra `align`) is not installed")

OPTIONS = Options(method="affine")


def save(path: Path, values, affine=AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.rint(values).astype(np.int16), affine), path)
    return path


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    oblique = AFFINE @ np.array([[0, 1, 0, 0], [-1, 0, 0, 49], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    save(folder / "plain" / "p1.nii.gz", noisy(body_at(points(oblique, (46, 50, 22)), enhanced=False), 0), oblique)
    save(folder / "late" / "p1.nii.gz", moved(rotated()))
    return folder


def contents(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_command_writes_a_volume_a_mask_and_a_sidecar_on_the_fixed_grid(scans, tmp_path):
    arguments = ["align", "--fixed", scans / "plain" / "p1.nii.gz", "--moving", scans / "late" / "p1.nii.gz"]
    done = python_m("common", [*arguments, "--output_dir", tmp_path / "out", "--method", "affine"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Aligned (passed): ")
    assert "aligning: 100%" in done.stderr
    assert contents(tmp_path / "out") == ["p1_aligned.json", "p1_aligned.nii.gz", "p1_aligned_mask.nii.gz"]
    fixed, made, mask = (
        nib.load(path)
        for path in (
            scans / "plain" / "p1.nii.gz",
            *(tmp_path / "out" / f"p1_aligned{end}.nii.gz" for end in ("", "_mask")),
        )
    )
    for image in (made, mask):
        assert image.shape == fixed.shape
        np.testing.assert_allclose(image.affine, fixed.affine, atol=1e-5)
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (
            int(fixed.header["sform_code"]), int(fixed.header["qform_code"]) or int(image.header["qform_code"])
        )  # fmt: skip
    assert made.get_data_dtype() == np.int16
    values, inside = (np.asarray(image.dataobj) for image in (made, mask))
    assert set(np.unique(inside)) == {0, 1}
    assert (values[inside == 0] == -1024).all()
    truth = body_at(points(fixed.affine, fixed.shape), enhanced=True)
    body = (truth > -300) & (inside == 1)
    assert np.abs(values - truth)[body].mean() < 25
    sidecar = json.loads((tmp_path / "out" / "p1_aligned.json").read_text())
    assert sidecar["verdict"] == "passed"
    assert "not for diagnosis" in sidecar["notice"]
    assert [each["sha256"] for each in sidecar["output"]] == [
        checksum(tmp_path / "out" / each["file"]) for each in sidecar["output"]
    ]
    assert sidecar["request"]["moving"] == {"name": "p1.nii.gz", "sha256": checksum(scans / "late" / "p1.nii.gz")}


def test_a_volume_of_another_format_gives_the_same(scans, tmp_path):
    sitk.WriteImage(sitk.ReadImage(str(scans / "late" / "p1.nii.gz")), str(tmp_path / "p1.nrrd"))
    fixed = str(scans / "plain" / "p1.nii.gz")
    (first,) = align_files(fixed, str(scans / "late" / "p1.nii.gz"), tmp_path / "a", options=OPTIONS)
    (second,) = align_files(fixed, str(tmp_path / "p1.nrrd"), tmp_path / "b", options=OPTIONS)
    values = [np.asarray(nib.load(each.volume).dataobj).astype(int) for each in (first, second)]
    assert np.abs(values[0] - values[1]).mean() < 0.5


def test_folders_are_paired_by_name_and_what_is_there_is_kept(scans, tmp_path, monkeypatch):
    for kind in ("plain", "late"):
        for name in ("a/p1", "b/p2"):
            path = tmp_path / kind / f"{name}.nii.gz"
            path.parent.mkdir(parents=True)
            path.write_bytes((scans / kind / "p1.nii.gz").read_bytes())
    places = [str(tmp_path / kind) for kind in ("plain", "late")]
    made = align_files(*places, tmp_path / "out", options=OPTIONS)
    assert [each.volume.relative_to(tmp_path / "out").as_posix() for each in made] == [
        "a/p1_aligned.nii.gz", "b/p2_aligned.nii.gz"
    ]  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(files, "align_volumes", lambda *_, **__: pytest.fail("it is there"))
        assert align_files(*places, tmp_path / "out", options=OPTIONS) == made
    times = [each.volume.stat().st_mtime_ns for each in made]
    align_files(*places, tmp_path / "out", options=OPTIONS._replace(padding=-1000.0))  # other options: made again
    assert all(each.volume.stat().st_mtime_ns > time for each, time in zip(made, times))


def test_a_volume_without_a_partner_is_named(scans, tmp_path):
    for name in ("p1", "p2"):
        save(tmp_path / f"{name}.nii.gz", np.arange(6000).reshape(20, 20, 15))
    with pytest.raises(ValueError, match=r"'p2' of .* has no partner"):
        align_files(str(tmp_path), str(scans / "late"), tmp_path / "out", options=OPTIONS)
    assert not (tmp_path / "out").exists()


def test_a_pair_that_fails_is_named_at_the_end_and_the_others_are_there(scans, tmp_path):
    good, bad = str(scans / "late" / "p1.nii.gz"), str(tmp_path / "bad.nii.gz")
    Path(bad).write_bytes(b"damaged")
    fixed = str(scans / "plain" / "p1.nii.gz")
    with pytest.raises(ValueError, match=r"1 of 2 pairs could not be aligned.*\n  bad: .*bad\.nii\.gz"):
        align_pairs([Pair(fixed, bad, "bad"), Pair(fixed, good, "good")], tmp_path / "out", options=OPTIONS)
    assert contents(tmp_path / "out") == [f"good_aligned{end}" for end in (".json", ".nii.gz", "_mask.nii.gz")]


def test_nothing_is_left_when_writing_fails(scans, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_json", full)
    with pytest.raises(OSError, match=r"No space left on device.*Make room"):
        align_files(*(str(scans / kind / "p1.nii.gz") for kind in ("plain", "late")), tmp_path / "out", options=OPTIONS)
    assert [name for name in os.listdir(tmp_path / "out")] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [({"method": "demons"}, "`method` must be one of affine, bspline, got 'demons'"), ({"grid_mm": "x"}, "`grid_mm`")],
)
def test_wrong_options_are_refused_before_anything_is_read(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        align_pairs([Pair("no", "files", "x")], tmp_path / "out", options=Options(**options))
    assert not (tmp_path / "out").exists()


def test_without_simpleitk_the_command_names_the_extra(scans, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ValueError, match=r"the extra `align`"):
        align_files(*(str(scans / kind / "p1.nii.gz") for kind in ("plain", "late")), tmp_path / "out", options=OPTIONS)
    assert not (tmp_path / "out").exists()


def test_the_commands_of_the_page_run(scans, tmp_path):
    generate_phantom("abdomen", tmp_path / "DATA", patients=4, slices=6, size=64)
    places = {name: scans / kind / "p1.nii.gz" for name, kind in (("FIXED", "plain"), ("MOVING", "late"))}
    places |= {name: tmp_path / name for name in ("DATA", "OUT")}
    found = commands(ROOT / "docs" / "alignment.md")
    assert len(found) >= 2
    for command in found:
        line = re.sub(r"\b(" + "|".join(places) + r")\b", lambda match: str(places[match.group()]), command)
        done = run_line(
            f"{line} --method affine --doubtful True" if "--data" in line else f"{line} --method affine", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "OUT" / "datalist.json").is_file()
