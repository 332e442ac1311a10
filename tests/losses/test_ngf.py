from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.testing import assert_close

from common.losses import NormalizedGradientFieldLoss, image_gradient, normalized_gradient_field

SHAPES = [(1, 1, 12, 17), (2, 3, 9, 8), (3, 2, 16, 16), (1, 1, 7, 9, 6), (2, 2, 6, 5, 8)]


def random_image(shape, seed=0, dtype=torch.float32):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, shape)).to(dtype)


def scipy_gradient(images):
    """scipy's Sobel filter, divided by its response to a unit ramp: 2 along the axis, 4 for each other one."""
    spatial = images.shape[2:]
    unit = 2 * 4 ** (len(spatial) - 1)
    fields = [
        [ndimage.sobel(image, axis, mode="nearest") / unit for axis in range(len(spatial))]
        for image in images.reshape(-1, *spatial)
    ]
    return np.reshape(fields, (*images.shape[:2], len(spatial), *spatial))


def scipy_loss(source, translated, epsilon, form):
    fields = []
    for images in (source, translated):
        gradient = scipy_gradient(images)
        norm = np.sqrt((gradient**2).sum(2, keepdims=True))
        fields.append(gradient / (norm + epsilon if form == "paper" else np.sqrt(norm**2 + epsilon**2)))
    return np.mean(1 - 0.5 * (fields[0] * fields[1]).sum(2) ** 2)


def ramp(spatial, direction, slope=1.0):
    """An image whose gradient is `slope` in the given direction everywhere."""
    unit = np.asarray(direction, dtype=float) / np.linalg.norm(direction)
    grids = np.meshgrid(*[np.arange(size) for size in spatial], indexing="ij")
    values = slope * sum(component * grid for component, grid in zip(unit, grids))
    return torch.from_numpy(values)[None, None]


def inner(field):
    """Without the border, where the continued image has half the slope."""
    return field[(..., *[slice(1, -1)] * (field.dim() - 3))]


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_scipys_sobel_filter(shape):
    image = random_image(shape, dtype=torch.float64)
    expected = torch.from_numpy(scipy_gradient(image.numpy()))
    assert_close(image_gradient(image), expected)


@pytest.mark.parametrize("direction", [(1, 0), (0, 1), (1, 2), (1, 0, 0), (0, 0, 1), (2, -1, 3)])
def test_unit_ramp_has_gradient_one_in_2d_and_3d(direction):
    gradient = inner(image_gradient(ramp([6, 7, 8][: len(direction)], direction)))
    expected = torch.tensor(direction, dtype=torch.float64) / math.hypot(*direction)
    assert_close(gradient, expected.view(1, 1, -1, *[1] * len(direction)).expand_as(gradient))


def test_border_is_no_edge():
    assert_close(image_gradient(torch.full((1, 1, 5, 6), 7.0)), torch.zeros(1, 1, 2, 5, 6))


@pytest.mark.parametrize("angle", [0, 20, 45, 70, 90, 135, 180])
@pytest.mark.parametrize("slope", [0.05, 0.15, 2.0])
@pytest.mark.parametrize("depth", [0, 5])
def test_ramps_at_an_angle(angle, slope, depth):
    epsilon = 0.15
    spatial = (8, 9, depth)[: 3 if depth else 2]
    directions = [(1.0, 0.0, 0.0), (math.cos(math.radians(angle)), math.sin(math.radians(angle)), 0.0)]
    fields = [
        normalized_gradient_field(ramp(spatial, direction[: len(spatial)], slope), epsilon) for direction in directions
    ]
    squared = inner((fields[0] * fields[1]).sum(2, keepdim=True)) ** 2
    expected = math.cos(math.radians(angle)) ** 2 * (slope / (slope + epsilon)) ** 4
    assert_close(squared, torch.full_like(squared, expected))


@pytest.mark.parametrize(("form", "length"), [("paper", 0.3 / 0.4), ("official", 0.3 / math.sqrt(0.1))])
def test_field_length_of_each_form(form, length):
    field = inner(normalized_gradient_field(ramp((5, 6), (0, 1), 0.3), 0.1, form))
    assert_close(field[:, :, 1], torch.full_like(field[:, :, 1], length))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("form", "epsilon"), [("paper", 0.15), ("official", 0.1)])
