from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from common.losses import gradient_penalty
from common.networks import SemanticDiscriminator

SHAPES = [(1, 1, 4, 4), (2, 1, 8, 6), (3, 2, 5, 7), (2, 1, 4, 4, 3)]


def images(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_quadratic_critic(shape, reduction):
    """The score map x^2 / 2 has the gradient x (of its sum) at x = u real + (1 - u) fake, from numpy."""
    real, fake = images(shape, 1), images(shape, 2)
    place = torch.rand(shape[0], generator=torch.Generator().manual_seed(3))
    share = place.numpy().reshape(-1, *[1] * (len(shape) - 1))
    between = share * real.numpy() + (1 - share) * fake.numpy()
    length = np.linalg.norm(between.reshape(shape[0], -1), axis=1)
    if reduction == "mean":
        length = length / between[0].size
    penalty = gradient_penalty(
        lambda image: image.square() / 2,
        real,
        fake,
        reduction=reduction,
        place=place,
    )
    assert_close(penalty, torch.tensor(np.mean((length - 1) ** 2), dtype=torch.float32))


def test_places_are_drawn_for_each_image_from_all_of_the_line():
    seen = []

    def critic(image):
        seen.append(image.detach())
        return image

    for seed in range(100):
        torch.manual_seed(seed)
        gradient_penalty(critic, torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2))
    places = torch.stack(seen)
    assert_close(places, places[..., :1, :1].expand_as(places))
    first, second = places[:, 0, 0, 0, 0], places[:, 1, 0, 0, 0]
    assert not torch.equal(first, second)
    assert first.min() >= 0
    assert first.max() <= 1
    assert first.min() < 0.1 < 0.9 < first.max()


def test_the_official_sum_multiplies_the_slope_by_the_size_of_the_map():
    """Of a linear critic with a 4x4 map: |gradient of the sum| = 16 |gradient of the mean|."""
    critic = nn.Conv2d(1, 1, 8, stride=8)
    real, fake = images((2, 1, 32, 32), 1), images((2, 1, 32, 32), 2)
    of_sum, of_mean = (gradient_penalty(critic, real, fake, reduction=r).sqrt() for r in ("sum", "mean"))
    slope = 4 * critic.weight.norm()  # each of the 16 patches has the weight's length
    assert_close(of_sum, (slope - 1).abs())
    assert_close(of_mean, (slope / 16 - 1).abs())


def test_gradient_reaches_the_critic_but_not_the_images():
    critic = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LeakyReLU(0.01), nn.Conv2d(4, 1, 3))
    real, fake = images((2, 1, 8, 8), 1).requires_grad_(), images((2, 1, 8, 8), 2).requires_grad_()
    gradient_penalty(critic, real, fake).backward()
    assert real.grad is None
    assert fake.grad is None
    assert critic[0].weight.grad.abs().sum() > 0
    assert critic[2].weight.grad.abs().sum() > 0


def test_descent_makes_the_slope_one():
    torch.manual_seed(0)
    critic = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        gradient_penalty(
            lambda image: critic(image.flatten(1)), torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
        ).backward()
        optimizer.step()
    assert_close(critic.weight.norm(), torch.tensor(1.0), rtol=0, atol=1e-3)


def test_flat_critic_has_penalty_one_and_finite_gradients():
    critic = nn.Conv2d(1, 1, 3)
    nn.init.zeros_(critic.weight)
    penalty = gradient_penalty(critic, torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
    penalty.backward()
    assert_close(penalty.detach(), torch.tensor(1.0))
    assert critic.weight.grad.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_works_through_spectral_normalisation(training):
    torch.manual_seed(0)
    discriminator = SemanticDiscriminator(16, 3, channels=2, num_layers=2).train(training)
    real, fake = images((2, 1, 16, 16), 1), images((2, 1, 16, 16), 2)
    gradient_penalty(lambda image: discriminator(image)[0], real, fake).backward()
    learning = {name.split(".")[0] for name, p in discriminator.named_parameters() if p.grad is not None}
    assert learning == {"downs", "heads"}
    assert discriminator.heads.source.weight.grad.abs().sum() > 0


def test_autocast_gives_the_float32_penalty():
    critic, real, fake = nn.Conv2d(1, 1, 3), images((2, 1, 8, 8), 1), images((2, 1, 8, 8), 2)
    expected = gradient_penalty(critic, real, fake, place=torch.full((2,), 0.3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = gradient_penalty(critic, real, fake, place=torch.full((2,), 0.3))
    assert_close(value, expected, rtol=0, atol=0)


def test_errors():
    image = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"`reduction` must be one of \('mean', 'sum'\), got 'max'\."):
        gradient_penalty(lambda x: x, image, image, reduction="max")
    with pytest.raises(ValueError, match="`reduction` must be one of"):
        gradient_penalty(lambda x: x, image, image, reduction="none")
    with pytest.raises(
        ValueError, match=r"`real` and `fake` must have the same shape, got \(1, 1, 2, 2\) and \(2, 1, 2, 2\)\."
    ):
        gradient_penalty(lambda x: x, image, torch.zeros(2, 1, 2, 2))
