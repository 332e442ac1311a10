from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from common.networks.layers import crop_like, pad_to_multiple


@pytest.mark.parametrize(
    ("multiple", "size"),
    [
        *[(multiple, size) for multiple in (2, 8, 128) for size in [(1, 2), (16, 17), (124, 160), (24, 256), (257, 1)]],
        *[(multiple, (3, 9, 30)) for multiple in (2, 8, 16)],
    ],
)
def test_pads_like_numpy_and_crops_back(size, multiple):
    image = torch.randn(2, 3, *size)
    padded = pad_to_multiple(image, multiple, -1.0)
    widths = [(0, 0), (0, 0)]
    for side in size:
        target = max(2, -(-side // multiple)) * multiple  # a whole number of blocks, two at least
        widths.append(((target - side) // 2, target - side - (target - side) // 2))
    assert_close(padded, torch.from_numpy(np.pad(image.numpy(), widths, constant_values=-1.0)))
    assert_close(crop_like(padded, image), image, rtol=0, atol=0)


def test_fitting_image_is_left_alone():
    image = torch.randn(1, 1, 16, 24)
    assert_close(pad_to_multiple(image, 8, -1.0), image, rtol=0, atol=0)


def test_crop_keeps_the_channels_of_the_output():
    assert crop_like(torch.zeros(1, 5, 16, 16), torch.zeros(1, 1, 13, 16)).shape == (1, 5, 13, 16)


def test_gradient_of_padding_and_cropping():
    image = torch.randn(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: crop_like(pad_to_multiple(x, 4, -1.0) ** 2, x), (image,))
