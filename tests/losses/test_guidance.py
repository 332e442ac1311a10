from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch.testing import assert_close

from common.losses import (
    CosineContentLoss,
    GuidedContrastiveLoss,
    PerceptualGuidanceLoss,
    cosine_content_loss,
    guided_contrastive_loss,
)

SHAPES = [(1, 4, 4, 4), (2, 8, 6, 4), (3, 5, 7, 9)]
LOSSES = [
    CosineContentLoss(),
    GuidedContrastiveLoss(8),
    GuidedContrastiveLoss(0, pool=1),
    PerceptualGuidanceLoss(num_patches=8),
]


def feature(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def float32(value):
    return torch.tensor(value, dtype=torch.float32)


def numpy_cosine(query, key):
    """Equation (3) of the thesis, place by place."""
    product = np.sum(query * key, axis=1)
    return np.mean(1 - product / (np.linalg.norm(query, axis=1) * np.linalg.norm(key, axis=1)))


def numpy_contrast(query, key, places, pool, temperature):
    """Equation (3) of GGCL: pool, take the places, scale to length 1, cross-entropy over the image's own places."""
    vectors = []
    for values in (query, key):
        batch, channels, height, width = values.shape
        height, width = height // pool, width // pool
        blocks = values[:, :, : height * pool, : width * pool].reshape(batch, channels, height, pool, width, pool)
        chosen = blocks.mean(axis=(3, 5)).reshape(batch, channels, -1)[:, :, places]
        vectors.append(chosen / (np.linalg.norm(chosen, axis=1, keepdims=True) + 1e-7))
    similarity = np.einsum("bcq,bck->bqk", *vectors) / temperature
    return -np.mean([np.diag(log_softmax(image, axis=1)) for image in similarity])


@pytest.mark.parametrize("shape", SHAPES)
def test_content_is_equation_3_of_the_thesis(shape):
    query, key = feature(shape, 1), feature(shape, 2)
    expected = numpy_cosine(query.double().numpy(), key.double().numpy())
    assert_close(CosineContentLoss()(query, key), float32(expected))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("num_patches", [0, 2, 5, 1000])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_contrast_is_equation_3_of_ggcl(shape, pool, num_patches, temperature):
    query, key = feature(shape, 1), feature(shape, 2)
    count = (shape[2] // pool) * (shape[3] // pool)
    torch.manual_seed(5)
    places = torch.randperm(count)[: num_patches or count].numpy()
    expected = numpy_contrast(query.double().numpy(), key.double().numpy(), places, pool, temperature)
    torch.manual_seed(5)
    loss = GuidedContrastiveLoss(num_patches, pool=pool, temperature=temperature)
    assert_close(loss(query, key), float32(expected))


def test_defaults_are_the_papers():
    ggcl, kcgan = GuidedContrastiveLoss(), PerceptualGuidanceLoss()
    assert (ggcl.num_patches, ggcl.pool, ggcl.temperature) == (64, 2, 0.07)
    assert (kcgan.style.num_patches, kcgan.style.pool, kcgan.style.temperature) == (64, 1, 0.07)
    assert (kcgan.content_weight, kcgan.style_weight) == (5.0, 1.0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", [(5.0, 1.0), (1.0, 5.0), (0.0, 1.0)])
def test_perceptual_guidance_is_equation_5_of_the_thesis(shape, weights):
    query, key = feature(shape, 1), feature(shape, 2)
    torch.manual_seed(5)
    value = PerceptualGuidanceLoss(*weights, num_patches=6)(query, key)
    torch.manual_seed(5)
    places = torch.randperm(shape[2] * shape[3])[:6].numpy()
    arrays = query.double().numpy(), key.double().numpy()
    expected = weights[0] * numpy_cosine(*arrays) + weights[1] * numpy_contrast(*arrays, places, 1, 0.07)
    assert_close(value, float32(expected))


@pytest.mark.parametrize("loss", LOSSES)
def test_only_the_query_gets_gradient(loss):
    """The generator guides, the discriminator learns."""
    query, key = feature((2, 8, 8, 8), 1).requires_grad_(), feature((2, 8, 8, 8), 2).requires_grad_()
    loss(query, key).backward()
    assert query.grad.abs().sum() > 0
    assert query.grad.isfinite().all()
    assert key.grad is None


@pytest.mark.parametrize("loss", LOSSES)
def test_best_where_query_equals_key_up_to_a_positive_scale(loss):
    key = feature((2, 16, 8, 8), 2)
    torch.manual_seed(5)
    best = loss(3.0 * key, key)
    torch.manual_seed(5)
    assert_close(loss(key, key), best, rtol=0, atol=1e-5)
    for other in (feature((2, 16, 8, 8), 1), key.flip(-1), -key):
        torch.manual_seed(5)
        assert loss(other, key) > best + 0.1


@pytest.mark.parametrize("loss", LOSSES)
def test_features_that_are_zero_at_a_place_give_finite_gradients(loss):
    """Behind ReLU the generator's feature is zero here and there; a fresh discriminator's may be."""
    query, key = feature((1, 4, 8, 8), 1), feature((1, 4, 8, 8), 2)
    query[..., :4], key[..., 2:6] = 0.0, 0.0
    query.requires_grad_()
    value = loss(query, key)
    value.backward()
    assert value.isfinite()
    assert query.grad.isfinite().all()


def test_places_are_shared_over_the_batch_and_follow_torchs_seed():
    one = feature((1, 8, 8, 8), 1), feature((1, 8, 8, 8), 2)
    twice = [values.expand(2, -1, -1, -1) for values in one]
    loss, values = GuidedContrastiveLoss(4), []
    for pair in (one, twice, one):
        torch.manual_seed(5)
        values.append(loss(*pair))
    assert_close(values[0], values[1])
    assert_close(values[0], values[2], rtol=0, atol=0)
    assert values[0] != loss(*one)  # the next draw


def test_negatives_are_of_the_same_image():
    query, key = feature((2, 8, 6, 6), 1), feature((2, 8, 6, 6), 2)
    alone = [guided_contrastive_loss(query[[n]], key[[n]], num_patches=0) for n in range(2)]
    assert_close(guided_contrastive_loss(query, key, num_patches=0), (alone[0] + alone[1]) / 2)


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_compared_in_float32(loss):
    query, key = feature((2, 8, 8, 8), 1).bfloat16(), feature((2, 8, 8, 8), 2).bfloat16()
    torch.manual_seed(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(query, key)
    torch.manual_seed(5)
    assert_close(value, loss(query.float(), key.float()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_patches": -3}, r"`num_patches` must be >= 2, or 0 for all locations, got -3\."),
        ({"num_patches": 1}, r"`num_patches` must be >= 2, or 0 for all locations, got 1\."),
        ({"pool": 0}, r"`pool` must be >= 1, got 0\."),
        ({"temperature": 0.0}, r"`temperature` must be > 0, got 0\.0\."),
    ],
)
def test_arguments_out_of_range(arguments, message):
    image = torch.zeros(1, 2, 4, 4)
    for build in (
        GuidedContrastiveLoss,
        PerceptualGuidanceLoss,
        lambda **a: guided_contrastive_loss(image, image, **a),
    ):
        with pytest.raises(ValueError, match=message):
            build(**arguments)


@pytest.mark.parametrize("name", ["content_weight", "style_weight"])
def test_negative_weights_are_refused(name):
    with pytest.raises(ValueError, match=rf"`{name}` must be >= 0, got -1\.0\."):
        PerceptualGuidanceLoss(**{name: -1.0})


@pytest.mark.parametrize("shape", [(1, 4, 8, 4), (1, 8, 4, 4), (1, 4, 16)])
def test_features_of_other_shapes_are_refused(shape):
    message = (
        r"`query` and `key` must have the same shape .*, got .*: build the discriminator with half of the generator's"
    )
    for loss in (cosine_content_loss, guided_contrastive_loss, PerceptualGuidanceLoss()):
        with pytest.raises(ValueError, match=message):
            loss(torch.zeros(shape), torch.zeros(1, 4, 4, 4))


def test_a_map_of_one_place_has_no_negatives():
    with pytest.raises(ValueError, match="at least 2 patches"):
        guided_contrastive_loss(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2))
