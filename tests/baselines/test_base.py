"""Nearest and bicubic interpolation of axial slices: nothing shifts, and constants and ramps are kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.baselines import Interpolation


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("mode", ["nearest", "bicubic"])
def test_the_centre_of_mass_stays_where_it_is(mode, factor):
    volume = np.zeros((12, 10, 2), dtype=np.float32)
    volume[4:6, 5:8, 0], volume[7, 4, 1] = 1.0, 1.0
    finer = Interpolation(mode, factor).predict(volume)
    assert finer.shape == (12 * factor, 10 * factor, 2)
    for z in range(2):
        coarse = (np.array(ndimage.center_of_mass(volume[:, :, z])) + 0.5) * factor
        np.testing.assert_allclose(np.array(ndimage.center_of_mass(finer[:, :, z])) + 0.5, coarse, atol=1e-3)


def test_nearest_repeats_every_pixel():
    volume = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    expected = volume.repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(Interpolation("nearest", 4).predict(volume), expected)


def test_bicubic_keeps_a_ramp_away_from_the_border():
    ramp = np.tile(np.arange(12.0)[:, None, None], (1, 12, 1))
    finer = Interpolation("bicubic", 2).predict(ramp)[6:-6, 6:-6, 0]
    expected = (np.arange(24) + 0.5) / 2 - 0.5
    # Keys' kernel with a = -0.75 is exact for constants; at a quarter of a pixel its weights give a ramp 3/64 off.
    np.testing.assert_allclose(finer, np.tile(expected[6:-6, None], (1, 12)), atol=3 / 64 + 1e-6)
    constant = Interpolation("bicubic", 8).predict(np.full((4, 4, 1), -850.0))
    np.testing.assert_allclose(constant, -850.0, rtol=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"`mode` must be one of \('nearest', 'bicubic'\), got 'linear'"):
        Interpolation("linear", 2)
    with pytest.raises(ValueError, match="`factor` must be >= 1, got 0"):
        Interpolation("bicubic", 0)
    with pytest.raises(ValueError, match=r"`volume` must have 3 dimensions \(X, Y, Z\), got shape \(4, 4\)"):
        Interpolation("bicubic", 2).predict(np.zeros((4, 4)))
