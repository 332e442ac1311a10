from __future__ import annotations

import numpy as np
import pytest

from common.phantoms.ct import KERNELS, modulation

# MTF50 and MTF10 in lp/cm as the kernels are specified (docs of the phantom), not read from the code.
PUBLISHED = {"B30f": (3.5, 6.0), "B50f": (5.5, 8.5), "B70f": (8.5, 12.0)}
FREQUENCY = np.linspace(0, 2.5, 2501)  # lp/mm


def test_the_kernels_are_the_published_ones():
    assert list(KERNELS) == list(PUBLISHED)


@pytest.mark.parametrize("kernel", PUBLISHED)
def test_modulation_falls_to_half_and_a_tenth_where_published(kernel):
    curve = modulation(kernel, FREQUENCY)
    for level, published in zip((0.5, 0.1), PUBLISHED[kernel], strict=True):
        last_above = FREQUENCY[np.flatnonzero(curve >= level)[-1]]
        assert 10 * last_above == pytest.approx(published, abs=0.02)


@pytest.mark.parametrize("kernel", PUBLISHED)
def test_modulation_is_one_at_zero_and_vanishes_at_high_frequencies(kernel):
    curve = modulation(kernel, FREQUENCY)
    assert curve[0] == 1
    assert (curve >= 0).all()
    assert curve[-1] < 1e-3


def test_only_the_sharpest_kernel_enhances_edges_much():
    peaks = {kernel: modulation(kernel, FREQUENCY).max() for kernel in PUBLISHED}
    assert peaks["B30f"] == 1
    assert peaks["B50f"] < 1.1
    assert peaks["B70f"] == pytest.approx(1.29, abs=0.02)  # the prototype's measurement


def test_a_smooth_kernel_without_overshoot_has_the_closed_form():
    # T(f) = exp(-(f / f0)^n): n = ln(ln 10 / ln 2) / ln(f10 / f50).
    exponent = np.log(np.log(10) / np.log(2)) / np.log(6.0 / 3.5)
    expected = 0.5 ** ((10 * FREQUENCY / 3.5) ** exponent)
    np.testing.assert_allclose(modulation("B30f", FREQUENCY), expected, atol=1e-9)


def test_sharper_kernels_pass_more_everywhere():
    soft, medium, sharp = (modulation(kernel, FREQUENCY[100:1200]) for kernel in PUBLISHED)  # from 1 lp/cm
    assert (medium > soft).all()
    assert (sharp > medium).all()


def test_shape_of_the_frequencies_is_kept():
    assert modulation("B50f", np.zeros((3, 2))).shape == (3, 2)
    assert modulation("B50f", 0.0) == 1


def test_an_unknown_kernel_is_named():
    with pytest.raises(ValueError, match=r"`kernel` must be one of 'B30f', 'B50f', 'B70f', got 'B31f'\."):
        modulation("B31f", 0.1)
