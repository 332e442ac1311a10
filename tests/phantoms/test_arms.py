"""Arms beside the body of a CT phantom."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from common.phantoms.arms import CORTEX_HU, Arms
from common.phantoms.stack import Stack


def test_arms_stand_beside_the_body_with_tissue_and_bone():
    stack = Stack(np.array([0.0, 5.0]), 5.0, (300, 300), 1.4)
    body = np.broadcast_to(np.hypot(stack.y / 100, stack.x / 160) < 1, stack.shape)
    hu = np.where(body, np.float32(40), np.float32(-1000))
    arms = Arms.draw(np.random.default_rng(0), stack, hu)
    wide = arms.beside(hu)
    assert wide.shape == arms.bone.shape == arms.widened(body).shape == (2, 300, 300 + 2 * arms.margin)
    np.testing.assert_array_equal(wide[arms.widened(body)], 40)
    tissue, number = ndimage.label(wide[0] > -300)
    assert number == 3
    areas = np.sort(np.bincount(tissue.ravel())[1:])[:2] * 1.4**2 / 100
    assert np.all((areas > 45) & (areas < 85))  # cm2 of an upper arm
    assert 1000 < wide.max() <= CORTEX_HU
    assert wide[arms.bone].min() > -150
    assert wide[:, :, [0, -1]].max() == -1000
    assert hu.max() == 40  # not changed in place


def test_arms_in_the_field_of_view_widen_nothing():
    stack = Stack(np.array([0.0]), 5.0, (300, 500), 1.4)
    hu = np.where(np.hypot(stack.y / 80, stack.x / 100) < 1, np.float32(40), np.float32(-1000))
    arms = Arms.draw(np.random.default_rng(1), stack, np.broadcast_to(hu, stack.shape))
    assert arms.margin == 0
