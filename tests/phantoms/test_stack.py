from __future__ import annotations

import numpy as np
import pytest

from common.phantoms.stack import draw_tubes, soft_occupancy


def empty(shape=(40, 40, 40)):
    return np.full(shape, -100.0, dtype=np.float32)


def test_occupancy_is_monotone_and_symmetric_about_the_surface():
    distance = np.linspace(-3, 3, 61)
    occupancy = soft_occupancy(distance, 1.0)
    assert (np.diff(occupancy) >= 0).all()
    np.testing.assert_allclose(occupancy + occupancy[::-1], 1, atol=1e-12)
    assert occupancy[0] == 0
    assert occupancy[-1] == 1


@pytest.mark.parametrize("radius", [4.0, 9.3])
def test_occupancy_of_a_sphere_sums_to_its_volume(radius):
    axis = np.arange(-12, 13.0)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    occupancy = soft_occupancy(radius - np.sqrt(z**2 + y**2 + x**2), 0.5)
    assert occupancy.sum() == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.02)


def test_half_width_must_be_positive():
    with pytest.raises(ValueError, match=r"`half_width` must be > 0, got 0"):
        soft_occupancy(np.zeros(3), 0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 0.5, 0.8)])
@pytest.mark.parametrize("radius", [2.0, 5.0])
def test_tube_has_the_right_cross_section(spacing, radius):
    distance = empty()
    centre = [0.5 * n * s for n, s in zip(distance.shape, spacing)]
    ends = np.array([[[-100.0, *centre[1:]], [100.0, *centre[1:]]]])
    draw_tubes(distance, ends, radii=np.array([radius]), origin=(0, 0, 0), spacing=spacing)
    area = soft_occupancy(distance, 0.5 * min(spacing)).sum(axis=(1, 2)) * spacing[1] * spacing[2]
    np.testing.assert_allclose(area, np.pi * radius**2, rtol=0.05)


def test_oblique_tube_measures_the_distance_to_its_axis():
    distance = empty()
    start, end = np.array([5.0, 8.0, 10.0]), np.array([30.0, 25.0, 28.0])
    draw_tubes(distance, np.array([[start, end]]), radii=np.array([3.0]), origin=(1, 2, 3), spacing=(1, 1, 1))
    direction = (end - start) / np.linalg.norm(end - start)
    for index in np.argwhere(distance > -0.5):
        offset = index + [1, 2, 3] - start
        along = np.clip(offset @ direction, 0, np.linalg.norm(end - start))
        assert distance[tuple(index)] == pytest.approx(3 - np.linalg.norm(offset - along * direction), abs=1e-4)


def test_tubes_unite_and_leave_the_rest_untouched():
    distance = empty()
    distance[0, 0, 0] = 7.0
    ends = np.array([[[20.0, 10.0, 10.0], [20.0, 30.0, 10.0]], [[20.0, 20.0, 5.0], [20.0, 20.0, 35.0]]])
    radii = np.array([2.0, 4.0])
    together, one, other = distance.copy(), distance.copy(), distance.copy()
    draw_tubes(together, ends, radii=radii, origin=(0, 0, 0), spacing=(1, 1, 1))
    draw_tubes(one, ends[:1], radii=radii[:1], origin=(0, 0, 0), spacing=(1, 1, 1))
    draw_tubes(other, ends[1:], radii=radii[1:], origin=(0, 0, 0), spacing=(1, 1, 1))
    np.testing.assert_array_equal(together, np.maximum(one, other))
    assert together[0, 0, 0] == 7.0
    assert together[39, 39, 39] == -100.0


def test_round_end_and_point_like_tube():
    distance = empty()
    point = np.full((1, 2, 3), 20.0)
    draw_tubes(distance, point, radii=np.array([4.0]), origin=(0, 0, 0), spacing=(1, 1, 1))
    assert soft_occupancy(distance, 0.5).sum() == pytest.approx(4 / 3 * np.pi * 4**3, rel=0.03)


def test_tube_outside_the_grid_changes_nothing():
    distance = empty()
    ends = np.array([[[200.0, 0.0, 0.0], [200.0, 30.0, 0.0]]])
    draw_tubes(distance, ends, radii=np.array([2.0]), origin=(0, 0, 0), spacing=(1, 1, 1))
    np.testing.assert_array_equal(distance, empty())


def test_wrong_segments_are_refused_by_shape():
    with pytest.raises(ValueError, match=r"`segments` must have shape \(1, 2, 3\).*got \(2, 3\)"):
        draw_tubes(empty(), np.zeros((2, 3)), radii=np.ones(1), origin=(0, 0, 0), spacing=(1, 1, 1))
