from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch.nn import functional as F
from torch.testing import assert_close

from common.losses import PatchNCELoss

SHAPES = [(1, 2, 4), (2, 16, 8), (3, 5, 32)]


def embeddings(shape, seed):
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_is_equation_3(shape, temperature):
    query, key = embeddings(shape, 1), embeddings(shape, 2)
    similarity = np.einsum("bqc,bkc->bqk", query.double().numpy(), key.double().numpy())
    expected = -np.mean([np.diag(log_softmax(image / temperature, axis=1)) for image in similarity])
    assert_close(PatchNCELoss(temperature)(query, key), torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_masked_diagonal_form(shape):
    """The released code's way: the positive first, and -10 on the diagonal of the negatives."""
    query, key = embeddings(shape, 1), embeddings(shape, 2)
    positive = (query * key).sum(-1, keepdim=True)
    negative = (query @ key.mT).masked_fill(torch.eye(shape[1], dtype=torch.bool), -10.0)
    masked = (torch.cat([positive, negative], dim=-1) / 0.07).flatten(0, 1)
    expected = F.cross_entropy(masked, torch.zeros(len(masked), dtype=torch.long))
    assert_close(PatchNCELoss()(query, key), expected)


def test_orthogonal_patches():
    patches = torch.eye(8).expand(2, 8, 8)
    loss = PatchNCELoss(temperature=0.5)
    assert_close(loss(patches, patches), torch.tensor(math.log(1 + 7 * math.exp(-2))))
    assert_close(loss(patches, patches.roll(1, dims=1)), torch.tensor(math.log(math.exp(2) + 7)))


def test_negatives_are_of_the_same_image():
    query, key = embeddings((2, 6, 8), 1), embeddings((2, 6, 8), 2)
    loss = PatchNCELoss()
    alone = [loss(query[[index]], key[[index]]) for index in range(2)]
    assert_close(loss(query, key), (alone[0] + alone[1]) / 2)


def test_key_gets_no_gradient():
    query, key = embeddings((2, 6, 8), 1).requires_grad_(), embeddings((2, 6, 8), 2).requires_grad_()
    PatchNCELoss()(query, key).backward()
    assert query.grad.abs().sum() > 0
    assert key.grad is None


def test_autocast_gives_the_float32_loss():
    query, key = embeddings((2, 6, 8), 1), embeddings((2, 6, 8), 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, of_half = PatchNCELoss()(query, key), PatchNCELoss()(query.bfloat16(), key.bfloat16())
    assert_close(value, PatchNCELoss()(query, key), rtol=0, atol=0)
    assert_close(of_half, PatchNCELoss()(query.bfloat16().float(), key.bfloat16().float()), rtol=0, atol=0)


def test_errors():
    with pytest.raises(ValueError, match=r"`temperature` must be > 0, got -1\."):
        PatchNCELoss(-1)
    with pytest.raises(ValueError, match=r"same shape .* got \(1, 3, 4\) and \(1, 2, 4\)\."):
        PatchNCELoss()(torch.zeros(1, 3, 4), torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match=r"`query` must hold at least 2 patches, .* got 1\."):
        PatchNCELoss()(torch.zeros(1, 1, 4), torch.zeros(1, 1, 4))
