"""Pixels of another size than in training: micro CT is refused, unusual clinical CT warned of."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.transforms import CheckPixelSized

CHECK = CheckPixelSized("image", [0.625, 0.625], 8)


def volume(*spacing: float) -> dict[str, MetaTensor]:
    affine = torch.as_tensor(np.diag([*spacing, 1.0]))
    return {"image": MetaTensor(torch.zeros(1, 4, 4, 4), affine=affine, meta={"filename_or_obj": "/data/scan.nii"})}


@pytest.mark.parametrize("pixel", [0.45, 0.625, 0.8])
def test_clinical_pixels_pass_without_a_word_whatever_the_slices(pixel):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CHECK(volume(pixel, pixel, 5.0))
        CHECK(volume(-pixel, pixel, 0.1))


@pytest.mark.parametrize("pixel", [0.35, 1])
def test_unusual_pixels_are_warned_of(pixel):
    with pytest.warns(UserWarning, match=rf"scan\.nii' has axial pixels of {pixel} x {pixel} mm, .* with 0\.625 mm"):
        CHECK(volume(pixel, pixel, 1.0))


def test_micro_pixels_are_refused():
    message = r"scan\.nii' has axial pixels of 0\.0781 x 0\.0781 mm, nearer to the micro CT .* another 8 times smaller"
    with pytest.raises(ValueError, match=message):
        CHECK(volume(5 / 64, 5 / 64, 5 / 64))
