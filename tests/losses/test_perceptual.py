from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from common.losses import PerceptualLoss, perceptual_distance
from common.networks import VGG16BN

WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4)


def images(batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(batch, 3, 32, 48, generator=generator) * 2 - 1 for _ in range(2)]


def build(**arguments):
    torch.manual_seed(0)
    network = VGG16BN(width=2)
    network(images(4)[0])  # statistics that are neither those of the start nor of a test's batch
    return PerceptualLoss(network, **arguments)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_is_equation_4(batch):
    """Summed in numpy, image by image: w_i |difference|_1 / (W_i H_i C_i), then the mean over the batch."""
    loss, (output, truth) = build(), images(batch)
    expected = 0.0
    with torch.no_grad():
        for one, other in zip(output, truth):
            pairs = zip(loss.network.features(one[None]), loss.network.features(other[None]))
            for weight, (left, right) in zip(WEIGHTS, pairs):
                left, right = left[0].double().numpy(), right[0].double().numpy()
                channels, height, width = left.shape
                expected += weight * np.abs(left - right).sum() / (width * height * channels) / batch
    assert_close(loss(output, truth), torch.tensor(expected), rtol=1e-5, atol=1e-7, check_dtype=False)
    assert_close(loss(truth, output), loss(output, truth))
    assert loss(output, output) == 0


def test_distance_by_hand():
    features = [torch.full((2, 3, 4, 4), 1.0), torch.full((2, 5, 2, 2), -2.0)]
    zeros = [torch.zeros_like(feature) for feature in features]
    assert_close(perceptual_distance(features, zeros, [0.5, 0.25]), torch.tensor(0.5 * 1 + 0.25 * 2))
    features[0][0] = 3.0  # the mean over the batch
    assert_close(perceptual_distance(features, zeros, [0.5, 0.25]), torch.tensor(0.5 * 2 + 0.25 * 2))


def test_the_network_stays_in_eval_whatever_train_is_called():
    loss, (output, truth) = build(), images()
    before = {name: value.clone() for name, value in loss.network.state_dict().items()}
    value = loss(output, truth)
    for holder in (loss, nn.ModuleList([loss])):
        assert holder.train() is holder
        assert loss.training
        assert not any(module.training for module in loss.network.modules())
        assert_close(loss(output, truth), value, rtol=0, atol=0)
    assert_close(loss.network.state_dict(), before, rtol=0, atol=0)
    assert not loss.eval().training


def test_gradient_reaches_the_images_and_not_the_network():
    loss, (output, truth) = build(), images()
    output.requires_grad_()
    truth.requires_grad_()
    loss(output, truth).backward()
    assert output.grad.abs().sum() > 0
    assert truth.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in loss.parameters())


def test_autocast_computes_in_float32():
    loss, (output, truth) = build(), images()
    output, truth = output.bfloat16(), truth.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(output, truth)
    assert value.dtype == torch.float32
    assert_close(value, loss(output.float(), truth.float()), rtol=0, atol=0)


def test_errors():
    with pytest.raises(ValueError, match=r"`network` must offer `features\(image\)`, .*, but Conv2d does not\."):
        PerceptualLoss(nn.Conv2d(3, 3, 1))
    for weights in ([], [0.5, -1.0]):
        with pytest.raises(ValueError, match=r"`weights` must hold one weight >= 0 per feature, got \["):
            build(weights=weights)
    with pytest.raises(ValueError, match=r"one weight per feature of both images, got 2 weights, 4 and 4 features\."):
        build(weights=[1.0, 1.0])(*images())
