"""A view of a NIfTI file on the disk shows what MONAI loads into memory."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import LoadImage

from common.dicom import image_readers
from common.images.nifti import forget_pages, grid_doubts, is_nifti_volume, map_nifti, set_space, space_codes

AFFINE = np.array([[-0.7, 0.02, 0, 30], [0.01, 0, -0.7, 20], [0, 1.5, 0, -300], [0, 0, 0, 1.0]])


def save(path, dtype, scaling=None, shape=(7, 5, 6)):
    values = np.random.default_rng(0).integers(0, 200, shape)
    image = nib.Nifti1Image(values.astype(np.dtype(dtype).newbyteorder("=")), AFFINE)
    image.header.set_data_dtype(dtype)
    if scaling is not None:
        image.header.set_slope_inter(*scaling)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("scaling", [None, (0.5, -1000.0)])
@pytest.mark.parametrize("dtype", ["uint8", "<i2", ">i2", "<u2", "<i4", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_values_and_meta_data_are_those_that_monai_loads(tmp_path, suffix, dtype, scaling):
    path = save(tmp_path / f"a{suffix}", dtype, scaling)
    mapped, loaded = map_nifti(path), LoadImage(reader="NibabelReader")(str(path))
    torch.testing.assert_close(mapped.float().as_tensor(), loaded.as_tensor(), rtol=0, atol=0)
    torch.testing.assert_close(mapped.affine, loaded.affine, rtol=0, atol=0)
    assert mapped.meta.keys() == loaded.meta.keys()
    assert mapped.meta["filename_or_obj"] == str(path)


def test_whole_numbers_stay_what_they_are_and_the_file_as_well(tmp_path):
    path = save(tmp_path / "a.nii", "<i2")
    before = path.read_bytes()
    mapped = map_nifti(path)
    assert mapped.dtype == torch.int16
    mapped += 1
    assert path.read_bytes() == before


def test_a_compressed_file_is_unpacked_slice_by_slice(tmp_path):
    path = save(tmp_path / "a.nii.gz", "<i2", shape=(256, 256, 60))
    tracemalloc.start()
    mapped = map_nifti(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mapped.nbytes == 60 * 256 * 256 * 2
    assert peak < mapped.nbytes / 4


def test_other_files_are_not_taken(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 1), np.int16), np.eye(4)), tmp_path / "a.nii")
    assert not is_nifti_volume(tmp_path / "a.nii")
    assert not is_nifti_volume(tmp_path / "absent.nii")
    assert not is_nifti_volume(["series", "IM1"])
    assert is_nifti_volume(save(tmp_path / "b.nii", "<i2"))


def contradicting(path, *, pixdim=None, qform=None, codes=(1, 1)):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), None)
    image.header.set_data_dtype(np.int16)
    image.set_sform(AFFINE, code=codes[0])
    image.set_qform(AFFINE if qform is None else qform, code=codes[1])
    if pixdim is not None:
        image.header["pixdim"][1:4] = pixdim
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({}, None),
        ({"pixdim": [1, 1, 1]}, "by pixdim, but 0.7001 x 1.5 x 0.7 mm by its sform"),
        ({"pixdim": [1, 1, 1], "codes": (1, 0)}, "by pixdim, but"),
        ({"qform": np.diag([0.7001, 1.5, 0.7, 1])}, "sform and qform place it up to"),
        ({"qform": np.diag([0.7001, 1.5, 0.7, 1]), "codes": (4, 1)}, None),  # a standard space beside the scanner's
    ],
)
def test_the_sform_is_the_truth_and_a_contradiction_is_noted(tmp_path, faults, words):
    path = contradicting(tmp_path / "a.nii", **faults)
    for image in (LoadImage(reader=image_readers())(str(path)), map_nifti(path)):
        np.testing.assert_allclose(image.affine.numpy(), AFFINE, atol=1e-6)
        noted = image.meta.get("doubts", "")
        assert words in noted if words else noted == ""


def test_a_file_without_codes_has_a_doubt(tmp_path):
    (doubt,) = grid_doubts(nib.load(contradicting(tmp_path / "a.nii", codes=(0, 0))))
    assert "no orientation (sform and qform codes 0)" in doubt


@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 1), (4, 1), (0, 0)])
def test_codes_are_kept_with_the_affine(tmp_path, codes):
    first = nib.load(contradicting(tmp_path / "a.nii", codes=codes))
    image = LoadImage(reader=image_readers())(str(tmp_path / "a.nii"))
    copy = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), None)
    set_space(copy, image.affine.numpy(), space_codes(image.meta))
    nib.save(copy, tmp_path / "b.nii")
    second = nib.load(tmp_path / "b.nii")
    np.testing.assert_allclose(second.affine, first.affine, atol=1e-3)
    assert [int(second.header[f"{form}_code"]) for form in ("sform", "qform")] == list(codes)


def test_without_codes_another_affine_gets_one(tmp_path):
    """Else readers would derive another place from the voxel sizes alone."""
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), None)
    set_space(image, AFFINE, (0, 0))
    np.testing.assert_allclose(image.header.get_best_affine(), AFFINE, atol=1e-6)


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
def test_a_volume_of_freesurfer_is_what_nibabel_says(tmp_path, suffix):
    values = np.random.default_rng(0).integers(0, 900, (7, 5, 6)).astype(np.int32)
    nib.save(nib.MGHImage(values, AFFINE), tmp_path / f"a{suffix}")
    image = LoadImage(reader=image_readers(), dtype=None)(str(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(image.numpy(), values)
    np.testing.assert_allclose(image.affine.numpy(), AFFINE, atol=1e-5)
    assert space_codes(image.meta) == (1, 1)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_what_was_read_of_a_file_is_given_back_and_read_again(tmp_path, suffix):
    values = np.random.default_rng(0).integers(0, 999, (256, 256, 128)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / f"a{suffix}")
    mapped = map_nifti(tmp_path / f"a{suffix}")[None]
    total = int(mapped.long().sum())
    held = mapped_mb()
    forget_pages(mapped[..., :3])  # any view stands for the whole
    assert held - mapped_mb() > 0.9 * values.nbytes / 2**20
    assert int(mapped.long().sum()) == total == int(values.astype(int).sum())


def mapped_mb() -> float:
    """What this process holds of mapped files."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux says it")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) / 1024


def test_a_volume_in_memory_is_not_forgotten():
    volume = torch.arange(64.0).reshape(1, 4, 4, 4)
    forget_pages(volume)
    assert volume.sum() == 63 * 32
