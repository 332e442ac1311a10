"""Unpaired draws that depend on (seed, epoch, index) alone.

Three consecutive slices as one training image, unpaired and paired.
"""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, RandSpatialCropd

from common.data import EpochSampler, UnpairedDataset, axial_slices, axial_stacks, blank_outside, epoch_loader
from common.data.many import LazyVolumes


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


def test_an_epoch_of_few_of_very_many_samples_has_each_once():
    sampler = EpochSampler(10**14, samples_per_epoch=1000, seed=4)  # whose permutation no memory would hold
    first = [index for _, index in sampler]
    assert len(set(first)) == 1000
    assert max(first) > 0.9 * 10**14
    assert [index for _, index in sampler] == first
    sampler.set_epoch(2)
    assert [index for _, index in sampler] != first


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


def test_the_loader_of_a_training_draws_the_epochs_of_its_seed():
    loader = epoch_loader(UnpairedDataset(images(5, 0), images(5, 100)), batch_size=2, samples_per_epoch=7, seed=4)
    assert len(loader) == 3, "the last image fills no batch"
    expected = [index for _, index in EpochSampler(5, samples_per_epoch=7, seed=4)]
    found = torch.cat([batch["source"].flatten(1).mean(1) for batch in loader]).tolist()
    assert found == [float(index) for index in expected[:6]]


def test_the_order_of_an_epoch_may_be_another_one():
    dataset = UnpairedDataset(images(5, 0), images(5, 100))
    more = epoch_loader(dataset, batch_size=1, samples_per_epoch=2, seed=1, sampler={"samples_per_epoch": 4})
    assert list(more.sampler) == list(EpochSampler(5, samples_per_epoch=4, seed=1))
    own = EpochSampler(3, seed=2)
    assert epoch_loader(dataset, batch_size=1, sampler=own).sampler is own
    with pytest.raises(ValueError, match=r"`sampler` may give .* got \['samples'\]"):
        epoch_loader(dataset, batch_size=1, sampler={"samples": 4})


def test_empty_slices_are_left_out_and_pairs_stay_together():
    volume = torch.full((1, 8, 8, 3), -1.0)
    volume[..., 1] = 0.5
    other = torch.arange(3.0).expand(1, 8, 8, 3)
    assert len(axial_slices([volume])) == 1
    (kept,) = axial_slices([other], like=[volume])
    assert float(kept.mean()) == 1.0
    with pytest.raises(ValueError, match="None of the 1 volumes"):
        axial_slices([torch.full((1, 8, 8, 3), -1.0)])


def numbered(depth: int, start: float = 0.0) -> torch.Tensor:
    """A volume (1, 4, 5, depth) whose slices hold their number."""
    return (start + torch.arange(float(depth))).expand(1, 4, 5, depth)


def numbers(stack: torch.Tensor) -> list[float]:
    return stack[:, 0, 0].tolist()


def test_every_slice_but_the_ends_is_the_middle_of_one_stack():
    stacks = axial_stacks([numbered(5), numbered(3, 10)])
    assert [numbers(t) for t in stacks] == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [10, 11, 12]]
    assert {tuple(t.shape) for t in stacks} == {(3, 4, 5)}


def test_what_a_mask_leaves_out_and_what_was_mixed_with_it_is_background():
    volume = torch.full((1, 3, 1, 1), 0.25)
    mask = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1)
    (blanked,) = blank_outside([volume], [mask])
    assert blanked.flatten().tolist() == [0.25, -1.0, -1.0]
    assert (volume == 0.25).all()
    many = LazyVolumes([volume], torch.clone, size=torch.numel, mapped=False)
    assert torch.equal(blank_outside(many, [mask])[0], blanked)
    with pytest.raises(ValueError, match="must have one shape"):
        blank_outside([volume], [mask[:, :2]])
    with pytest.raises(ValueError, match="a mask for each of the 1 volumes, got 0"):
        blank_outside([volume], [])


def test_the_middle_slice_decides_whether_a_stack_shows_something():
    volume = torch.full((1, 4, 5, 5), -1.0)
    volume[..., 1] = 0.5
    (stack,) = axial_stacks([volume])
    assert numbers(stack) == [-1.0, 0.5, -1.0]
    with pytest.raises(ValueError, match="None of the 1 volumes has an axial slice with 5% foreground between two"):
        axial_stacks([torch.full((1, 4, 5, 5), -1.0)])


def test_a_stack_may_have_any_number_of_slices():
    assert [numbers(t) for t in axial_stacks([numbered(3)], slices=1)] == [[0], [1], [2]]
    assert [numbers(t) for t in axial_stacks([numbered(6)], slices=5)] == [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]]
    with pytest.raises(ValueError, match=r"has 3 axial slice\(s\).*at least 5 are needed"):
        axial_stacks([numbered(3)], slices=5)


def test_stacks_share_the_memory_of_their_volume():
    volume = numbered(4).clone()
    first, second = axial_stacks([volume])
    volume[..., 1] = 7
    assert numbers(first) == [0, 7, 2]
    assert numbers(second) == [7, 2, 3]


def test_pairs_are_of_the_same_patient_and_slices():
    sources = [numbered(5), numbered(4, 20)]
    sources[0] = sources[0].clone()
    sources[0][..., 2] = -1.0  # this stack is left out of both
    targets = [numbered(5, 100), numbered(4, 120)]
    stacks = axial_stacks(sources), axial_stacks(targets, like=sources)
    dataset = UnpairedDataset(*stacks, paired=True)
    drawn = [dataset[(epoch, i)] for epoch in (1, 2) for i in range(len(dataset))]
    assert [item["target"][1, 0, 0].item() for item in drawn] == [101, 103, 121, 122] * 2
    assert all(item["target"][1, 0, 0] - item["source"][1, 0, 0] == 100 for item in drawn)


def test_unpaired_targets_are_drawn_from_all():
    dataset = UnpairedDataset(axial_stacks([numbered(4)]), axial_stacks([numbered(6, 100)]))
    drawn = {dataset[(epoch, 0)]["target"][1, 0, 0].item() for epoch in range(60)}
    assert drawn == {101, 102, 103, 104}


@pytest.mark.parametrize("depth", [1, 2])
def test_a_volume_of_fewer_than_three_slices_is_refused_by_name(depth):
    volume = MetaTensor(torch.zeros(1, 4, 5, depth), meta={"filename_or_obj": "short.nii.gz"})
    with pytest.raises(ValueError, match=rf"'short.nii.gz' has {depth} axial slice.*at least 3.*the whole series"):
        axial_stacks([numbered(5), volume])


def test_wrong_shapes_and_pairs_are_refused():
    with pytest.raises(ValueError, match=r"shape \(1, X, Y, Z\), but the image has \(2, 4, 5, 3\)"):
        axial_stacks([torch.zeros(2, 4, 5, 3)])
    with pytest.raises(ValueError, match="for each of the 2 volumes, got 1"):
        axial_stacks([numbered(4), numbered(4)], like=[numbered(4)])
    with pytest.raises(ValueError, match="must have one shape to be a pair"):
        axial_stacks([numbered(4)], like=[numbered(5)])
