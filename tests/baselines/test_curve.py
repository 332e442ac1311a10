"""The intensity curve equals the conditional mean that scipy computes, and is the best curve there is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binned_statistic

from common.baselines import IntensityCurve


@pytest.fixture
def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(7)
    made = []
    for _ in range(3):
        source = rng.uniform(-1, 1, (20, 18, 4))
        target = np.cos(4 * source) * 0.7 + rng.normal(0, 0.1, source.shape)
        made.append((source.astype(np.float32), target.clip(-1, 1).astype(np.float32)))
    return made


def test_equals_the_conditional_mean(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    source, target = (np.concatenate([pair[k].ravel() for pair in pairs]).astype(np.float64) for k in (0, 1))
    curve = IntensityCurve.fit(pairs, bins=32)
    for kind, mine in ((source, curve.source_values), (target, curve.target_values)):
        expected = binned_statistic(source, kind, statistic="mean", bins=32, range=(-1, 1)).statistic
        np.testing.assert_allclose(mine, expected, atol=1e-9)


def test_recovers_a_curve_that_is_not_monotone(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    grid = np.linspace(-0.95, 0.95, 50).reshape(5, 5, 2)
    assert np.abs(IntensityCurve.fit(pairs, bins=64).predict(grid) - 0.7 * np.cos(4 * grid)).max() < 0.08


def test_no_polynomial_of_the_source_is_better(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    source, target = (np.concatenate([pair[k].ravel() for pair in pairs]) for k in (0, 1))
    mine = ((IntensityCurve.fit(pairs).predict(source[:, None, None]).ravel() - target) ** 2).mean()
    for degree in range(9):
        polynomial = np.polyval(np.polyfit(source, target, degree), source)
        assert mine < ((polynomial - target) ** 2).mean() + 1e-9


def test_empty_bins_are_bridged() -> None:
    source = np.array([-0.5, -0.5, 0.5, 0.5]).reshape(2, 2, 1)
    curve = IntensityCurve.fit([(source, source * -1.6)])
    predicted = curve.predict(np.array([[[-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]]])).ravel()
    np.testing.assert_allclose(predicted, [0.8, 0.8, 0.0, -0.4, -0.8, -0.8], atol=1e-6)


def test_errors() -> None:
    cube = np.zeros((4, 4, 2))
    with pytest.raises(ValueError, match=r"`pairs` must be aligned, got \(4, 4, 2\) and \(4, 4, 1\) voxels"):
        IntensityCurve.fit([(cube, cube[..., :1])])
    with pytest.raises(ValueError, match=r"`pairs` must hold at least one aligned pair .* got 0 voxels in 0 bins"):
        IntensityCurve.fit([])
    with pytest.raises(ValueError, match="got 32 voxels in 1 bins"):
        IntensityCurve.fit([(cube, cube)])
    with pytest.raises(ValueError, match="`bins` must be >= 2, got 1"):
        IntensityCurve.fit([], bins=1)
    with pytest.raises(ValueError, match="`source_values` must rise"):
        IntensityCurve([0.5, 0.5], [0.0, 1.0])
    with pytest.raises(ValueError, match="one value for each of the 2 `source_values`, got 3"):
        IntensityCurve([0.0, 0.5], [0.0, 1.0, 0.5])


def test_clipped_values_are_kept_on_request_and_have_no_part_in_the_fit() -> None:
    rng = np.random.default_rng(3)
    source = rng.uniform(-1.6, 1.6, (30, 20, 4)).clip(-1, 1)
    target = np.where(np.abs(source) < 1, source + 0.2, 0.0)  # beside the window's ends stands something else
    target = target.clip(-1, 1)
    curve = IntensityCurve.fit([(source, target)], bins=64, keep_clipped=True)
    predicted = curve.predict(source)
    clipped = np.abs(source) == 1
    np.testing.assert_array_equal(predicted[clipped], source[clipped].astype(np.float32))
    middle = np.abs(source) < 0.7
    np.testing.assert_allclose(predicted[middle], source[middle] + 0.2, atol=0.01)
    # Without it, half of the voxels at the ends drag the whole of them along.
    assert np.abs(IntensityCurve.fit([(source, target)], bins=64).predict(source)[clipped]).max() < 0.9
    again = IntensityCurve.from_dict(curve.to_dict())
    np.testing.assert_array_equal(again.predict(source), predicted)
    assert "keep_clipped" not in IntensityCurve([0.0, 1.0], [0.0, 1.0]).to_dict()
