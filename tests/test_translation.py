"""`common.translate` and `python -m common translate`: the voxels of MONAI's command line, and nothing left behind."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import common
from common.__main__ import translate
from common.inference import FailedCasesError
from common.release import build_release
from common.translation import translate_to_files
from tests.helpers.bundles import done, run
from tests.helpers.commands import python_m
from tests.helpers.dicom_series import write_source_series
from tests.helpers.translations import BUNDLES, CT_AFFINE, OPTIONS, save, source, trunk


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """The system's folder of temporary files, an empty one."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return build_release(BUNDLES / "ggcl", tmp_path_factory.mktemp("dist"))


def left(folder: Path) -> list[str]:
    """What is left in a folder, besides the cache that torch keeps for the next program."""
    return [path.name for path in folder.iterdir() if not path.name.startswith("torchinductor_")]


def voxels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.asanyarray(image.dataobj), image.affine


@pytest.mark.parametrize("bundle", OPTIONS)
def test_both_ways_give_the_voxels_of_monais_command_line(bundle, tmp_path, scratch):
    scan = save(tmp_path / "scan.nii.gz", *source(bundle))
    options = [word for name, value in OPTIONS[bundle].items() for word in (f"--{name}", value)]
    line = ["--dataset_dir", scan, "--output_dir", tmp_path / "monai", *options]
    done(run(BUNDLES / bundle, "inference", ["inference"], *line, cwd=tmp_path))
    (expected,) = (tmp_path / "monai").glob("*.nii*")

    line = ["translate", scan, "--bundle", bundle, "--output_dir", tmp_path / "ours", *options]
    printed = done(python_m("common", line, cwd=tmp_path)).stdout
    found = tmp_path / "ours" / expected.name
    assert f"): {found}\n" in printed
    assert {path.name for path in found.parent.iterdir()} == {path.name for path in expected.parent.iterdir()}
    for ours, monais in zip(voxels(found), voxels(expected), strict=True):
        np.testing.assert_array_equal(ours, monais)
        assert ours.dtype == monais.dtype

    made = common.translate(scan, bundle=bundle, **OPTIONS[bundle])
    np.testing.assert_array_equal(made.image.numpy(), voxels(expected)[0])
    np.testing.assert_array_equal(made.image.affine.numpy(), voxels(expected)[1])
    assert made.image.numpy().dtype == voxels(expected)[0].dtype
    assert f"Translation ({made.verdict})" in printed
    assert made.facts["verdict"] == made.verdict
    assert made.files == []
    assert left(scratch) == []


def test_the_warnings_of_the_call_are_returned_and_the_files_kept_on_request(tmp_path):
    series = write_source_series(tmp_path / "series", trunk(), CT_AFFINE, "CT")
    made = common.translate(series, bundle="ggcl", target="B30f", output_dir=tmp_path / "out", output_format="both")
    assert made.verdict == "warned"
    assert any("has the target kernel B30f already" in message for message in made.warnings)
    assert [path.name for path in made.files] == [f"series_synthetic_B30f{end}" for end in (".nii.gz", "", ".json")]
    assert all(path.exists() for path in made.files)
    assert common.translate(series, bundle="ggcl", target="B70f").warnings == []


def test_a_zip_of_a_series_is_translated_and_removed_again(tmp_path, scratch):
    series = write_source_series(tmp_path / "series", trunk(), CT_AFFINE, "CT")
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as packed:
        for file in series.iterdir():
            packed.write(file, f"study/{file.name}")
    made = common.translate(tmp_path / "series.zip", bundle="ggcl", target="B70f")
    whole = common.translate(series, bundle="ggcl", target="B70f")
    np.testing.assert_array_equal(made.image.numpy(), whole.image.numpy())
    assert left(scratch) == []


def test_a_released_zip_is_checked_used_and_removed_again(release, tmp_path, scratch):
    scan = save(tmp_path / "scan.nii.gz", *source("ggcl"))
    made = common.translate(scan, bundle=release, **OPTIONS["ggcl"])
    whole = common.translate(scan, bundle="ggcl", **OPTIONS["ggcl"])
    np.testing.assert_array_equal(made.image.numpy(), whole.image.numpy())
    assert made.facts["weights_sha256"] == whole.facts["weights_sha256"]
    assert not [place for place in sys.path if place.startswith(str(scratch))]
    evil = tmp_path / "evil_v1.zip"
    with zipfile.ZipFile(release) as zipped, zipfile.ZipFile(evil, "w") as changed:
        for name in zipped.namelist():
            changed.writestr(name, zipped.read(name))
        changed.writestr("ggcl/../../outside.txt", "x")
    with pytest.raises(ValueError, match="leads out of its folder"):
        common.translate(scan, bundle=evil)
    assert left(scratch) == []


def test_a_release_of_another_version_is_refused(release, tmp_path, scratch):
    scan, other = save(tmp_path / "scan.nii.gz", *source("ggcl")), tmp_path / "ggcl_v9.9.9.zip"
    with zipfile.ZipFile(release) as zipped, zipfile.ZipFile(other, "w") as changed:
        for name in zipped.namelist():
            changed.writestr(name, re.sub(rb"import release_\d+_\d+_\d+_", b"import release_9_9_9_", zipped.read(name)))
    with pytest.raises(ValueError, match=r"`bundle` '.*zip': this bundle needs `common` 9\.9\.9 .* one release\.$"):
        common.translate(scan, bundle=other, **OPTIONS["ggcl"])
    assert left(scratch) == []


