"""Patches inside of masks: where they lie, that they depend on (seed, epoch, index) alone, and when drawing ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandFlipd
from scipy.stats import kstest

from common.data import (
    PatchVolume,
    UnpairedPatchDataset,
    draw_patch,
    load_patch_volumes,
    random_patches,
    validation_patches,
)

SHAPE = (40, 36, 3)


def places():
    """A volume whose values tell their place: x + 100 y + 10000 z."""
    x, y, z = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    return torch.tensor((x + 100 * y + 10000 * z)[None], dtype=torch.float32)


def disk():
    x, y = np.ogrid[:40, :36]
    mask = np.zeros(SHAPE, dtype=bool)
    mask[..., 1] = (x - 20) ** 2 + (y - 18) ** 2 <= 12**2
    return mask


def dataset(seed=0, **options):
    generator = torch.Generator().manual_seed(1)
    source = [PatchVolume(torch.rand(1, *SHAPE, generator=generator), disk(), name=f"clinical {i}") for i in range(2)]
    target = [PatchVolume(torch.rand(1, *SHAPE, generator=generator), name=f"micro {i}") for i in range(3)]
    options = {"factor": 2, "source_size": 8, "patches_per_volume": 5, **options}
    return UnpairedPatchDataset(source, target, seed=seed, **options)


def test_no_voxel_lies_outside_of_the_mask_and_all_places_are_reached():
    volume, rng = PatchVolume(places(), disk(), name="disk"), np.random.default_rng(0)
    corners = []
    for _ in range(500):
        patch = draw_patch(volume, (8, 6), rng)
        assert patch.shape == (1, 8, 6)
        x, y = (patch[0] % 100).long(), (patch[0] % 10000 // 100).long()
        assert bool((patch[0] // 10000 == 1).all())
        assert disk()[x, y, 1].all()
        corners.append((int(x[0, 0]), int(y[0, 0])))
    valid = {(x, y) for x in range(40 - 7) for y in range(36 - 5) if disk()[x : x + 8, y : y + 6, 1].all()}
    assert len(set(corners)) > 0.8 * len(valid)
    assert set(corners) <= valid


def test_without_a_mask_places_are_uniform_up_to_the_edges():
    volume, rng = PatchVolume(places()), np.random.default_rng(0)
    x = [int(draw_patch(volume, (8, 8), rng)[0, 0, 0]) % 100 for _ in range(1000)]
    assert (min(x), max(x)) == (0, 32)
    assert kstest((np.array(x) + 0.5) / 33, "uniform").statistic < 0.06


def test_a_drawn_patch_is_a_copy():
    volume = PatchVolume(places())
    draw_patch(volume, (40, 36), np.random.default_rng(0)).zero_()
    assert torch.equal(volume.image, places())


def test_an_item_has_a_clinical_and_a_micro_patch():
    data = dataset()
    assert len(data) == 10
    item = data[(1, 9)]
    assert item["source"].shape == (1, 8, 8)
    assert item["target"].shape == (1, 16, 16)
    with pytest.raises(IndexError, match=r"index must lie in 0 \.\.\. 9, got 10\."):
        data[(1, 10)]
    default = UnpairedPatchDataset(*[[PatchVolume(torch.zeros(1, 256, 256, 1))]] * 2)
    assert len(default) == 2000
    assert [default[0][name].shape[-1] for name in ("source", "target")] == [32, 256]


def test_an_item_does_not_depend_on_what_was_drawn_before():
    flips = Compose([RandFlipd(["source", "target"], prob=0.5, spatial_axis=0)])
    straight, hopping = dataset(transform=flips), dataset(transform=flips)
    first = [straight[(3, i)] for i in range(10)]
    for i in (7, 0, 4):
        hopping[(9, 2)]
        item = hopping[(3, i)]
        assert all(torch.equal(item[name], first[i][name]) for name in ("source", "target"))


def test_epoch_and_seed_change_the_draw():
    first, epoch, seed = dataset()[(1, 0)], dataset()[(2, 0)], dataset(seed=1)[(1, 0)]
    for other in (epoch, seed):
        assert not torch.equal(first["source"], other["source"])
        assert not torch.equal(first["target"], other["target"])


def test_sources_take_turns_and_targets_are_drawn_from_all():
    marked = [PatchVolume(torch.full((1, *SHAPE), float(i))) for i in range(5)]
    data = UnpairedPatchDataset(marked[:2], marked[2:], factor=2, source_size=4, patches_per_volume=30)
    items = [data[(1, i)] for i in range(60)]
    assert [float(item["source"].mean()) for item in items] == [0.0] * 30 + [1.0] * 30
    assert {float(item["target"].mean()) for item in items} == {2.0, 3.0, 4.0}


def test_every_fourth_patch_may_be_the_averaged_micro_patch():
    data = dataset(downsampled_every=4)
    for index in range(10):
        item = data[(1, index)]
        averaged = item["target"].unfold(1, 2, 2).unfold(2, 2, 2).mean(dim=(-2, -1))
        assert torch.allclose(item["source"], averaged) == (index % 4 == 0)


def test_volumes_are_loaded_with_their_masks():
    def transform(item):
        return {"image": places(), "lung": torch.tensor(disk()[None]).byte()}

    (volume,) = load_patch_volumes([{"image": "a.nii"}], transform, mask_key="lung")
    assert volume.mask.dtype == bool
    assert volume.first == (8, 6, 1)
    assert volume.last == (33, 31, 2)
    assert load_patch_volumes([{"image": "a.nii"}], transform)[0].mask is None
    with pytest.raises(ValueError, match=r"`entries` must hold at least one volume to draw patches from, got none\."):
        load_patch_volumes([], transform)


def test_drawing_ends_where_no_patch_fits():
    rng = np.random.default_rng(0)
    checkerboard = np.indices(SHAPE).sum(axis=0) % 2 == 0
    volume = PatchVolume(places(), checkerboard, name="'scan.nii'")
    message = (
        r"'scan\.nii' must hold patches of 8 x 8 voxels completely inside its lung mask, but 20 tries found none; the "
        r"mask covers 50\.0% of the volume\. Check the mask, choose smaller patches, or leave the volume out\."
    )
    with pytest.raises(ValueError, match=message):
        draw_patch(volume, (8, 8), rng, max_tries=20)
    with pytest.raises(ValueError, match=r"32 x 8 voxels completely inside its lung mask, but none fits its extent;"):
        draw_patch(PatchVolume(places(), disk()), (32, 8), rng)
    with pytest.raises(ValueError, match=r"as large as a patch, 41 x 8 voxels, got 40 x 36: choose smaller patches"):
        draw_patch(PatchVolume(places()), (41, 8), rng)


def test_a_dataset_says_at_once_what_it_cannot_draw():
    good, empty = PatchVolume(places(), disk()), np.indices(SHAPE).sum(axis=0) % 2 == 0
    with pytest.raises(ValueError, match=r"bad must hold patches of 8 x 8 voxels .* 1000 tries found none"):
        UnpairedPatchDataset([good, PatchVolume(places(), empty, name="bad")], [good], factor=2, source_size=8)
    with pytest.raises(ValueError, match=r"as a patch, 64 x 64 voxels, got 40 x 36"):
        UnpairedPatchDataset([good], [PatchVolume(places())], factor=8, source_size=8)


def test_errors():
    with pytest.raises(ValueError, match=r"the mask of scan must have its shape \(40, 36, 3\), got \(40, 36\)\."):
        PatchVolume(places(), disk()[..., 1], name="scan")
    with pytest.raises(ValueError, match=r"the mask of scan is empty: there is no lung to draw patches from\."):
        PatchVolume(places(), np.zeros(SHAPE, dtype=bool), name="scan")
    with pytest.raises(ValueError, match=r"there must be volumes of both domains, got 0 `source`, 1 `target`\."):
        UnpairedPatchDataset([], [PatchVolume(places())])
    for name in ("factor", "source_size", "patches_per_volume", "max_tries"):
        with pytest.raises(ValueError, match=rf"`{name}` must be >= 1, got 0\."):
            dataset(**{name: 0})
    with pytest.raises(ValueError, match=r"`downsampling` must be one of \('mean', 'spline'\), got 'zoom'\."):
        dataset(downsampling="zoom")
    with pytest.raises(ValueError, match=r"`downsampled_every` must be >= 1, or 0 for never, got -1\."):
        dataset(downsampled_every=-1)


def test_patches_of_a_validation_are_the_same_ones_each_time():
    ramps = [PatchVolume(torch.arange(2.0 * 8 * 8).reshape(1, 8, 8, 2) + 1000 * n, name=f"ramp {n}") for n in range(2)]
    found = random_patches(ramps, 3, each=4, seed=1)
    assert [tuple(patch.shape) for patch in found] == [(1, 3, 3)] * 8
    assert [int(patch.min()) // 1000 for patch in found] == [0] * 4 + [1] * 4
    assert all(torch.equal(*pair) for pair in zip(found, random_patches(ramps, 3, each=4, seed=1), strict=True))
    assert not all(torch.equal(*pair) for pair in zip(found, random_patches(ramps, 3, each=4, seed=2), strict=True))


def test_the_patches_of_a_validation_come_from_the_given_entries():
    def load(item):
        return {"image": torch.full((1, 4, 4, 1), float(item["image"]))}

    entries = [{"image": "0.5", "domain": "clinical", "patient": "a"}, {"micro": "x"}]
    found = validation_patches(entries, "clinical", load, size=2, each=3)
    assert [item["image"].unique().tolist() for item in found] == [[0.5]] * 3
    with pytest.raises(ValueError, match="List 'validation' of the datalist in 'the given entries' has no image of"):
        validation_patches(entries, "clinic", load, size=2, each=3)
