"""Unpaired draws that depend on (seed, epoch, index) alone."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import Compose, RandSpatialCropd

from common.data import EpochSampler, UnpairedDataset, axial_slices


def images(count: int, value: float) -> list[torch.Tensor]:
    return [torch.full((1, 16, 16), float(value + i)) for i in range(count)]


def crops(seed: int = 0) -> UnpairedDataset:
    generator = torch.Generator().manual_seed(1)
    noise = [torch.rand(1, 16, 16, generator=generator) for _ in range(8)]
    transform = Compose([RandSpatialCropd(["source", "target"], roi_size=[8, 8], random_size=False)])
    return UnpairedDataset(noise, noise, transform=transform, seed=seed)


def test_an_item_does_not_depend_on_what_was_drawn_before():
    straight, hopping = crops(), crops()
    first = [straight[(3, i)] for i in range(8)]
    for i in (5, 0, 7):
        hopping[(9, 2)]
        torch.testing.assert_close(hopping[(3, i)], first[i], rtol=0, atol=0)


def test_epoch_and_seed_change_the_draw():
    base = [crops()[(1, i)]["source"] for i in range(8)]
    other_epoch = [crops()[(2, i)]["source"] for i in range(8)]
    other_seed = [crops(seed=1)[(1, i)]["source"] for i in range(8)]
    assert any(not torch.equal(a, b) for a, b in zip(base, other_epoch))
    assert any(not torch.equal(a, b) for a, b in zip(base, other_seed))


def test_targets_are_drawn_from_all_and_paired_keeps_the_index():
    unpaired = UnpairedDataset(images(3, 0), images(5, 100))
    drawn = {float(unpaired[(epoch, 0)]["target"].mean()) for epoch in range(100)}
    assert drawn == {100.0, 101.0, 102.0, 103.0, 104.0}
    paired = UnpairedDataset(images(3, 0), images(3, 100), paired=True)
    assert all(float(paired[(1, i)]["target"].mean()) == 100 + i for i in range(3))
    with pytest.raises(ValueError, match="3 sources and 5 targets"):
        UnpairedDataset(images(3, 0), images(5, 0), paired=True)


def test_an_epoch_is_a_permutation_that_changes():
    sampler = EpochSampler(10, seed=4)
    first = list(sampler)
    sampler.set_epoch(2)
    second = list(sampler)
    assert sorted(i for _, i in first) == sorted(i for _, i in second) == list(range(10))
    assert [i for _, i in first] != [i for _, i in second]
    assert {e for e, _ in first} == {1}
    assert {e for e, _ in second} == {2}


def test_samples_per_epoch_repeats_or_cuts():
    assert len(list(EpochSampler(4, samples_per_epoch=10))) == len(EpochSampler(4, samples_per_epoch=10)) == 10
    assert len(set(EpochSampler(10, samples_per_epoch=4))) == 4


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_an_epoch_without_repetition(monkeypatch, world):
    together = []
    for rank in range(world):
        monkeypatch.setattr(EpochSampler, "_ranks", lambda _, rank=rank: (rank, world))
        sampler = EpochSampler(12)
        assert len(list(sampler)) == len(sampler) == 12 // world
        together += list(sampler)
    assert len(set(together)) == 12


def test_empty_slices_are_left_out_and_pairs_stay_together():
    volume = torch.full((1, 8, 8, 3), -1.0)
    volume[..., 1] = 0.5
    other = torch.arange(3.0).expand(1, 8, 8, 3)
    assert len(axial_slices([volume])) == 1
    (kept,) = axial_slices([other], like=[volume])
    assert float(kept.mean()) == 1.0
    with pytest.raises(ValueError, match="None of the 1 volumes"):
        axial_slices([torch.full((1, 8, 8, 3), -1.0)])
