"""What is not an image to translate is refused, by file name and with a cure.

A header that places voxels nowhere is refused before memory is asked for.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from common.dicom.content import to_text
from common.transforms import CheckHeaderd, CheckImaged, WarnOfContrastd, mr_contrast
from tests.helpers.brains import brain
from tests.helpers.shared import needs_shared, shared

load = Compose([CheckHeaderd("image"), LoadImaged("image"), EnsureChannelFirstd("image"), CheckImaged("image")])


def save(folder: Path, array: np.ndarray) -> dict[str, str]:
    path = folder / "scan.nii.gz"
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return {"image": str(path)}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_sound_volumes_pass(tmp_path, dtype):
    assert load(save(tmp_path, noise(8, 9, 4).astype(dtype)))["image"].shape == (1, 8, 9, 4)


def test_a_single_slice_passes(tmp_path):
    assert load(save(tmp_path, noise(8, 9, 1)))["image"].shape == (1, 8, 9, 1)


def with_nan() -> np.ndarray:
    array = noise(8, 8, 4)
    array[2, 2, 2] = np.nan
    return array


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("array", "rule", "cure"),
    [
        (noise(8, 8, 4).astype(np.complex64), "complex", "magnitude"),
        (np.zeros((8, 8, 4), RGB), "colour", "intensity image"),
        (noise(8, 8, 4, 3), "4-D", "one 3-D volume"),
        (noise(8, 8), "2 dimensions", r"\(X, Y, 1\)"),
        (np.zeros((8, 8, 4), np.float32), "all zero", "export"),
        (np.full((8, 8, 4), 7, np.float32), r"constant \(7\)", "export"),
        (with_nan(), "1 NaN", "replace"),
        (np.random.default_rng(0).integers(0, 5, (8, 8, 4)).astype(np.int16), "label map", "intensity image"),
    ],
)
def test_bad_volumes_name_file_rule_and_cure(tmp_path, array, rule, cure):
    item = save(tmp_path, array)
    with pytest.raises((ValueError, RuntimeError)) as error:
        load(item)
    root = error.value.__cause__ or error.value
    assert isinstance(root, ValueError)
    assert "scan.nii.gz" in str(root)
    assert re.search(rule, str(root))
    assert re.search(cure, str(root))


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(b"not a NIfTI file at all")
    with pytest.raises((ValueError, RuntimeError)) as error:
        load({"image": str(tmp_path / "scan.nii.gz")})
    assert "scan.nii.gz' is not a readable NIfTI file" in str(error.value.__cause__ or error.value)


def test_contrast_of_a_drawn_brain():
    assert mr_contrast(brain(inverted=False))[0] == "T1"
    assert mr_contrast(brain(inverted=True))[0] == "T2"


@needs_shared("data", "brain_mri")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cstar_stroke_T1", "T1"),
        ("cstar_stroke_T2", "T2"),
        ("TCGA-FG-6692_t1_brain", "T1"),
        ("TCGA-FG-6692_t2_brain", "T2"),
    ],
)
def test_contrast_of_real_brains(name, expected):
    volume = np.asarray(nib.load(shared("data", "brain_mri", f"{name}.nii.gz")).dataobj, dtype=np.float32)
    assert mr_contrast(volume)[0] == expected


def test_a_t2_given_as_t1_is_warned_of_with_the_evidence(caplog):
    with caplog.at_level(logging.WARNING):
        WarnOfContrastd("image", "T1")({"image": torch.as_tensor(brain(inverted=False))[None]})
        assert not caplog.records
        WarnOfContrastd("image", "T1")({"image": torch.as_tensor(brain(inverted=True))[None]})
    assert "looks T2-weighted" in caplog.text
    assert "skewness" in caplog.text


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"SeriesDescription": "t2_flair_tra", "InversionTime": 2500}, "header: FLAIR. The network knows T1 before"),
        ({"SeriesDescription": "t1_se", "ContrastBolusAgent": "Gadovist"}, r"after contrast agent, .*\(Gadovist\)"),
        ({"SeriesDescription": "ep2d_diff_adc"}, "'diff' in its description is none of T1"),
        ({"SeriesDescription": "t1_se"}, None),
        ({}, None),
    ],
)
def test_another_sequence_by_the_header_is_refused(header, words):
    volume = torch.as_tensor(brain(inverted=False))[None]
    item = {"image": MetaTensor(volume, meta={"dicom_header": to_text(header)})}
    if words is None:
        WarnOfContrastd("image", "T1")(item)
    else:
        with pytest.raises(ValueError, match=words):
            WarnOfContrastd("image", "T1")(item)


def save_grid(folder: Path, affine: np.ndarray, unit: str = "mm") -> dict[str, str]:
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), None)
    image.header.set_xyzt_units(unit)
    image.header.set_sform(affine, code=1)
    image.header["pixdim"][1:4] = 1
    nib.save(image, folder / "scan.nii")
    return {"image": str(folder / "scan.nii")}


def flat() -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 1] = affine[:3, 0]
    return affine


@pytest.mark.parametrize(
    ("affine", "unit", "rule"),
    [
        (np.eye(4), "micron", "voxel sizes in micrometres, they must be in mm"),
        (np.eye(4), "meter", "voxel sizes in metres"),
        (np.diag([1, 1, np.nan, 1]), "mm", "not finite"),
        (np.diag([1, 1, 1e4, 1]), "mm", "3 x 4 x 50000 mm large"),
        (np.diag([1, 0, 1, 1]), "mm", "3 x 0 x 5 mm large"),
        (flat(), "mm", "axes that lie in one plane"),
    ],
)
def test_an_impossible_grid_is_refused_with_file_rule_and_cure(affine, unit, rule, tmp_path):
    with pytest.raises(ValueError, match=rule) as error:
        CheckHeaderd("image")(save_grid(tmp_path, affine, unit))
    assert "scan.nii" in str(error.value)
    assert "Correct its header" in str(error.value)


@pytest.mark.parametrize("unit", ["mm", "unknown"])
def test_a_sound_grid_passes(unit, tmp_path):
    item = save_grid(tmp_path, np.diag([0.05, 0.05, 10.0, 1.0]), unit)
    assert CheckHeaderd("image")(item) == item


def test_a_header_that_promises_terabytes_is_refused_whatever_the_size_of_the_file(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((20000, 20000, 20000))
    header.set_sform(np.diag([0.01, 0.01, 0.01, 1]), 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    path = tmp_path / "scan.nii"
    path.write_bytes(header.binaryblock + bytes(4))
    with pytest.raises(ValueError, match=r"'.*scan.nii' has 8000 billion voxels by its header"):
        CheckHeaderd("image")({"image": str(path)})
