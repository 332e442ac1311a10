"""Figure 5 in numbers: what is removed where contrast was is correct, what is changed elsewhere is false."""

from __future__ import annotations

import numpy as np
import pytest

from common.metrics import removal_maps, removal_metrics

SPACING = (2.0, 2.0, 5.0)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """(NECT, CECT): a body of 40 HU in which a square of 40 pixels a side is 100 HU brighter after contrast."""
    nect = np.full((120, 120, 2), -1000.0)
    nect[10:110, 10:110] = 40.0
    cect = nect.copy()
    cect[40:80, 40:80] = 140.0
    return nect, cect


def test_a_perfect_remover_removes_all_and_changes_nothing_else(pair: tuple[np.ndarray, np.ndarray]) -> None:
    nect, cect = pair
    values = removal_metrics(nect, nect, source=cect, spacing_mm=SPACING)
    assert values["removal_correct_hu"] == values["removal_true_hu"]
    # The region is the square and a rim of 2 pixels, where the smoothed step still exceeds 6 HU.
    assert values["removal_true_hu"] == pytest.approx(100.0 * 40**2 / 44**2, rel=0.05)
    assert values["removal_false_hu"] == 0.0


def test_half_of_the_removal_is_half_of_the_number(pair: tuple[np.ndarray, np.ndarray]) -> None:
    nect, cect = pair
    values = removal_metrics((nect + cect) / 2, nect, source=cect, spacing_mm=SPACING)
    assert values["removal_correct_hu"] == pytest.approx(values["removal_true_hu"] / 2)


def test_change_elsewhere_is_false_whatever_its_sign(pair: tuple[np.ndarray, np.ndarray]) -> None:
    nect, cect = pair
    synthetic = nect.copy()
    synthetic[12:22, 12:108] += 25.0
    synthetic[96:106, 12:108] -= 25.0
    maps = removal_maps(synthetic, nect, cect, spacing_mm=SPACING)
    assert np.abs(maps.correct).sum() == pytest.approx(100.0 * 40**2 * 2)
    assert np.abs(maps.false).sum() == pytest.approx(25.0 * 2 * 10 * 96 * 2)
    assert set(np.unique(maps.false)) == {-25.0, 0.0, 25.0}
    assert not (maps.correct * maps.false).any()
    np.testing.assert_array_equal(maps.correct + maps.false, cect - synthetic)


def test_the_maps_end_with_the_body(pair: tuple[np.ndarray, np.ndarray]) -> None:
    nect, cect = pair
    synthetic = nect.copy()
    synthetic[:5] += 500.0
    maps = removal_maps(synthetic, nect, cect, spacing_mm=SPACING)
    assert not maps.false.any()
    body = np.zeros(nect.shape, dtype=bool)
    body[:, :, 0] = True
    assert not removal_maps(nect, nect, cect, spacing_mm=SPACING, body=body).correct[:, :, 1].any()


def test_what_is_undefined_is_left_out(pair: tuple[np.ndarray, np.ndarray]) -> None:
    nect, _ = pair
    assert removal_metrics(nect, nect, spacing_mm=SPACING) == {}
    assert removal_metrics(nect, nect, source=nect, spacing_mm=SPACING) == {"removal_false_hu": 0.0}


def test_unequal_shapes_are_refused(pair: tuple[np.ndarray, np.ndarray]) -> None:
    nect, cect = pair
    with pytest.raises(ValueError, match=r"`synthetic_nect` must have the shape \(120, 120, 2\)"):
        removal_maps(nect[1:], nect, cect, spacing_mm=SPACING)
