"""Tiles of slices: nothing shows that there were any, and only what is asked for is made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from common.inference import TileInferer
from common.networks import SRUNITGenerator, SuperResolutionGenerator
from tests.helpers.seams import seam_ratio

HALF_RANGE_HU = 800.0  # of the bundle's codec
TILES = {"tile_size": 20, "batch_size": 2}
BORDERS = ([8 * 18, 8 * 36], [8 * 17])  # 54 x 34 pixels in 3 x 2 tiles


def slices(width=54, height=34, count=1) -> torch.Tensor:
    """Noise of the encoded range, (1, X, Y, Z)."""
    return torch.rand(1, width, height, count, generator=torch.Generator().manual_seed(0)) * 2 - 1


def shipped() -> SuperResolutionGenerator:
    torch.manual_seed(0)
    return SuperResolutionGenerator().eval()


@torch.no_grad()
def whole_and_tiled(network: nn.Module, margin: int, volume: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """In HU, (X, Y, Z)."""
    outputs = (TileInferer(8, margin, tile_size=size)(volume[None], network)[0, 0] for size in (0, TILES["tile_size"]))
    whole, tiled = (HALF_RANGE_HU * output.numpy() for output in outputs)
    return whole, tiled


def test_the_shipped_generator_makes_the_same_of_tiles_and_of_the_whole_within_1_hu():
    """At its margin; a smaller one shows what the test can see."""
    network = shipped()
    whole, tiled = whole_and_tiled(network, network.margin, slices())
    assert whole.std() > 20  # HU: there is something to see
    assert np.abs(tiled - whole).max() < 1
    assert np.abs(tiled - whole).max() < 0.02  # rounding of fp32
    assert seam_ratio(tiled, BORDERS) == pytest.approx(seam_ratio(whole, BORDERS), abs=1e-3)
    assert 0.8 < seam_ratio(tiled, BORDERS) < 1.25
    without = whole_and_tiled(network, 0, slices())[1]
    assert np.abs(without - whole).max() > 10
    assert seam_ratio(without, BORDERS) > 1.2 * seam_ratio(whole, BORDERS)


def test_sr_units_generator_too():
    torch.manual_seed(0)
    network = SRUNITGenerator(channels=16, num_res_blocks=1).eval()
    whole, tiled = whole_and_tiled(network, network.margin, slices())
    assert np.abs(tiled - whole).max() < 0.02


def test_instance_norm_leaves_seams_and_is_warned_of(caplog):
    torch.manual_seed(0)
    network = SuperResolutionGenerator(channels=8, num_res_blocks=1, norm="INSTANCE").eval()
    whole, tiled = whole_and_tiled(network, network.margin, slices())
    assert np.abs(tiled - whole).max() > 1
    assert [record.message for record in caplog.records if "whole slices, `--tile_size 0`" in record.message]


class Seen(nn.Module):
    """Nearest neighbours, twice as large; keeps the shapes that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(image.shape))
        return nn.functional.interpolate(image, scale_factor=2.0)


@pytest.mark.parametrize("tile_size", [0, 3, 7, 100])
@pytest.mark.parametrize("downwards", [False, True])
def test_any_box_in_any_tiles_is_that_part_of_the_whole(tile_size, downwards):
    """Nearest neighbours by numpy's `repeat`."""
    volume = slices(13, 9, 5)
    expected = volume.numpy().repeat(2, axis=1).repeat(2, axis=2)
    inferer = TileInferer(2, 4, tile_size=tile_size, batch_size=2)
    for box in ([(0, 13), (0, 9), (0, 5)], [(3, 13), (1, 8), (1, 4)], [(12, 13), (0, 1), (4, 5)]):
        slabs = list(inferer.slabs(volume, Seen(), box, downwards=downwards))
        output = torch.cat(slabs[::-1] if downwards else slabs, dim=-1)
        (x, y, z) = (slice(*span) for span in box)
        part = expected[:, slice(2 * x.start, 2 * x.stop), slice(2 * y.start, 2 * y.stop), z]
        np.testing.assert_array_equal(output, part)


def test_a_tile_sees_its_surroundings_also_beyond_the_box_but_nothing_is_added_at_the_border():
    network = Seen()
    list(TileInferer(2, 3, tile_size=5).slabs(slices(20, 10, 1), network, [(0, 10), (2, 7), (0, 1)]))
    assert network.shapes == [(1, 1, 8, 10), (1, 1, 11, 10)]


def test_slices_are_made_when_they_are_asked_for():
    network = Seen()
    made = TileInferer(2, 1, **TILES).slabs(slices(30, 10, 100), network)
    assert network.shapes == []
    assert next(made).shape == (1, 60, 20, 2)
    assert len(network.shapes) == 2  # tiles


def test_the_output_lies_on_the_finer_grid():
    """The centre of 2 x 2 fine voxels is that of their coarse voxel: closed form."""
    affine = torch.tensor([[0.5, 0.1, 0, 3], [-0.1, 0.5, 0, 4], [0, 0, 2, 5], [0, 0, 0, 1.0]])
    output = TileInferer(2, 1)(MetaTensor(slices(6, 5, 3)[None], affine=affine), Seen())
    assert output.shape == (1, 1, 12, 10, 3)
    centre = output.affine.numpy() @ [4.5, 2.5, 1, 1]
    np.testing.assert_allclose(centre, affine.numpy() @ [2, 1, 1, 1], atol=1e-6)


def test_a_slice_smaller_than_a_training_patch_is_super_resolved():
    network = SuperResolutionGenerator(channels=8, num_res_blocks=1)
    assert TileInferer(8, network.margin)(slices(5, 1, 2)[None], network).shape == (1, 1, 40, 8, 2)


def test_what_is_refused():
    for arguments, message in (
        ({"factor": 0}, r"`factor` must be >= 1, got 0\."),
        ({"margin": -1}, r"`margin` must be >= 0, got -1\."),
        ({"tile_size": -5}, r"`tile_size` must be >= 0, got -5\."),
        ({"batch_size": 0}, r"`batch_size` must be >= 1, got 0\."),
    ):
        with pytest.raises(ValueError, match=message):
            TileInferer(**{"factor": 2, "margin": 1, **arguments})
    with pytest.raises(ValueError, match=r"`inputs` must have the shape \(B, C, X, Y, Z\), got \(1, 4, 4, 1\)\."):
        TileInferer(2, 1)(slices(4, 4), Seen())
    with pytest.raises(
        ValueError, match=r"images of 4 x 3 pixels 8 times as large, got shape \(1, 1, 8, 6\): `factor`"
    ):
        TileInferer(8, 1)(slices(4, 3)[None], Seen())
