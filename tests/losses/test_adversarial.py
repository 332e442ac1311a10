from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from common.losses import AdversarialLoss, discriminator_loss, generator_loss

CRITERIA = ["bce", "least_squares", "hinge", "wasserstein"]


def log1pexp(x):
    return math.log1p(math.exp(x))


# Computed by hand for the real logits (2, 0.5) and the fake logits (-2, 0.5).
BY_HAND = {
    "bce": (
        ((log1pexp(-2) + log1pexp(-0.5)) / 2 + (log1pexp(-2) + log1pexp(0.5)) / 2) / 2,
        (log1pexp(2) + log1pexp(-0.5)) / 2,
    ),
    "least_squares": (((1 + 0.25) / 2 + (4 + 0.25) / 2) / 2, (9 + 0.25) / 2),
    "hinge": (((0 + 0.5) / 2 + (0 + 1.5) / 2) / 2, 0.75),
    "wasserstein": ((-2 + 0.5) / 2 - (2 + 0.5) / 2, 0.75),
}


def logits(*values):
    return torch.tensor(values).view(1, 1, 1, -1)


def pyramid(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 1, size, size + 1, generator=generator) for size in (9, 4, 1)]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_by_hand(criterion):
    loss = AdversarialLoss(criterion)
    discriminator, generator = BY_HAND[criterion]
    assert_close(loss.discriminator(logits(2.0, 0.5), logits(-2.0, 0.5)), torch.tensor(discriminator))
    assert_close(loss.generator(logits(-2.0, 0.5)), torch.tensor(generator))


@pytest.mark.parametrize(("criterion", "function"), [("bce", F.binary_cross_entropy), ("least_squares", F.mse_loss)])
def test_pyramid_is_the_mean_over_scales_of_torchs_loss(criterion, function):
    real, fake = pyramid(1), pyramid(2)

    def mean(maps, label):
        maps = [m.sigmoid() if criterion == "bce" else m for m in maps]
        return sum(function(m, torch.full_like(m, label)) for m in maps) / len(maps)

    loss = AdversarialLoss(criterion)
    assert_close(loss.discriminator(real, fake), (mean(real, 1.0) + mean(fake, 0.0)) / 2)
    assert_close(loss.generator(tuple(fake)), mean(fake, 1.0))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_discriminators_loss_may_be_the_whole_sum(criterion):
    real, fake = pyramid(1), pyramid(2)
    whole, half = (AdversarialLoss(criterion, halve=halve).discriminator(real, fake) for halve in (False, True))
    assert_close(whole, half if criterion == "wasserstein" else 2 * half)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_one_scale_equals_the_bare_map(criterion):
    real, fake = pyramid(1)[0], pyramid(2)[0]
    assert_close(
        discriminator_loss([real], [fake], criterion=criterion), discriminator_loss(real, fake, criterion=criterion)
    )
    assert_close(generator_loss([fake], criterion=criterion), generator_loss(fake, criterion=criterion))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scales_count_alike_whatever_their_size(criterion):
    first, last = pyramid(1)[0], pyramid(1)[2]
    both = generator_loss([first, last], criterion=criterion)
    alone = [generator_loss(scale, criterion=criterion) for scale in (first, last)]
    assert_close(both, (alone[0] + alone[1]) / 2)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_each_side_pulls_its_way(criterion):
    real, fake = logits(0.1).requires_grad_(), logits(-0.2).requires_grad_()
    loss = AdversarialLoss(criterion)
    of_real, of_fake = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    assert of_real < 0  # descent raises the real logit
    if criterion == "least_squares":
        assert_close(of_fake, fake.detach())  # toward the label 0 from below
    else:
        assert of_fake > 0
    (of_fooling,) = torch.autograd.grad(loss.generator(fake), fake)
    assert of_fooling < 0  # and the generator raises the fake one


def test_confident_logits_stay_finite_with_a_gradient():
    fake = logits(-200.0).requires_grad_()
    value = AdversarialLoss("bce").generator(fake)
    value.backward()
    assert_close(value.detach(), torch.tensor(200.0))
    assert_close(fake.grad, logits(-1.0))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_half_precision_logits_are_judged_in_float32(criterion):
    real, fake = [m.bfloat16() for m in pyramid(1)], [m.bfloat16() for m in pyramid(2)]
    loss = AdversarialLoss(criterion)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = loss.discriminator(real, fake), loss.generator(fake)
    expected = (
        loss.discriminator([m.float() for m in real], [m.float() for m in fake]),
        loss.generator([m.float() for m in fake]),
    )
    assert_close(values, expected, rtol=0, atol=0)


def test_errors():
    with pytest.raises(
        ValueError, match=r"`criterion` must be one of \('bce', 'least_squares', 'hinge', 'wasserstein'\), got 'wgan'"
    ):
        AdversarialLoss("wgan")
    with pytest.raises(ValueError, match=r"the same number of scales, got 3 and 2\."):
        AdversarialLoss().discriminator(pyramid(1), pyramid(2)[:2])
    with pytest.raises(ValueError, match=r"`fake_logits` must hold at least one map, got none\."):
        AdversarialLoss().generator([])
