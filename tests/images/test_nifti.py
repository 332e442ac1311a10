"""A view of a NIfTI file on the disk shows what MONAI loads into memory."""

from __future__ import annotations

import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import LoadImage

from common.images.nifti import is_nifti_volume, map_nifti

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
