"""Histogram matching: known monotone and inverted relations are recovered, and only coefficients are kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from common.baselines import HistogramMatching, InvertedHistogramMatching


def anatomy(seed: int, *, slices: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Uniformly distributed tissue values in (0, 1), shape (40, 36, slices), and the mask they fill."""
    mask = np.zeros((40, 36, slices), dtype=bool)
    mask[6:34, 5:31] = True
    return np.random.default_rng(seed).uniform(0.05, 0.95, mask.shape), mask


def encoded(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask, values, -1.0).astype(np.float32)


def interior(mask: np.ndarray) -> np.ndarray:
    """Without the rim, of which the mask's median filter takes a few pixels."""
    inner = np.zeros_like(mask)
    inner[8:32, 7:29] = True
    return inner


def test_a_rising_relation_is_recovered() -> None:
    (tissue, mask), (other, _) = anatomy(0), anatomy(1)
    baseline = HistogramMatching.fit([encoded(1.6 * other**3 - 0.7, mask)])
    predicted = baseline.predict(encoded(2 * tissue**0.5 - 1, mask))
    inside = interior(mask)
    assert np.abs(predicted - (1.6 * tissue**3 - 0.7))[inside].mean() < 0.03


def test_a_falling_relation_is_recovered_by_the_inverted_one_only() -> None:
    (tissue, mask), (other, _) = anatomy(0), anatomy(1)
    truth, target = 0.9 - 1.6 * tissue**2, encoded(0.9 - 1.6 * other**2, mask)
    source = encoded(1.8 * tissue - 0.9, mask)
    inside = interior(mask)
    inverted = InvertedHistogramMatching.fit([target]).predict(source)
    assert np.abs(inverted - truth)[inside].mean() < 0.04
    monotone = HistogramMatching.fit([target]).predict(source)
    assert np.abs(monotone - truth)[inside].mean() > 0.4


@pytest.mark.parametrize(("kind", "sign"), [(HistogramMatching, 1.0), (InvertedHistogramMatching, -1.0)])
def test_the_map_is_monotone(kind: type[HistogramMatching], sign: float) -> None:
    (tissue, mask), (other, _) = anatomy(2), anatomy(3)
    predicted = kind(np.sort(other.ravel()[:256])).predict(encoded(tissue, mask))
    inside = interior(mask)
    assert spearmanr(tissue[inside], predicted[inside]).statistic == pytest.approx(sign, abs=1e-4)
    order = np.argsort(tissue[inside])
    assert (np.diff(sign * predicted[inside][order]) >= 0).all()


@pytest.mark.parametrize("kind", [HistogramMatching, InvertedHistogramMatching])
def test_background_becomes_minus_one(kind: type[HistogramMatching]) -> None:
    tissue, mask = anatomy(0)
    predicted = kind([0.2, 0.9]).predict(encoded(tissue, mask))
    assert (predicted[~mask] == -1.0).all()
    assert (predicted[interior(mask)] >= 0.2).all()
    assert predicted.dtype == np.float32
    assert (kind([0.2, 0.9]).predict(np.full((12, 12, 2), -1.0)) == -1.0).all()


def test_quantiles_are_averaged_over_the_volumes() -> None:
    _, mask = anatomy(0)
    volumes = [encoded(np.full(mask.shape, value), mask) for value in (0.1, 0.5, 0.6)]
    np.testing.assert_allclose(HistogramMatching.fit(volumes, count=5).quantiles, np.full(5, 0.4), atol=1e-7)


def test_volumes_are_streamed() -> None:
    tissue, mask = anatomy(0)
    fitted = HistogramMatching.fit(encoded(tissue, mask) for _ in range(3))
    np.testing.assert_allclose(fitted.quantiles, HistogramMatching.fit([encoded(tissue, mask)]).quantiles)


def test_errors() -> None:
    with pytest.raises(ValueError, match="`quantiles` must be at least 2 finite numbers"):
        HistogramMatching([0.1])
    with pytest.raises(ValueError, match="`quantiles` must not fall"):
        HistogramMatching([0.5, 0.1])
    with pytest.raises(ValueError, match="`target_volumes` must hold at least one volume with foreground, got none"):
        HistogramMatching.fit([])
    with pytest.raises(ValueError, match=r"`encoded` must be encoded to \[-1, 1\], got values 0 to 700"):
        HistogramMatching([0.0, 1.0]).predict(np.array([[[0.0, 700.0]]]))
    with pytest.raises(ValueError, match="`count` must be >= 2 quantiles, got 1"):
        HistogramMatching.fit([], count=1)
