"""Edges in common, in closed form on ramps; the combined score on outputs whose order is known.

The sliced Wasserstein distance: closed forms on single pixels, and the order that an eye would give.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor
from torch.nn import functional

from common.metrics import edge_disagreement, normalised_gradient, sliced_wasserstein, unpaired_metrics, unpaired_score

EPSILON = 0.15


def ramp(degrees: float, slope: float = 0.02) -> Tensor:
    """An image that rises by `slope` a pixel in one direction, shape (1, 1, 40, 40)."""
    axis = torch.arange(40, dtype=torch.float64) - 20
    angle = math.radians(degrees)
    return (slope * (math.cos(angle) * axis + math.sin(angle) * axis[:, None]))[None, None]


def test_a_unit_ramp_has_gradient_one() -> None:
    field = normalised_gradient(ramp(0, slope=1.0), epsilon=EPSILON)
    torch.testing.assert_close(field[:, 0], torch.full((1, 38, 38), 1 / 1.15, dtype=torch.float64))
    torch.testing.assert_close(field[:, 1], torch.zeros(1, 38, 38, dtype=torch.float64))


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 135, 180])
@pytest.mark.parametrize("slope", [0.02, 0.3])
def test_ramps_in_closed_form(degrees: float, slope: float) -> None:
    strength = slope / (slope + EPSILON)
    expected = 1 - strength**2 * math.cos(math.radians(degrees)) ** 2
    assert edge_disagreement(ramp(0, slope), ramp(degrees, slope), epsilon=EPSILON) == pytest.approx(expected, abs=1e-4)


def test_sign_does_not_matter_and_both_sides_count_alike() -> None:
    first, second = torch.rand(2, 2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert edge_disagreement(first, -second) == pytest.approx(edge_disagreement(first, second))
    assert edge_disagreement(first, second) == pytest.approx(edge_disagreement(second, first))


def test_lost_and_invented_edges_cost() -> None:
    source = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert edge_disagreement(source, torch.zeros_like(source)) == 1.0
    half = torch.where(torch.arange(32) < 16, source, source.mean())
    kept = edge_disagreement(source, source)
    assert kept < edge_disagreement(source, half) < 1.0
    assert kept < edge_disagreement(half, source) < 1.0


def test_images_without_edges_agree() -> None:
    assert edge_disagreement(torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)) == 0.0


def brains(seed: int, number: int = 4) -> tuple[Tensor, Tensor]:
    """(source, target) of one anatomy: bright discs in the source are dark in the target."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(72, dtype=torch.float32)
    anatomy = torch.zeros(number, 1, 72, 72)
    for image in anatomy:
        for _ in range(25):
            x, y, r = (torch.rand(3, generator=generator) * torch.tensor([48.0, 48.0, 7.0])).tolist()
            image[0][((axis[:, None] - x - 12) ** 2 + (axis - y - 12) ** 2).sqrt() < r + 2] += 0.25
    anatomy = functional.avg_pool2d(anatomy, 3, stride=1, padding=1).clamp(0, 1)
    inside = ((axis[:, None] - 36) ** 2 + (axis - 36) ** 2).sqrt() < 32
    return torch.where(inside, anatomy * 1.4 - 0.6, -1.0), torch.where(inside, 0.9 - anatomy**2 * 1.4, -1.0)


def test_the_untranslated_source_scores_one() -> None:
    source, _ = brains(0)
    _, reference = brains(1)
    assert unpaired_score(source, source, reference) == pytest.approx(1.0)


def test_the_truth_scores_best() -> None:
    source, truth = brains(0)
    _, reference = brains(1)
    others = {
        "blurred": functional.avg_pool2d(truth, 7, stride=1, padding=3),
        "other patient": brains(2)[1],
        "moved": truth.roll(6, dims=-1),
        "blank": torch.where(truth > -0.9, truth[truth > -0.9].mean(), -1.0),
        "half way": 0.5 * (source + truth),
        "untranslated": source,
    }
    scores = {name: unpaired_score(source, output, reference) for name, output in others.items()}
    assert unpaired_score(source, truth, reference) < 0.7 * min(scores.values()), scores


def test_a_finer_output_is_compared_with_the_interpolated_source_and_its_edges_on_the_sources_pixels() -> None:
    generator = torch.Generator().manual_seed(3)
    sources, references = (torch.rand(2, 1, side, side, generator=generator) * 1.8 - 0.8 for side in (32, 64))
    coarse = functional.interpolate(sources, scale_factor=2, mode="bilinear", align_corners=False)
    outputs = functional.interpolate(sources, scale_factor=2, mode="nearest")
    found = unpaired_metrics(sources, outputs, references)
    assert found["sliced_wasserstein"] == sliced_wasserstein(outputs, references)
    assert found["edge_disagreement"] == pytest.approx(edge_disagreement(sources, sources))
    expected = sliced_wasserstein(outputs, references) / sliced_wasserstein(coarse, references)
    assert found["unpaired_score"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="`output` must have the shape of `source`"):
        unpaired_metrics(sources, outputs[..., :-1], references)


def test_the_parts_make_the_score() -> None:
    source, truth = brains(0)
    _, reference = brains(1)
    light, heavy = (
        unpaired_metrics(source, truth, reference, faithfulness_weight=weight, patches=2000) for weight in (0.0, 2.0)
    )
    assert light["edge_disagreement"] == edge_disagreement(source, truth)
    kept = edge_disagreement(source, source)
    lost = (light["edge_disagreement"] - kept) / (1 - kept)
    assert heavy["unpaired_score"] - light["unpaired_score"] == pytest.approx(2.0 * lost, abs=1e-6)


def test_errors() -> None:
    image = torch.zeros(1, 1, 16, 16)
    with pytest.raises(ValueError, match="`epsilon` must be positive, got 0"):
        edge_disagreement(image, image, epsilon=0)
    with pytest.raises(ValueError, match=r"`output` must have the shape of `source` \(1, 1, 16, 16\)"):
        edge_disagreement(image, image[..., :8])
    with pytest.raises(ValueError, match=r"`source` must have shape \(N, 1, H, W\), got \(1, 3, 16, 16\)"):
        edge_disagreement(image.repeat(1, 3, 1, 1), image)
    with pytest.raises(ValueError, match="`faithfulness_weight` must be >= 0, got -1"):
        unpaired_metrics(image, image, image, faithfulness_weight=-1)


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
        ({"levels": 6}, "`outputs` must have at least 224 pixels per side for 6 levels"),
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