def test_a_bundle_is_found_by_its_folder_and_by_its_name_in_a_folder(release, tmp_path):
    scan = save(tmp_path / "scan.nii.gz", *source("ggcl"))
    zipfile.ZipFile(release).extractall(tmp_path / "bundles")
    (tmp_path / "bundles" / "ggcl").rename(tmp_path / "bundles" / "mine")
    by_name = common.translate(scan, bundle="mine", bundle_dir=tmp_path / "bundles", **OPTIONS["ggcl"])
    by_folder = common.translate(scan, bundle=tmp_path / "bundles" / "mine", **OPTIONS["ggcl"])
    assert by_name.facts["bundle"] == by_folder.facts["bundle"] == "mine"
    known = r"must be one of \['ggcl', 'kcgan_kernel_conversion', 'mine', 'nec_t1t2', 'nect2cect', 'sr_cyclegan'\]"
    with pytest.raises(ValueError, match=known + ".*got 'mne'"):
        common.translate(scan, bundle="mne", bundle_dir=tmp_path / "bundles")


@pytest.mark.parametrize(
    ("bundle", "options", "message"),
    [
        ("ggcl", {"target": "B40f"}, "`target` must be one of B30f, B50f, B70f, got 'B40f'"),
        ("ggcl", {"target": {"B30f": 0.5, "B40f": 0.5}}, "`target` must be one of B30f, B50f, B70f, got 'B40f'"),
        ("nec_t1t2", {"target": "FLAIR"}, "`target` must be one of T2, got 'FLAIR'"),
        ("nec_t1t2", {"target": {"T1": 0.5, "T2": 0.5}}, r"`target` must be one of T2, got \{'T1'"),
        ("ggcl", {"gards": "warn"}, "has no use for the id 'gards'.* Did you mean 'guards'"),
        ("ggcl", {"dataset_dir": "x"}, "`dataset_dir` must be left out, as `scan` sets it, got 'x'"),
        ("ggcl", {"output_format": "dicom"}, "`output_format` must be 'nifti' or 'both'.*got 'dicom'"),
        ("nec_t1t2", {}, "is all zero"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason_and_leaves_nothing(bundle, options, message, tmp_path, scratch):
    volume, affine = source(bundle)
    scan = save(tmp_path / "scan.nii.gz", volume if options else np.zeros_like(volume), affine)
    with pytest.raises(ValueError, match=message):
        common.translate(scan, bundle=bundle, output_dir=tmp_path / "out", **options)
    assert not [path for path in (tmp_path / "out").rglob("*")]
    assert left(scratch) == []


def test_a_missing_scan_and_several_volumes_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`scan` '.*absent.nii' does not exist \(from .*\). Give a NIfTI file"):
        common.translate(tmp_path / "absent.nii", bundle="ggcl")
    for name, seed in (("a", 0), ("b", 1)):
        save(tmp_path / "in" / f"{name}.nii.gz", *source("ggcl", seed))
    with pytest.raises(ValueError, match="holds 2 volumes, and one is returned: give one of them, or let `python -m"):
        common.translate(tmp_path / "in", bundle="ggcl")
    written = translate_to_files(tmp_path / "in", tmp_path / "out", bundle="ggcl", **OPTIONS["ggcl"])
    assert [path.name for path, _ in written] == ["a_synthetic_B70f.nii.gz", "b_synthetic_B70f.nii.gz"]
    options = OPTIONS["ggcl"] | {"skip_done": True}
    assert translate_to_files(tmp_path / "in", tmp_path / "out", bundle="ggcl", **options) == []
    with pytest.raises(ValueError, match="was translated before: leave `skip_done` out"):
        common.translate(tmp_path / "in" / "a.nii.gz", output_dir=tmp_path / "out", bundle="ggcl", **options)
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"no image")
    with pytest.raises(FailedCasesError, match="1 of 2 images failed and have no output; 1 were translated"):
        translate_to_files(tmp_path / "in", tmp_path / "out2", bundle="ggcl", **OPTIONS["ggcl"])
    assert [path.name for path in (tmp_path / "out2").glob("*.nii.gz")] == ["a_synthetic_B70f.nii.gz"]


def test_the_command_line_ends_an_expected_error_in_one_line(tmp_path):
    scan = save(tmp_path / "scan.nii.gz", *source("ggcl"))
    line = ["translate", scan, "--bundle", "ggcl", "--target", "B40f", "--output_dir", tmp_path / "out"]
    process = python_m("common", line, cwd=tmp_path)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == "error: `target` must be one of B30f, B50f, B70f, got 'B40f'."
    assert "Traceback" not in process.stderr


def test_to_import_common_stays_cheap():
    lines = ["import sys, common", "assert 'torch' not in sys.modules", "common.translate", "sys.modules['torch']"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_a_map_of_half_widths_is_not_called_a_translation(monkeypatch, capsys):
    files = [
        (Path("OUT", "a_synthetic_T2.nii.gz"), "passed"),
        (Path("OUT", "a_synthetic_T2_uncertainty.nii.gz"), "passed"),
    ]
    monkeypatch.setattr("common.translation.translate_to_files", lambda *_, **__: files)
    translate("a.nii.gz", output_dir="OUT", bundle="nec_t1t2")
    assert capsys.readouterr().out.splitlines() == [
        f"Translation (passed): {files[0][0]}",
        f"Half-widths: {files[1][0]}",
    ]
