"""Noise level, spectrum and the uniform places where they are measured, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.metrics.noise import UniformPatches, noise_power_spectrum, noise_sd, uniform_patches

SIGMA = 20.0


def noise(spacing: tuple[float, float], sigma: float = SIGMA, size: int = 240) -> np.ndarray:
    return np.random.default_rng(0).normal(30.0, sigma, (size, size, 4))


@pytest.mark.parametrize("spacing", [(0.6, 0.6), (0.8, 0.7)])
def test_white_noise_is_flat_at_variance_times_pixel_area(spacing: tuple[float, float]) -> None:
    volume = noise(spacing)
    frequency, power = noise_power_spectrum(volume, uniform_patches(volume, spacing), spacing)
    level = SIGMA**2 * spacing[0] * spacing[1]
    kept = frequency > 0.15  # below it the plane is removed
    np.testing.assert_allclose(power[kept], level, rtol=0.05)
    assert frequency[-1] <= 0.5 / max(spacing)
    # A flat spectrum over the rectangle of frequencies 1/dx by 1/dy integrates to the variance.
    np.testing.assert_allclose(power[kept].mean() / (spacing[0] * spacing[1]), SIGMA**2, rtol=0.02)


def test_blurred_noise_follows_the_squared_transfer_function() -> None:
    spacing, blur = (0.6, 0.6), 0.5
    volume = ndimage.gaussian_filter(noise(spacing, 100.0), [blur / 0.6, blur / 0.6, 0])
    frequency, power = noise_power_spectrum(volume, uniform_patches(volume, spacing), spacing)
    kept = (frequency > 0.15) & (frequency < 0.6)
    expected = 100.0**2 * 0.36 * np.exp(-4 * (np.pi * blur * frequency) ** 2)
    np.testing.assert_allclose(power[kept], expected[kept], rtol=0.12)


def test_the_corners_of_the_spectrum_are_optional() -> None:
    volume = noise((0.6, 0.6))
    patches = uniform_patches(volume, (0.6, 0.6))
    assert noise_power_spectrum(volume, patches, (0.6, 0.6), corners=True)[0].max() > 1.1 * 0.5 / 0.6


def test_patches_avoid_structure_and_other_tissue() -> None:
    volume = np.random.default_rng(0).normal(0, 15, (200, 200, 2)) - 850.0
    volume[40:160, 40:160] += 890.0
    volume[95:105, 40:160] -= 110.0  # a layer of fat
    patches = uniform_patches(volume, (0.7, 0.7))
    assert len(patches.corners) > 10
    assert (np.diff(patches.structure) >= 0).all()
    for x, y, _ in patches.corners:
        assert x >= 40
        assert y >= 40
        assert x + patches.size[0] <= 160
        assert y + patches.size[1] <= 160
        assert x + patches.size[0] <= 97 or x >= 103  # a pixel or two of the layer hide in the tolerance


def test_the_same_places_are_found_at_any_noise_level() -> None:
    structure = 60 * ndimage.gaussian_filter(np.random.default_rng(1).normal(0, 1, (200, 200)), 8) * 8 + 20
    structure[60:140, 60:140] = 40.0
    sharp, soft = (structure[..., None] + noise((0.7, 0.7), level, 200)[:, :, :1] - 30.0 for level in (15.0, 5.0))
    places = [set(map(tuple, uniform_patches(volume, (0.7, 0.7)).corners.tolist())) for volume in (sharp, soft)]
    assert len(places[0] & places[1]) > 0.8 * max(map(len, places))


def test_air_has_no_patches_and_no_spectrum() -> None:
    patches = uniform_patches(np.full((100, 100, 1), -1000.0), (0.7, 0.7))
    assert patches.corners.shape == (0, 3)
    with pytest.raises(ValueError, match="`patches` must hold at least one patch, got none"):
        noise_power_spectrum(np.zeros((100, 100, 1)), patches, (0.7, 0.7))


def test_the_sd_is_about_the_mean_of_each_slice() -> None:
    volume = noise((1.0, 1.0)) + 100.0 * np.arange(4)
    mask = np.zeros(volume.shape, dtype=bool)
    mask[20:120, 20:120] = True
    assert abs(noise_sd(volume, mask) - SIGMA) < 0.3


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="`size_mm` must be positive, got -1"):
        uniform_patches(np.zeros((9, 9, 1)), (1.0, 1.0), size_mm=-1)
    with pytest.raises(ValueError, match=r"`volume_hu` must have 3 dimensions \(X, Y, Z\), got shape \(9, 9\)"):
        uniform_patches(np.zeros((9, 9)), (1.0, 1.0))
    with pytest.raises(ValueError, match=r"`mask` must have the shape of `volume_hu` \(9, 9, 1\), got \(9, 9\)"):
        noise_sd(np.zeros((9, 9, 1)), np.ones((9, 9)))
    with pytest.raises(ValueError, match="`mask` must hold at least 2 voxels of one slice"):
        noise_sd(np.zeros((9, 9, 1)), np.zeros((9, 9, 1)))
    one = UniformPatches(np.array([[0, 0, 0]]), (4, 4), np.zeros(1))
    with pytest.raises(ValueError, match="`spacing_mm` must be 2 or 3 positive numbers"):
        noise_power_spectrum(np.zeros((9, 9, 1)), one, (1.0,))
