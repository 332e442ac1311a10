"""Sharpness and checkerboards, on images whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.metrics import checkerboard_index, gradient_energy, sharpness

NOISE = np.random.default_rng(0).normal(size=(80, 72, 6))
ALL = np.ones(NOISE.shape, dtype=bool)


def test_energy_of_noise_is_twice_its_variance():
    assert gradient_energy(NOISE, ALL) == pytest.approx(2.0, rel=0.03)


def test_energy_counts_steps_within_the_mask_only():
    volume = np.zeros((40, 40, 2))
    volume[20:] = 100.0  # one step, outside of the mask
    mask = np.zeros(volume.shape, dtype=bool)
    mask[:20] = True
    assert gradient_energy(volume, mask) == 0.0


def test_sharpness_of_a_blurred_image_is_below_one():
    smooth = ndimage.gaussian_filter(NOISE, (1, 1, 0))
    assert sharpness(NOISE, NOISE, ALL) == 1.0
    assert sharpness(smooth, NOISE, ALL) < 0.1
    assert sharpness(2 * NOISE, NOISE, ALL) == pytest.approx(4.0)


@pytest.mark.parametrize("direction", ["rows", "columns", "both"])
def test_a_checkerboard_is_found_in_every_direction(direction):
    x, y = np.indices(NOISE.shape[:2])
    sign = {"rows": x, "columns": y, "both": x + y}[direction] % 2 * 2 - 1
    smooth = ndimage.gaussian_filter(NOISE, (2, 2, 0))
    assert checkerboard_index(smooth + 0.02 * sign[..., None]) > 50
    assert checkerboard_index(NOISE) < 3


def test_small_slices_are_refused():
    with pytest.raises(ValueError, match="at least 32 pixels a side, got \\(16, 40, 2\\)"):
        checkerboard_index(np.zeros((16, 40, 2)))
