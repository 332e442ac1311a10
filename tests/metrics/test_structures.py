"""Contrast and edge width of structures, on edges whose width is known in closed form."""

from __future__ import annotations

from math import erf, sqrt

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


def test_a_step_at_the_border_is_a_pixel_wide():
    assert edge_width(blurred(0.0), vessel(half_plane()), SPACING) == pytest.approx(0.078)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_the_width_of_a_blurred_edge_is_that_of_its_gaussian(sigma):
    reach = 7  # whole pixels in 0.6 mm: the outermost profile bin lies at 7.5 - 0.5 + 0.5 pixels
    ends = erf((reach + 0.5) / (sqrt(2) * sigma))
    steepest = erf(0.5 / (sqrt(2) * sigma))  # rise over the pixel across the border, as a share of the whole
    expected = 0.078 * ends / steepest
    assert edge_width(blurred(sigma), vessel(half_plane()), SPACING) == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(0.078 * sqrt(2 * np.pi) * sigma, rel=0.05)  # 2.51 standard deviations


def test_the_width_of_a_ramp_is_its_length():
    distance = np.arange(80) + 0.5 - BORDER
    ramp = np.tile(np.clip(distance / 6.0, -0.5, 0.5), (80, 1))[:, :, None]
    assert edge_width(ramp, vessel(half_plane()), SPACING) == pytest.approx(6 * 0.078)


def test_a_sharp_edge_that_is_not_at_its_place_is_wide():
    """Half of the rows three pixels too early: the mean profile is a staircase of two steps, each half as high."""
    image = blurred(0.0)
    image[:40] = np.roll(image[:40], -3, axis=1)
    assert edge_width(image, vessel(half_plane()), SPACING) == pytest.approx(2 * 0.078)


def test_an_image_without_the_structure_or_with_the_inverse_has_no_edge_width():
    assert edge_width(np.zeros((80, 80, 1)), vessel(half_plane()), SPACING) is None
    assert edge_width(-blurred(1.0), vessel(half_plane()), SPACING) is None


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
