"""Images of another scale than a super-resolution is trained for."""

from __future__ import annotations

import logging

import pytest
import torch
from monai.data import MetaTensor

from common.transforms import CheckTrainingPixeld

EXPECTED = [0.625 / 8, 0.625 / 8]


def check(pixel_mm: float) -> None:
    affine = torch.diag(torch.tensor([pixel_mm, pixel_mm, 0.5, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.zeros(1, 4, 4, 2), affine=affine, meta={"filename_or_obj": "scans/specimen.nii.gz"})
    CheckTrainingPixeld("image", EXPECTED)({"image": image})


@pytest.mark.parametrize("pixel_mm", [0.078, 0.07, 0.09])
def test_pixels_as_expected_pass_in_silence(pixel_mm, caplog):
    check(pixel_mm)
    assert not caplog.records


@pytest.mark.parametrize("pixel_mm", [0.042, 0.052])
def test_the_papers_micro_ct_passes_with_a_warning(pixel_mm, caplog):
    with caplog.at_level(logging.WARNING):
        check(pixel_mm)
    assert "specimen.nii.gz" in caplog.text
    assert "too large or too small" in caplog.text


@pytest.mark.parametrize("factor", [2, 4, 16])
def test_a_micro_volume_of_another_factor_is_refused(factor):
    with pytest.raises(ValueError, match=r"specimen.nii.gz.* expected are 0.0781 x 0.0781 mm: clinical .* `factor`"):
        check(0.625 / factor)


def test_a_bad_expectation_is_named():
    with pytest.raises(ValueError, match=r"`pixel_mm` must be 2 positive numbers in mm, got \[0.6\]"):
        CheckTrainingPixeld("image", [0.6])
