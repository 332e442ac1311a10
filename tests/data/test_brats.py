"""The slices of NEC's paper from a folder in BraTS' layout: split, slice, resampling, and what is refused."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Resize

from common.data import load_datalist, prepare_brats
from tests.helpers.brats import write_brats

SETTING = {"subjects": (2, 2, 1, 2), "axial_slice": 3, "side": 64}


def name(number: int) -> str:
    return f"BraTS-GLI-{number:05d}-000"


@pytest.mark.parametrize("year", [2023, 2021])
def test_subjects_are_split_in_lexicographic_order(tmp_path, year):
    path = prepare_brats(write_brats(tmp_path / "brats", year=year), tmp_path / "slices", **SETTING)
    content = json.loads(path.read_text())
    patients = {
        part: [int(entry["patient"][-9:-4] if year == 2023 else entry["patient"][-5:]) for entry in content[part]]
        for part in ("training", "training_paired", "validation", "test")
    }
    assert patients == {"training": [0, 1, 2, 3], "training_paired": [0, 1], "validation": [4], "test": [5, 6]}
    assert [entry["domain"] for entry in content["training"]] == ["T1", "T1", "T2", "T2"]
    assert len(list(path.parent.glob("*.nii.gz"))) == 2 + 4 + 2 + 4  # the T2 of the first subjects for Pix2Pix
    assert len(load_datalist(path.parent, "test")) == 2


def test_a_slice_is_the_numbered_one_resampled_over_the_same_field(tmp_path):
    folder = write_brats(tmp_path / "brats")
    prepare_brats(folder, tmp_path / "slices", **SETTING)
    original = nib.load(folder / name(0) / f"{name(0)}-t1n.nii.gz")
    image = nib.load(tmp_path / "slices" / f"{name(0)}_T1.nii.gz")
    assert image.shape == (64, 64, 1)
    pixels = original.get_fdata(dtype=np.float32)[None, :, :, 2:3]
    expected = Resize((64, 64, 1), mode="trilinear")(pixels)
    np.testing.assert_allclose(image.get_fdata(), np.asarray(expected[0]), atol=1e-3)
    corner = np.array([-0.5, -0.5, 0, 1])
    np.testing.assert_allclose(image.affine @ corner, original.affine @ (corner + [0, 0, 2, 0]), atol=1e-5)
    np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine), [60 / 64, 60 / 64, 1], atol=1e-6)


def test_what_is_there_is_kept_and_another_setting_refused(tmp_path):
    folder = write_brats(tmp_path / "brats")
    path = prepare_brats(folder, tmp_path / "slices", **SETTING)
    before = path.stat().st_mtime_ns
    assert prepare_brats(None, tmp_path / "slices", **SETTING) == path
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"must hold slices of the same setting, .*'axial_slice': 4.*, got .*: 3"):
        prepare_brats(folder, tmp_path / "slices", **{**SETTING, "axial_slice": 4})


def test_what_is_no_brats_folder_is_refused_by_name(tmp_path):
    folder = write_brats(tmp_path / "brats")
    with pytest.raises(ValueError, match="`brats_dir` must be given"):
        prepare_brats(None, tmp_path / "slices", **SETTING)
    with pytest.raises(
        FileNotFoundError, match=r"`brats_dir` must be the folder of the BraTS training set, got .*absent"
    ):
        prepare_brats(tmp_path / "absent", tmp_path / "slices", **SETTING)
    with pytest.raises(ValueError, match=r"one folder for each of 1251 subjects, got 7: choose fewer with `--subjects"):
        prepare_brats(folder, tmp_path / "slices")
    with pytest.raises(ValueError, match=r"`subjects` must be the numbers >= 1 .*, got \[2, 2\]"):
        prepare_brats(folder, tmp_path / "slices", subjects=[2, 2])
    with pytest.raises(ValueError, match=r"with a slice 6, counted from 1 .*, got the shape \(60, 60, 5\)"):
        prepare_brats(folder, tmp_path / "slices", **{**SETTING, "axial_slice": 6})
    (folder / name(1) / f"{name(1)}-t1n.nii.gz").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"must hold the T1-weighted image of the subject, .*-t1n.nii.gz or .*_t1"
    ):
        prepare_brats(folder, tmp_path / "slices", **SETTING)
    assert not (tmp_path / "slices" / "datalist.json").exists()


def test_a_volume_whose_last_axis_is_not_axial_is_refused(tmp_path):
    folder = write_brats(tmp_path / "brats")
    path = folder / name(0) / f"{name(0)}-t1n.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(image.get_fdata(), image.affine[:, [2, 0, 1, 3]]), path)
    with pytest.raises(ValueError, match="must have axial slices along its last axis, got"):
        prepare_brats(folder, tmp_path / "slices", **SETTING)
