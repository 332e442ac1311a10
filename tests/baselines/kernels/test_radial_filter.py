"""The radial filter does in millimetres what it says, at any pixel size, and keeps what is not its business."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.baselines.kernels.radial_filter import RadialFilter

KNOTS = np.linspace(0.0, 2.0, 401)


def gaussian(sigma_mm: float) -> RadialFilter:
    """The transfer function of a Gaussian blur, exp(-2 pi^2 s^2 f^2)."""
    return RadialFilter(KNOTS, np.exp(-2 * (np.pi * sigma_mm * KNOTS) ** 2), "paired")


@pytest.mark.parametrize("spacing", [(0.55, 0.55, 5.0), (0.85, 0.7, 1.0)])
@pytest.mark.parametrize("periods", [3, 17, 40])
def test_a_wave_is_multiplied_by_its_gain(spacing: tuple[float, float, float], periods: int) -> None:
    size = 120
    wave = np.cos(2 * np.pi * periods * (np.arange(size) + 0.5) / size)  # symmetric at both borders
    volume = np.broadcast_to(wave[:, None, None], (size, 31, 2))
    gain = np.interp(periods / (size * spacing[0]), [0.0, 0.3, 1.0], [1.0, 2.0, 0.25])
    filtered = RadialFilter([0.0, 0.3, 1.0], [1.0, 2.0, 0.25], "paired").apply(volume, spacing)
    assert filtered.dtype == np.float32
    np.testing.assert_allclose(filtered, gain * volume, atol=2e-5)


def test_an_oblique_wave_is_multiplied_by_the_gain_of_its_radial_frequency() -> None:
    x, y = np.meshgrid(0.6 * np.arange(200), 0.8 * np.arange(160), indexing="ij")
    wave = 100 * np.sin(2 * np.pi * (0.18 * x + 0.24 * y) + 0.4)[..., None]  # 0.3 lp/mm
    filtered = gaussian(0.8).apply(wave, (0.6, 0.8, 3.0))
    inner = (slice(40, -40), slice(40, -40))
    np.testing.assert_allclose(filtered[inner], np.exp(-2 * (np.pi * 0.8 * 0.3) ** 2) * wave[inner], atol=0.5)


@pytest.mark.parametrize("spacing", [(0.55, 0.55), (0.85, 0.6)])
def test_a_gaussian_agrees_with_scipy_up_to_the_border(spacing: tuple[float, float]) -> None:
    volume = np.random.default_rng(0).normal(40, 100, (61, 80, 2))
    expected = ndimage.gaussian_filter(volume, [1.2 / spacing[0], 1.2 / spacing[1], 0], mode="reflect", truncate=8)
    np.testing.assert_allclose(gaussian(1.2).apply(volume, spacing), expected, atol=0.3)


def test_what_lies_at_one_border_does_not_reach_the_other() -> None:
    volume = np.zeros((100, 60, 1))
    volume[:10] = 1000.0
    # 500 HU at the border if it did; the kinks between knots leave a tenth of a HU.
    assert np.abs(gaussian(2.0).apply(volume, (0.7, 0.7))[70:]).max() < 0.5


def test_the_mean_is_kept_and_the_unit_filter_changes_nothing() -> None:
    volume = np.random.default_rng(0).integers(-1000, 2000, (40, 51, 3)).astype(np.int16)
    unit = RadialFilter([0.0, 1.0], [1.0, 1.0], "unpaired")
    np.testing.assert_array_equal(unit.apply(volume, (0.7, 0.7, 2.0)), volume.astype(np.float32))
    np.testing.assert_allclose(gaussian(1.0).apply(volume, (0.7, 0.7)).mean(), volume.mean(), atol=1e-2)


def test_padding_stays_and_metal_keeps_its_excess() -> None:
    volume = np.zeros((64, 64, 1))
    volume[:8], volume[30:34, 30:34] = -3024.0, 9000.0
    limited = np.clip(volume, -1024, 3071)
    filtered = gaussian(1.0).apply(volume, (0.7, 0.7))
    assert (filtered[:8] == -3024.0).all()
    excess = (filtered - gaussian(1.0).apply(limited, (0.7, 0.7)))[8:]
    np.testing.assert_allclose(excess, (volume - limited)[8:], atol=1e-2)


def test_the_round_trip_is_exact() -> None:
    fitted = gaussian(0.7)
    again = RadialFilter.from_dict(fitted.to_dict())
    np.testing.assert_array_equal(again.gains, fitted.gains)
    np.testing.assert_array_equal(again.frequencies_lp_mm, fitted.frequencies_lp_mm)
    assert again.kind == "paired"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0, 1.0], [1.0, 0.5], "best"), "`kind` must be one of paired, spectra, noise, unpaired, got 'best'"),
        (([0.0, 1.0], [1.0, 0.5, 0.1], "paired"), "`gains` must have one value for each of the 2"),
        (([0.1, 1.0], [1.0, 0.5], "paired"), "`frequencies_lp_mm` must rise from 0"),
        (([0.0, 1.0], [0.9, 0.5], "paired"), "`gains` must begin with 1 so that HU are kept, got 0.9"),
    ],
)
def test_wrong_coefficients_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RadialFilter(*arguments)


def test_wrong_volumes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`volume_hu` must have 3 dimensions \(X, Y, Z\), got shape \(4, 4\)"):
        gaussian(1.0).apply(np.zeros((4, 4)), (1.0, 1.0))
    with pytest.raises(ValueError, match="`spacing_mm` must be 2 or 3 positive numbers in mm"):
        gaussian(1.0).apply(np.zeros((4, 4, 1)), (0.0, 1.0))
    with pytest.raises(ValueError, match="`volume_hu` must be finite"):
        gaussian(1.0).apply(np.full((4, 4, 1), np.nan), (1.0, 1.0))
