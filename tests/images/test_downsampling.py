"""Slices on wider pixels, against numpy and against another implementation of the spline."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.images.downsampling import DOWNSAMPLINGS
from tests.helpers import released_sr


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_the_mean_is_that_of_each_wide_pixel(factor):
    slices = torch.randn(3, 5 * factor, 4 * factor, generator=torch.Generator().manual_seed(0))
    expected = slices.numpy().reshape(3, 5, factor, 4, factor).mean(axis=(2, 4))
    np.testing.assert_allclose(DOWNSAMPLINGS["mean"](slices, factor), expected, atol=1e-6)


def test_the_spline_is_the_released_codes_slice_by_slice():
    slices = torch.randn(3, 40, 64, generator=torch.Generator().manual_seed(0))
    expected = np.stack([released_sr.reduced(one.numpy()) for one in slices])
    np.testing.assert_allclose(DOWNSAMPLINGS["spline"](slices, 8), expected, atol=1e-5)


def test_the_spline_shifts_a_structure_at_the_edge_by_half_a_wide_pixel():
    ramp = torch.arange(64.0).repeat(1, 64, 1)
    coarse = {name: down(ramp, 8)[0, 4] for name, down in DOWNSAMPLINGS.items()}
    np.testing.assert_allclose(coarse["mean"], 8 * np.arange(8) + 3.5)
    np.testing.assert_allclose(coarse["spline"], 9 * np.arange(8), atol=0.1)  # from 0 to 63
