"""A volume on wider pixels lies where it was."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.transforms import DownSampleSlicesd


def volume(shape=(24, 16, 3), affine=None):
    data = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    image = MetaTensor(data, affine=torch.eye(4) if affine is None else torch.as_tensor(affine))
    image.meta["filename_or_obj"] = "micro.nii.gz"
    return image


def test_each_wide_pixel_lies_at_the_mean_place_of_those_that_it_holds():
    affine = nib.affines.from_matvec([[0.0, -0.3, 0.1], [0.2, 0.0, 0.0], [0.0, 0.05, 0.9]], [10.0, -20.0, 5.0])
    fine = volume(affine=affine)
    coarse = DownSampleSlicesd("image", 8)({"image": fine})["image"]
    places = nib.affines.apply_affine(affine, np.moveaxis(np.indices(fine.shape[1:]), 0, -1))
    expected = places.reshape(3, 8, 2, 8, 3, 3).mean(axis=(1, 3))
    found = nib.affines.apply_affine(np.asarray(coarse.affine), np.moveaxis(np.indices(coarse.shape[1:]), 0, -1))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    values = fine.numpy()[0].reshape(3, 8, 2, 8, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(coarse.numpy()[0], values, atol=1e-6)
    assert coarse.meta["filename_or_obj"] == "micro.nii.gz"
    np.testing.assert_allclose(fine.affine, affine)  # the fine volume is as it was


def test_a_slice_that_is_no_multiple_of_the_factor_is_refused():
    with pytest.raises(ValueError, match=r"'?micro.nii.gz'? must have .* multiples of 8 .*got 30 x 20.* 24 x 16\.$"):
        DownSampleSlicesd("image", 8)({"image": volume((30, 20, 1))})


@pytest.mark.parametrize(
    ("options", "message"),
    [({"factor": 0}, "`factor` must be >= 1, got 0"), ({"factor": 8, "downsampling": "bicubic"}, "'mean', 'spline'")],
)
def test_what_cannot_be_done_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DownSampleSlicesd("image", **options)
