"""The emphysema index counts what lies below the threshold inside the lung, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from common.metrics.kernel import emphysema_index


def test_the_share_of_a_known_mask() -> None:
    volume = np.full((10, 10, 2), 40.0)
    lung = np.zeros(volume.shape, dtype=bool)
    lung[:8] = True
    volume[lung] = -870.0
    volume[:2, :, 0] = -980.0  # 20 of 160 voxels
    volume[9] = -1000.0  # air outside the lung
    assert emphysema_index(volume, lung) == pytest.approx(12.5)
    assert emphysema_index(volume, lung, threshold_hu=-860.0) == 100.0


def test_noise_raises_the_index_by_the_normal_tail() -> None:
    volume = np.random.default_rng(0).normal(-870.0, 60.0, (60, 60, 20))
    expected = 100 * stats.norm.cdf((-950.0 + 870.0) / 60.0)
    assert emphysema_index(volume, np.ones(volume.shape)) == pytest.approx(expected, abs=0.5)


def test_wrong_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="`lung_mask` must hold at least one voxel, got none"):
        emphysema_index(np.zeros((4, 4, 1)), np.zeros((4, 4, 1)))
    with pytest.raises(ValueError, match=r"`lung_mask` must have the shape of `volume_hu` \(4, 4, 1\), got \(4, 4\)"):
        emphysema_index(np.zeros((4, 4, 1)), np.ones((4, 4)))
