"""Energies of bands reach the reference's, whatever the source kernel; HU, padding and large structures stay."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.baselines.kernels.band_energy import SIGMAS_MM, BandEnergyNormalization, band_energies

MM = (0.8, 0.8, 5.0)


def chest(sigma_mm: float, seed: int = 0) -> np.ndarray:
    """A body with two lungs full of vessels, and noise as wide as a kernel of `sigma_mm` leaves it."""
    rng = np.random.default_rng(seed)
    x, y = np.mgrid[:200, :200] * MM[0] - 80
    plane = np.where((x / 75) ** 2 + (y / 60) ** 2 < 1, 40.0, -1000.0)
    lungs = ((abs(x) - 35) / 26) ** 2 + (y / 40) ** 2 < 1
    vessels = ndimage.gaussian_filter(rng.normal(size=(200, 200)), 3) > 0.12
    volume = np.repeat(np.where(lungs, np.where(vessels, -100.0, -850.0), plane)[..., None], 2, axis=2)
    noise = ndimage.gaussian_filter(rng.normal(0, 150, volume.shape), [sigma_mm / MM[0], sigma_mm / MM[0], 0])
    blurred = ndimage.gaussian_filter(volume, [sigma_mm / MM[0], sigma_mm / MM[0], 0])
    return np.rint(np.clip(blurred + noise, -1024, 3071))


def test_every_source_gets_the_energies_of_the_reference() -> None:
    reference = BandEnergyNormalization.fit(band_energies(chest(0.9, seed), MM) for seed in (5, 6))
    for sigma in (0.4, 0.6, 1.3):
        source = chest(sigma)
        before, after = band_energies(source, MM), band_energies(reference.apply(source, MM), MM)
        assert abs(np.log(before / reference.energies_hu)).max() > 0.15
        np.testing.assert_allclose(after, reference.energies_hu, rtol=0.06)  # 5 %, and what clipping changes


def test_it_brings_a_sharp_scan_nearer_to_the_same_patient_in_the_soft_kernel() -> None:
    soft, sharp = chest(0.9), chest(0.4)
    reference = BandEnergyNormalization.fit([band_energies(chest(0.9, 5), MM)])
    found = reference.apply(sharp, MM)
    assert np.sqrt(np.mean((found - soft) ** 2)) < 0.6 * np.sqrt(np.mean((sharp - soft) ** 2))
    assert abs(found.mean() - sharp.mean()) < 2
    assert found.dtype == np.float32


def test_a_scan_of_the_reference_itself_does_not_change() -> None:
    source = chest(0.9)
    np.testing.assert_array_equal(BandEnergyNormalization(band_energies(source, MM)).apply(source, MM), source)


def test_padding_stays_and_values_are_those_of_12_bits() -> None:
    source = chest(0.4)
    source[:20, :20] = -2000
    found = BandEnergyNormalization(np.full(len(SIGMAS_MM), 400.0)).apply(source, MM)
    assert (found[:20, :20] == -2000).all()
    assert found[20:].min() >= -1024
    assert found.max() <= 3071


def test_without_a_lung_the_whole_image_counts() -> None:
    noise = np.random.default_rng(0).normal(40, 20, (64, 64, 3))
    whole = BandEnergyNormalization(band_energies(noise, MM) * 0.5).apply(noise, MM)
    assert abs(whole.std() / noise.std() - 0.5) < 0.05


def test_coefficients_travel_as_json_and_broken_ones_are_refused() -> None:
    baseline = BandEnergyNormalization([5.0, 4.0, 3.0, 2.0, 1.0])
    assert BandEnergyNormalization.from_dict(baseline.to_dict()).energies_hu.tolist() == [5, 4, 3, 2, 1]
    with pytest.raises(ValueError, match="must be 5 numbers >= 0"):
        BandEnergyNormalization([1.0, 2.0])
    with pytest.raises(ValueError, match="must be 5 numbers >= 0"):
        BandEnergyNormalization([1.0, 2.0, -1.0, 1.0, 1.0])


def test_a_band_finer_than_the_pixels_is_left_alone() -> None:
    wide = (8.0, 8.0, 5.0)
    noise = np.random.default_rng(0).normal(40, 20, (48, 48, 2))
    own = band_energies(noise, wide)
    assert own[0] == 0
    found = band_energies(BandEnergyNormalization(own / 2).apply(noise, wide), wide)
    wanted = np.where(own > 0.01, own / 2, own)
    np.testing.assert_allclose(found, wanted, rtol=0.06)
