"""As many slices at a time as half of the free memory holds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.inference import TripletInferer, inferers
from common.inference.inferers import COPIES, AxialInferer, fitting_batch_size

ONE = COPIES * (1 + 8) * 256 * 256 * 4  # bytes: a float32 image of 256 x 256 with its 8 features


@pytest.mark.parametrize(("images", "expected"), [(100.0, 4), (3.2, 3), (2.9, 2), (0.1, 1), (None, 1)])
def test_the_free_memory_decides(monkeypatch, images, expected):
    monkeypatch.setattr(inferers, "free_memory", lambda _: None if images is None else int(2 * images * ONE))
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1))
    assert fitting_batch_size(network, torch.zeros(1, 1, 256, 256)) == expected


def test_inferers_choose_once_unless_they_are_told(monkeypatch):
    sizes: list[int] = []

    class Seen(nn.Module):
        def forward(self, image):
            sizes.append(len(image))
            return image

    monkeypatch.setattr(inferers, "free_memory", lambda _: 10**12)
    chosen, told = AxialInferer(), AxialInferer(batch_size=3)
    for inferer in (chosen, told):
        inferer(torch.zeros(1, 1, 8, 8, 7), Seen())
    assert sizes == [1, 4, 3, 3, 3, 1]
    sizes.clear()
    TripletInferer()(torch.zeros(1, 1, 8, 8, 7), Seen())
    assert sizes == [1, 4, 1]


def test_the_system_tells_what_is_free(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   5 kB\n")
    monkeypatch.setattr(inferers, "MEMINFO", tmp_path / "meminfo")
    assert inferers.free_memory("cpu") == 5 * 1024
    monkeypatch.setattr(inferers, "MEMINFO", tmp_path / "absent")
    assert inferers.free_memory("cpu") is None
