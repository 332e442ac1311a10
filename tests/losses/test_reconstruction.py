from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from common.losses import ForegroundLoss, PerceptualLoss, ReconstructionLoss
from common.networks import VGG16BN


def images():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1 for _ in range(2)]


def perceptual():
    torch.manual_seed(0)
    return PerceptualLoss(VGG16BN(width=2))


@pytest.mark.parametrize("l1_weight", [10.0, 0.0])
def test_is_equation_5(l1_weight):
    output, truth = images()
    loss = ReconstructionLoss(l1_weight, perceptual())
    l1 = torch.tensor(abs(output.double().numpy() - truth.double().numpy()).mean()).float()
    terms = loss.terms(output, truth)
    assert_close(terms["l1"], l1)
    assert_close(terms["perceptual"], perceptual()(output, truth))
    assert_close(terms["reconstruction"], l1_weight * l1 + terms["perceptual"])
    assert_close(loss(output, truth), terms["reconstruction"])


def test_without_the_perceptual_term_it_is_a_weighted_l1():
    ones = torch.ones(1, 3, 4, 4)
    terms = ReconstructionLoss().terms(ones, -ones)
    assert terms.keys() == {"reconstruction", "l1"}
    assert_close(terms["reconstruction"], torch.tensor(20.0))


def test_half_precision_is_compared_in_float32():
    output, truth = (image.bfloat16() for image in images())
    loss = ReconstructionLoss(10.0, perceptual())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(output, truth)
    assert_close(value, loss(output.float(), truth.float()), rtol=0, atol=0)


def test_the_network_of_the_perceptual_term_stays_in_eval():
    assert not ReconstructionLoss(10.0, perceptual()).train().perceptual.network.training


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match=r"`l1_weight` must be >= 0, got -1\."):
        ReconstructionLoss(-1)


def test_foreground_loss_does_not_depend_on_air():
    truth = torch.full((1, 1, 16, 16), -1.0)
    truth[..., 4:12, 4:12] = 0.5
    output = torch.where(truth > -1, truth - 0.2, truth)
    wide = [torch.nn.functional.pad(image, [20] * 4, value=-1.0) for image in (output, truth)]
    assert_close(ForegroundLoss()(*wide), ForegroundLoss()(output, truth))
    # 64 voxels differ by 0.2; the difference steps by 0.2 at 4 sides of 8 voxels
    terms = ForegroundLoss(0.5).terms(output, truth)
    assert_close(terms["l1"], torch.tensor(0.2))
    assert_close(terms["gradient"], torch.tensor(0.2 * 32 / 64))
    assert_close(terms["reconstruction"], torch.tensor(0.2 + 0.5 * 0.1))
    assert "squared" not in terms
    squared = ForegroundLoss(0.5, squared_weight=3.0).terms(output, truth)
    assert_close(squared["squared"], torch.tensor(0.04))
    assert_close(squared["reconstruction"], torch.tensor(0.2 + 0.5 * 0.1 + 3 * 0.04))


def test_foreground_loss_of_background_alone_is_finite():
    nothing = torch.full((1, 1, 8, 8), -1.0)
    assert ForegroundLoss()(nothing, nothing) == 0


def test_foreground_loss_refuses_a_negative_weight():
    with pytest.raises(ValueError, match="`gradient_weight` must be >= 0, got -1"):
        ForegroundLoss(-1)
    with pytest.raises(ValueError, match="`squared_weight` must be >= 0, got -2"):
        ForegroundLoss(squared_weight=-2)
