"""The edge curve of a blurred disc is the Gaussian's transfer function, whatever the noise, pixel size and kernel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.metrics.edge import curve_at, edge_pixels

OVERSAMPLING = 8


def blurred_disc(sigma_mm: float, spacing: tuple[float, float], radius_mm: float = 60.0) -> np.ndarray:
    """A disc of soft tissue in air, drawn and blurred on a fine grid, sampled at the pixel centres; (X, Y, 1)."""
    axes = [(np.arange(220 * OVERSAMPLING) - 110 * OVERSAMPLING) * step / OVERSAMPLING for step in spacing]
    fine = (np.hypot.outer(axes[0] - 0.17, axes[1] + 0.23) < radius_mm).astype(np.float32)
    fine = ndimage.gaussian_filter(fine, [sigma_mm * OVERSAMPLING / step for step in spacing])
    return -1000.0 + 1040.0 * fine[::OVERSAMPLING, ::OVERSAMPLING, None]


@pytest.mark.parametrize("spacing", [(0.7, 0.7), (0.6, 0.8)])
@pytest.mark.parametrize("sigma_mm", [0.4, 0.7])
def test_a_blurred_disc_has_the_gaussian_transfer_function(sigma_mm: float, spacing: tuple[float, float]) -> None:
    disc = blurred_disc(sigma_mm, spacing)
    frequency, curve = curve_at(disc, edge_pixels(disc, spacing), spacing)
    assert frequency[0] == 0
    assert curve[0] == pytest.approx(1.0)
    assert frequency[-1] <= 0.5 / max(spacing) < frequency[-1] + 0.05 + 1e-9
    # The profile's window lifts the curve of s = 0.7 mm by 0.02.
    np.testing.assert_allclose(curve, np.exp(-2 * (np.pi * sigma_mm * frequency) ** 2), atol=0.03)


def test_noise_hardly_moves_the_curve() -> None:
    mm = (0.7, 0.7)
    disc = blurred_disc(0.4, (0.7, 0.7))
    noisy = disc + np.random.default_rng(0).normal(0, 40, disc.shape)
    clean = curve_at(disc, edge_pixels(disc, mm), mm)[1]
    np.testing.assert_allclose(curve_at(noisy, edge_pixels(noisy, mm), mm)[1], clean, atol=0.06)


def test_one_set_of_places_serves_many_volumes() -> None:
    soft, sharp = blurred_disc(0.8, (0.7, 0.7)), blurred_disc(0.4, (0.7, 0.7))
    pixels = edge_pixels(sharp, (0.7, 0.7))
    frequency, ratio = (np.array(values) for values in curve_at(soft, pixels, (0.7, 0.7)))
    ratio = ratio / curve_at(sharp, pixels, (0.7, 0.7))[1]
    expected = np.exp(-2 * np.pi**2 * (0.8**2 - 0.4**2) * frequency**2)
    np.testing.assert_allclose(ratio, expected, atol=0.04)


def test_small_round_things_are_not_used() -> None:
    assert len(edge_pixels(blurred_disc(0.4, (0.7, 0.7), radius_mm=8.0), (0.7, 0.7)).voxels) == 0


def test_what_cannot_be_measured_is_refused() -> None:
    flat, disc, mm = np.zeros((60, 60, 1)), blurred_disc(0.4, (0.7, 0.7)), (0.7, 0.7)
    with pytest.raises(ValueError, match="`pixels` must cover the whole profile, got gaps"):
        curve_at(flat, edge_pixels(flat, mm), mm)
    with pytest.raises(ValueError, match="`volume_hu` must rise from air or lung to soft tissue"):
        curve_at(-disc, edge_pixels(disc, mm), mm)