def test_loss_is_equation_3(shape, form, epsilon):
    source, translated = random_image(shape, 1, torch.float64), random_image(shape, 2, torch.float64)
    loss = NormalizedGradientFieldLoss(epsilon, form=form)(source, translated)
    expected = scipy_loss(source.numpy(), translated.numpy(), epsilon, form)
    assert_close(loss, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("form", ["paper", "official"])
@pytest.mark.parametrize("shape", SHAPES)
def test_invariances(shape, form):
    source, translated = random_image(shape, 1), random_image(shape, 2)
    loss = NormalizedGradientFieldLoss(form=form)
    value = loss(source, translated)
    assert 0.5 < value < 1
    assert_close(loss(source, -translated), value, rtol=0, atol=0)
    assert_close(loss(translated, source), value, rtol=0, atol=0)
    assert_close(loss(source, translated + 3), value)
    assert_close(loss(source.flip(2), translated.flip(2)), value)
    assert_close(loss(source.transpose(2, 3), translated.transpose(2, 3)), value)


def test_aligned_edges_give_one_half_and_crossed_edges_one():
    horizontal, vertical = 100 * ramp((32, 32), (1, 0)), 100 * ramp((32, 32), (0, 1))
    loss = NormalizedGradientFieldLoss(1e-6)
    assert_close(loss(horizontal, 0.01 * horizontal), torch.tensor(0.5, dtype=torch.float64), rtol=0, atol=1e-5)
    assert_close(loss(horizontal, vertical), torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=1e-5)


def test_channels_are_compared_on_their_own():
    source, translated = random_image((2, 3, 8, 8), 1), random_image((2, 3, 8, 8), 2)
    loss = NormalizedGradientFieldLoss()
    channels = [loss(source[:, [c]], translated[:, [c]]) for c in range(3)]
    assert_close(loss(source, translated), torch.stack(channels).mean())


@pytest.mark.parametrize("form", ["paper", "official"])
@pytest.mark.parametrize("background", ["both", "source", "translated", "half"])
@pytest.mark.parametrize("spatial", [(8, 8), (6, 6, 6)])
def test_flat_background_has_finite_value_and_gradient(form, background, spatial):
    source, translated = random_image((1, 1, *spatial), 1), random_image((1, 1, *spatial), 2)
    if background in ("both", "source"):
        source = torch.full_like(source, -1.0)
    if background in ("both", "translated"):
        translated = torch.full_like(translated, -1.0)
    if background == "half":
        source[..., :4], translated[..., :4] = -1.0, -1.0
    source.requires_grad_()
    translated.requires_grad_()
    value = NormalizedGradientFieldLoss(form=form)(source, translated)
    value.backward()
    assert source.grad.isfinite().all()
    assert translated.grad.isfinite().all()
    if background == "half":
        assert translated.grad.abs().sum() > 0
    else:
        assert value == 1


@pytest.mark.parametrize("form", ["paper", "official"])
@pytest.mark.parametrize("shape", [(1, 2, 4, 5), (1, 1, 3, 4, 3)])
def test_derivative(form, shape):
    source, translated = (random_image(shape, seed, torch.float64).requires_grad_() for seed in (1, 2))
    assert torch.autograd.gradcheck(NormalizedGradientFieldLoss(form=form), (source, translated))


def test_descent_turns_the_gradients_parallel():
    source, translated = random_image((1, 1, 16, 16), 1), random_image((1, 1, 16, 16), 2).requires_grad_()
    loss = NormalizedGradientFieldLoss()
    before = loss(source, translated)
    (step,) = torch.autograd.grad(before, translated)
    assert loss(source, translated - 5 * step) < before


def test_autocast_gives_the_float32_loss():
    source, translated = random_image((2, 1, 16, 16), 1), random_image((2, 1, 16, 16), 2)
    loss = NormalizedGradientFieldLoss()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, of_half = loss(source, translated), loss(source, translated.bfloat16())
    assert_close(value, loss(source, translated), rtol=0, atol=0)
    assert_close(of_half, loss(source, translated.bfloat16().float()), rtol=0, atol=0)
    assert of_half.dtype == torch.float32


def test_errors():
    with pytest.raises(ValueError, match=r"`epsilon` must be > 0, got 0\."):
        NormalizedGradientFieldLoss(0)
    with pytest.raises(ValueError, match=r"`epsilon` must be > 0, got nan\."):
        NormalizedGradientFieldLoss(math.nan)
    with pytest.raises(ValueError, match=r"`form` must be one of \('paper', 'official'\), got 'code'\."):
        NormalizedGradientFieldLoss(form="code")
    with pytest.raises(ValueError, match=r"same shape, got \(1, 1, 8, 8\) and \(1, 2, 8, 8\)\."):
        NormalizedGradientFieldLoss()(torch.zeros(1, 1, 8, 8), torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match=r"`image` must have 4 dimensions .* or 5 \(and depth\), got 3\."):
        image_gradient(torch.zeros(1, 8, 8))
