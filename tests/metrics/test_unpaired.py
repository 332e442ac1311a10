"""Edges in common, in closed form on ramps; the combined score on outputs whose order is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from common.metrics import edge_disagreement, normalised_gradient, unpaired_metrics, unpaired_score

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
