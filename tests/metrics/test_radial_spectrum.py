"""The radial power spectrum of slices and its distance."""

from __future__ import annotations

import numpy as np
import pytest

from common.metrics import radial_power_spectrum, spectrum_distance

SPACING = (0.1, 0.1)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 30.0, (96, 96, 6))


def test_white_noise_has_the_power_of_its_variance_at_every_frequency():
    frequency, power = radial_power_spectrum(noise(), SPACING)
    assert frequency[-1] <= 5.0
    assert np.all(np.diff(frequency) > 0)
    np.testing.assert_allclose(power[3:], 30.0**2 * 0.01, rtol=0.35)
    assert power.mean() == pytest.approx(9.0, rel=0.03)


def test_a_wave_has_its_power_at_its_frequency():
    x = np.arange(96) * 0.1
    wave = np.tile(np.sin(2 * np.pi * 2.5 * x)[:, None, None], (1, 96, 1))
    frequency, power = radial_power_spectrum(wave, SPACING)
    assert frequency[power.argmax()] == pytest.approx(2.5, abs=0.06)


def test_the_distance_is_in_decades_and_blind_to_position():
    first = noise()
    assert spectrum_distance(first, first, SPACING) == 0.0
    assert spectrum_distance(first * 10**0.5, first, SPACING) == pytest.approx(1.0)
    assert spectrum_distance(first / 10**0.5, first, SPACING) == pytest.approx(1.0)
    assert spectrum_distance(noise(1), first, SPACING) < 0.1


def test_an_image_without_structure_is_six_decades_off():
    assert spectrum_distance(np.zeros((96, 96, 6)), noise(), SPACING) == pytest.approx(6.0)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(
        ValueError, match=r"`prediction` must have the shape of `truth` \(96, 96, 6\), got \(96, 96, 5\)"
    ):
        spectrum_distance(noise()[:, :, :5], noise(), SPACING)
    with pytest.raises(ValueError, match="`truth` must vary from pixel to pixel"):
        spectrum_distance(noise(), np.zeros((96, 96, 6)), SPACING)
