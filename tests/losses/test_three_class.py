from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from common.losses import ThreeClassAdversarialLoss

LOSS = ThreeClassAdversarialLoss()


def entropy(row, label):
    """-log softmax, by hand."""
    return math.log(sum(math.exp(value) for value in row)) - row[label]


def logits(seed, batch):
    return torch.randn(batch, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("batches", [(1, 1, 1), (2, 2, 2), (3, 1, 2)])
def test_is_equations_1_and_2(batches):
    destination, origin, synthetic = (logits(seed, batch) for seed, batch in enumerate(batches))

    def mean(rows, label):
        return sum(entropy(row, label) for row in rows.tolist()) / len(rows)

    expected = mean(destination, 0) + mean(origin, 1) + mean(synthetic, 2)
    assert_close(LOSS.discriminator(destination, origin, synthetic), torch.tensor(expected))
    assert_close(LOSS.generator(synthetic), torch.tensor(mean(synthetic, 0)))


def test_a_synthetic_image_that_passes_for_the_origin_is_no_success():
    as_destination, as_origin, as_synthetic = (10 * torch.eye(3)[label][None] for label in range(3))
    assert LOSS.generator(as_destination) < 1e-3
    assert LOSS.generator(as_origin) > 9
    assert LOSS.generator(as_synthetic) > 9
    assert LOSS.discriminator(as_destination, as_origin, as_synthetic) < 1e-3


def test_each_side_pulls_its_way():
    rows = [torch.zeros(1, 3, requires_grad=True) for _ in range(3)]
    gradients = torch.autograd.grad(LOSS.discriminator(*rows), rows)
    for label, gradient in enumerate(gradients):  # softmax minus one-hot
        assert_close(gradient, torch.full((1, 3), 1 / 3) - torch.eye(3)[label])
    (gradient,) = torch.autograd.grad(LOSS.generator(rows[2]), rows[2])
    assert_close(gradient, torch.tensor([[-2 / 3, 1 / 3, 1 / 3]]))


def test_half_precision_logits_are_judged_in_float32():
    halves = [logits(seed, 2).bfloat16() for seed in range(3)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = LOSS.discriminator(*halves), LOSS.generator(halves[2])
    floats = [half.float() for half in halves]
    assert_close(values, (LOSS.discriminator(*floats), LOSS.generator(floats[2])), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(2, 1), (2, 3, 4, 4), (3,)])
def test_other_logits_are_refused(shape):
    good = logits(0, 2)
    message = r"`real_origin` must have the shape \(batch, 3\), .*: build the discriminator with `num_classes` = 3\."
    with pytest.raises(ValueError, match=message):
        LOSS.discriminator(good, torch.zeros(shape), good)
    with pytest.raises(ValueError, match=r"`synthetic` must have the shape \(batch, 3\)"):
        LOSS.generator(torch.zeros(shape))
