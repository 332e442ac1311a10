from __future__ import annotations

import numpy as np
import pytest

from common.phantoms.fields import PeriodicField, gaussian_random_field, multiscale_noise


def correlation(a, b) -> float:
    """Correlation of two samples of a field whose mean is known to be 0."""
    return float((a * b).mean() / np.sqrt((a**2).mean() * (b**2).mean()))


def draws(sigma, shape=(256, 256), count=6):
    return np.stack([gaussian_random_field(np.random.default_rng(seed), shape, sigma=sigma) for seed in range(count)])


@pytest.mark.parametrize("sigma", [0, 0.4, 1.5, 5.0, (1.0, 7.0)])
def test_random_field_has_zero_mean_and_unit_variance(sigma):
    fields = draws(sigma)
    assert fields.dtype == np.float32
    assert fields.mean() == pytest.approx(0, abs=0.1)
    assert fields.var() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("sigma", [2.0, 6.0])
@pytest.mark.parametrize("distance_in_sigma", [1.0, 2.0, 4.0])
def test_random_field_correlates_over_the_filter_width(sigma, distance_in_sigma):
    fields = draws(sigma)
    lag = round(distance_in_sigma * sigma)
    # The autocorrelation of a Gaussian of SD sigma is a Gaussian of SD sqrt(2) sigma.
    expected = np.exp(-(distance_in_sigma**2) / 4)
    assert correlation(fields[:, lag:], fields[:, :-lag]) == pytest.approx(expected, abs=0.07)
    assert correlation(fields[:, :, lag:], fields[:, :, :-lag]) == pytest.approx(expected, abs=0.07)


def test_anisotropic_field_is_rougher_along_the_narrow_axis():
    fields = draws((1.0, 7.0))
    assert correlation(fields[:, 4:], fields[:, :-4]) < 0.1
    assert correlation(fields[:, :, 4:], fields[:, :, :-4]) > 0.8


@pytest.mark.parametrize("sigma", [1.0, 3.0, 8.0])
def test_opposite_faces_of_a_random_field_are_independent(sigma):
    length = int(5 * sigma)
    rng = np.random.default_rng(0)
    fields = np.stack([gaussian_random_field(rng, (length, 200), sigma=(sigma, 0)) for _ in range(20)])
    assert abs(correlation(fields[:, 0], fields[:, -1])) < 0.1


def test_axis_much_shorter_than_the_filter_keeps_unit_variance_over_draws():
    rng = np.random.default_rng(0)
    fields = np.stack([gaussian_random_field(rng, (2, 3), sigma=40.0) for _ in range(2000)])
    assert fields.var() == pytest.approx(1, abs=0.12)
    np.testing.assert_allclose(fields[:, 0], fields[:, 1], atol=0.2)


def test_random_field_depends_on_the_seed_only():
    first, again, other = (gaussian_random_field(np.random.default_rng(s), (9, 31), sigma=3.0) for s in (5, 5, 6))
    np.testing.assert_allclose(first, again)
    assert np.abs(first - other).max() > 0.1


def test_negative_filter_width_is_refused():
    with pytest.raises(ValueError, match=r"`sigma` must be >= 0 voxels, got -1.0"):
        gaussian_random_field(np.random.default_rng(0), (4, 4), sigma=-1.0)


def test_multiscale_noise_has_unit_variance_and_the_millimetre_scale():
    scales, spacing = ((6.0, 3.0), (1.0, 4.0)), (1.0, 2.0)
    fields = np.stack(
        [multiscale_noise(np.random.default_rng(s), (200, 200), scales=scales, spacing=spacing) for s in range(6)]
    )
    assert fields.var() == pytest.approx(1, abs=0.1)
    # 4 mm apart the fine part (16 / 25 of the variance) has decayed, the coarse one (9 / 25) hardly.
    expected = (9 * np.exp(-16 / (4 * 36)) + 16 * np.exp(-16 / 4)) / 25
    assert correlation(fields[:, 4:], fields[:, :-4]) == pytest.approx(expected, abs=0.07)
    assert correlation(fields[:, :, 2:], fields[:, :, :-2]) == pytest.approx(expected, abs=0.07)


class TestPeriodicField:
    @pytest.fixture(scope="class")
    def field(self):
        return PeriodicField.noise(np.random.default_rng(1), 4.0, period_mm=150.0)

    @pytest.fixture(scope="class")
    def points(self):
        return np.random.default_rng(2).uniform(-200, 200, (3, 40_000)).astype(np.float32)

    def test_unit_variance_between_the_nodes(self, field, points):
        assert field.at(*points).var() == pytest.approx(1, abs=0.08)

    def test_correlates_over_the_filter_width(self, field, points):
        z, y, x = points
        here = field.at(z, y, x)
        assert correlation(here, field.at(z, y, x + 4)) == pytest.approx(np.exp(-1 / 4), abs=0.06)
        assert correlation(here, field.at(z + 8, y, x)) == pytest.approx(np.exp(-1), abs=0.08)

    def test_repeats_after_its_period(self, field, points):
        z, y, x = points[:, :1000]
        np.testing.assert_allclose(field.at(z, y, x), field.at(z + 150, y - 150, x + 300), atol=1e-3)

    def test_grid_and_scattered_points_agree(self, field):
        axes = [np.linspace(-40, 50, n).astype(np.float32) for n in (3, 7, 11)]
        grid = np.meshgrid(*axes, indexing="ij")
        np.testing.assert_allclose(field.on_grid(*axes), field.at(*grid), atol=1e-4)

    def test_node_values_are_met(self, field):
        step = field.step_mm[0]
        at_node = field.at(*(np.array([n * step], dtype=np.float32) for n in (2, 3, 5)))
        assert at_node[0] == pytest.approx(field.values[2, 3, 5], abs=1e-4)
