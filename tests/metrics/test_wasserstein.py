"""The sliced Wasserstein distance: closed forms on single pixels, and the order that an eye would give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor
from torch.nn import functional

from common.metrics import sliced_wasserstein

PIXELS = {"patch": 1, "levels": 1, "projections": 1}  # then it is the plain distance of two histograms


def images(seed: int, number: int = 3, size: int = 64) -> Tensor:
    """Discs of smooth texture on a background of -1."""
    noise = torch.randn(number, 1, size, size, generator=torch.Generator().manual_seed(seed))
    texture = functional.avg_pool2d(noise, 5, stride=1, padding=2) * 1.5
    axis = torch.arange(size) - size / 2
    disc = (axis[:, None] ** 2 + axis**2).sqrt() < 0.4 * size
    return torch.where(disc, texture.clamp(-0.8, 1.0), torch.tensor(-1.0))


def test_single_pixels_equal_scipy() -> None:
    first, second = images(0), images(1) * 0.5 + 0.2
    second = torch.where(images(1) == -1, -1.0, second)
    foreground = [x[x > -0.9].double().numpy() for x in (first, second)]
    expected = wasserstein_distance(*foreground) / foreground[1].std()
    assert sliced_wasserstein(first, second, patches=10**6, **PIXELS) == pytest.approx(expected, rel=1e-3)


def test_different_numbers_of_slices_equal_scipy() -> None:
    first, second = images(2, number=5), images(3, number=2)
    foreground = [x[x > -0.9].double().numpy() for x in (first, second)]
    assert len(foreground[0]) == 2.5 * len(foreground[1])
    expected = wasserstein_distance(*foreground) / foreground[1].std()
    assert sliced_wasserstein(first, second, patches=10**6, **PIXELS) == pytest.approx(expected, rel=0.02, abs=1e-3)


@pytest.mark.parametrize("shift", [0.2, -0.05])
def test_a_shift_of_brightness_is_its_size(shift: float) -> None:
    reference = images(0)
    shifted = torch.where(reference > -0.9, reference + shift, reference)
    expected = abs(shift) / float(reference[reference > -0.9].std(correction=0))
    assert sliced_wasserstein(shifted, reference, patches=10**6, **PIXELS) == pytest.approx(expected, rel=1e-4)


def test_identical_sets_are_at_zero_and_the_seed_decides_all() -> None:
    first, second = images(0), images(1)
    assert sliced_wasserstein(first, first.clone()) == 0.0
    assert sliced_wasserstein(first, second, seed=4) == sliced_wasserstein(first, second, seed=4)
    assert sliced_wasserstein(first, second, seed=4, patches=500) != sliced_wasserstein(
        first, second, seed=5, patches=500
    )


def test_the_order_of_degradations() -> None:
    reference, alike = images(0, number=6), images(1, number=6)
    inside = alike > -0.9
    blurred = torch.where(inside, functional.avg_pool2d(alike, 5, stride=1, padding=2), -1.0)
    inverted = torch.where(inside, 0.9 - alike.abs(), -1.0)
    blank = torch.where(inside, 0.0, -1.0)
    near, blur, invert, empty = (
        sliced_wasserstein(x, reference, patches=4000) for x in (alike, blurred, inverted, blank)
    )
    assert near < 0.3 * min(blur, invert, empty)
    assert blur < empty


def test_more_background_changes_nothing() -> None:
    reference = images(0)
    padded = functional.pad(images(1), (8, 24, 16, 0), value=-1.0)
    plain = sliced_wasserstein(images(1), reference, patches=10**6, **PIXELS)
    assert sliced_wasserstein(padded, reference, patches=10**6, **PIXELS) == pytest.approx(plain, abs=1e-6)


def test_slices_of_several_sizes() -> None:
    mixed = [images(0, size=64), images(1, number=2, size=80)]
    assert 0.0 < sliced_wasserstein(mixed, images(2), patches=2000) < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 4}, "`patch` must be a positive odd number of pixels, got 4"),
        ({"levels": 0}, "`levels` must be >= 1, got 0"),
        ({"projections": 0}, "`projections` must be >= 1"),
        ({"levels": 6}, "`outputs` must have at least 224 pixels a side for 6 levels"),
    ],
)
def test_errors_in_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sliced_wasserstein(images(0), images(1), **options)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.zeros(4, 64, 64), r"`outputs` must have shape \(N, 1, H, W\), got \(4, 64, 64\)"),
        (torch.full((1, 1, 64, 64), -1.0), "`outputs` must hold foreground"),
        ([], "`outputs` must hold at least one slice, got none"),
    ],
)
def test_errors_in_images(outputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sliced_wasserstein(outputs, images(1))
