"""Contrast and edge width of structures, on edges whose width is known in closed form."""

from __future__ import annotations

from math import erf, sqrt
from statistics import NormalDist

import numpy as np
import pytest

from common.metrics import contrast, edge_width, find_structures

SPACING = (0.078, 0.078)
NAMES = {1: "vessel", 2: "bronchial_wall", 5: "bronchial_lumen"}
BORDER = 40  # first column of the half-plane


def half_plane(thickness: int = 1) -> np.ndarray:
    labels = np.zeros((80, 80, thickness), dtype=np.uint8)
    labels[:, BORDER:] = 1
    return labels


def blurred(sigma_px: float, low: float = -900.0, high: float = 45.0) -> np.ndarray:
    """The half-plane's edge under a Gaussian, in closed form, at the centres of pixels."""
    distance = np.arange(80) + 0.5 - BORDER
    rise = np.array([0.5 * (1 + erf(x / (sqrt(2) * sigma_px))) if sigma_px else float(x > 0) for x in distance])
    return np.tile(low + (high - low) * rise, (80, 1))[:, :, None]


def vessel(labels: np.ndarray, slices: int = 1):
    return find_structures(labels, slices, SPACING, label_names=NAMES)["vessel"]


def test_contrast_is_the_difference_to_what_surrounds_the_structure():
    assert contrast(blurred(0.0), vessel(half_plane())) == pytest.approx(945.0)
    assert contrast(np.full((80, 80, 1), -500.0), vessel(half_plane())) == 0.0


def test_a_step_at_the_border_is_less_than_a_pixel_wide():
    assert edge_width(blurred(0.0), vessel(half_plane()), SPACING) < 0.078


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_the_width_of_a_blurred_edge_is_that_from_10_to_90_percent_of_its_gaussian(sigma):
    expected = 0.078 * sigma * (NormalDist().inv_cdf(0.9) - NormalDist().inv_cdf(0.1))
    assert edge_width(blurred(sigma), vessel(half_plane()), SPACING) == pytest.approx(expected, abs=0.006)


def test_level_and_contrast_of_an_image_do_not_change_the_width():
    expected = edge_width(blurred(2.0), vessel(half_plane()), SPACING)
    assert edge_width(-800.0 + 0.01 * blurred(2.0), vessel(half_plane()), SPACING) == pytest.approx(expected)


def test_noise_hardly_changes_the_width():
    noise = np.random.default_rng(0).normal(0.0, 200.0, (80, 80, 1))
    width = edge_width(blurred(2.0) + noise, vessel(half_plane()), SPACING)
    assert width == pytest.approx(2.56 * 2 * 0.078, rel=0.2)


def test_a_sharp_edge_that_is_not_at_its_place_is_wide():
    """Half of the rows three pixels too early: the mean profile has two steps, as wide as a ramp of three pixels."""
    image = blurred(0.0)
    image[:40] = np.roll(image[:40], -3, axis=1)
    assert edge_width(image, vessel(half_plane()), SPACING) > 2 * 0.078


def test_no_edge_and_an_inverted_one_have_the_largest_width():
    assert edge_width(np.zeros((80, 80, 1)), vessel(half_plane()), SPACING) == 1.2
    assert edge_width(-blurred(1.0), vessel(half_plane()), SPACING) == 1.2


def test_without_room_for_a_profile_there_is_no_width():
    labels = np.ones((20, 20, 1), dtype=np.uint8)
    structure = find_structures(labels, 1, SPACING, label_names=NAMES)["vessel"]
    assert edge_width(np.zeros((20, 20, 1)), structure, SPACING) is None
    assert contrast(np.zeros((20, 20, 1)), structure) is None


def test_a_structure_fills_more_than_half_of_a_thick_slice_and_its_surroundings_are_free_of_all_structures():
    labels = np.zeros((60, 60, 8), dtype=np.uint8)
    labels[20:40, 20:40, :5] = 1  # 5 of 8 micro slices
    labels[20:40, 40:44, :2] = 1  # 2 of 8: partial volume
    labels[20:40, 5:10, :] = 2
    found = find_structures(labels, 1, SPACING, label_names=NAMES)
    assert list(found) == ["vessel"]  # 100 pixels of wall are too few
    inside, ring = found["vessel"].inside, found["vessel"].ring
    assert inside.sum() == 400
    assert not ring[20:40, 40:45].any()  # the partial pixels, and less than 0.15 mm beyond them
    assert ring[30, 45]
    assert not found["vessel"].beside[20:40, 5:10].any()
    lumen = np.where(labels == 1, 5, labels)
    assert find_structures(lumen, 1, SPACING, label_names=NAMES) == {}  # lumen is no structure


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`labels` must have a multiple of 3 slices, got 8"):
        find_structures(np.zeros((8, 8, 8)), 3, SPACING)
    with pytest.raises(ValueError, match="`spacing_mm` must be 2 or 3 positive numbers"):
        find_structures(np.zeros((8, 8, 8)), 2, (0.0, 1.0))
