"""The loss of a texture: local variance and power spectrum, wherever structures lie."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from common.losses import TextureLoss


def noise(seed, blur=0, size=128):
    field = torch.randn(8, 1, size, size, generator=torch.Generator().manual_seed(seed))
    if blur:
        field = F.avg_pool2d(field, blur, stride=1, padding=blur // 2)
    return 0.1 * field / field.std()


def test_places_do_not_matter_but_variance_and_spectrum_do():
    loss = TextureLoss()
    same = loss(noise(0), noise(1))
    assert same < 0.3
    assert loss(3 * noise(0), noise(1)) > same + 2  # 2 log 3 in each of both terms
    assert loss(noise(0, blur=3), noise(1)) > same + 1


def test_variance_is_local():
    half = torch.ones(1, 1, 128, 128)
    half[..., 64:] = 0.0
    moved = half.flip(-1)
    assert TextureLoss()(noise(0) * half, noise(1) * half) + 1 < TextureLoss()(noise(0) * moved, noise(1) * half)


def test_frequencies_of_the_source_do_not_matter():
    """A wave of two source pixels is what the structure has to get right."""
    wave = 0.2 * torch.sin(torch.arange(256) * 2 * torch.pi / 64)[None, None, None].expand(8, 1, 256, 256)
    loss, image = TextureLoss(region=256), noise(0, size=256)
    powers = [loss._power(each) for each in (image, image + wave)]
    torch.testing.assert_close(*powers, rtol=0, atol=0.05)


def test_the_residual_gets_no_gradient():
    texture, residual = noise(0).requires_grad_(), noise(1).requires_grad_()
    TextureLoss()(texture, residual).backward()
    assert texture.grad is not None
    assert residual.grad is None


@pytest.mark.parametrize("name", ["factor", "region"])
def test_refused_arguments(name):
    with pytest.raises(ValueError, match=f"`{name}` must be >= 1, got 0"):
        TextureLoss(**{name: 0})
