"""The seam metric, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from common.metrics import seam_ratio


def test_a_step_at_the_borders_is_found_and_one_elsewhere_is_not():
    """Along X all steps are 1, along Y all are 2; borders add 3 and 4."""
    x, y = np.meshgrid(np.arange(6.0), np.arange(5.0), indexing="ij")
    image = x + 2 * y
    assert seam_ratio(image, ([3], [2])) == pytest.approx((5 * 1 + 6 * 2) / 11 / ((20 * 1 + 18 * 2) / 38))
    image += 3 * (x >= 3) + 4 * (y >= 2)
    assert seam_ratio(image, ([3], [2])) == pytest.approx((5 * 4 + 6 * 6) / 11 / ((20 * 1 + 18 * 2) / 38))
    assert seam_ratio(image, ([2], [1])) < 1


def test_slices_of_a_volume_count_together_and_constants_have_no_seam():
    volume = np.zeros((4, 4, 3))
    assert seam_ratio(volume, ([2], [])) == 1
    volume[2:, :, 1] = 5
    assert seam_ratio(volume, ([2], [])) == float("inf")


def test_borders_must_lie_in_the_image():
    with pytest.raises(ValueError, match=r"`borders` along axis 1 must lie in 1 \.\.\. 3, got \[4\]\."):
        seam_ratio(np.zeros((4, 4)), ([], [4]))
    with pytest.raises(ValueError, match="must hold at least one border"):
        seam_ratio(np.zeros((4, 4)), ([], []))
