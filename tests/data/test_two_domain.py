"""Slices of one pair of CT domains: unpaired, and dependent on (seed, epoch, index) alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import RandSpatialCropd

from common.data import DomainVolume, TwoDomainDataset

DEPTH = 5


def volumes() -> list[DomainVolume]:
    """Two patients a domain; the values of a slice name domain, patient and place."""
    plane = np.arange(36, dtype=np.int16).reshape(6, 6) * 0
    return [
        DomainVolume(np.stack([plane + 1000 * d + 100 * p + z for z in range(DEPTH)]), (0.7, 0.7), domain, f"p{p}")
        for d, domain in enumerate(("soft", "middle", "sharp"))
        for p in range(2)
    ]


def same(item):
    return item


def values(data: TwoDomainDataset, epoch: int, name: str) -> list[int]:
    return [int(data[epoch, i][name][0, 0, 0]) for i in range(len(data))]


def test_every_source_slice_gets_some_target_slice_and_no_third_domain():
    data = TwoDomainDataset(volumes(), ["sharp", "soft"], transform=same)
    assert len(data) == 2 * DEPTH
    assert values(data, 1, "source") == [2000 + 100 * p + z for p in range(2) for z in range(DEPTH)]
    targets = {t for epoch in range(20) for t in values(data, epoch, "target")}
    assert targets == {100 * p + z for p in range(2) for z in range(DEPTH)}


def test_targets_change_with_epoch_and_seed_and_with_nothing_else():
    data = TwoDomainDataset(volumes(), ["sharp", "soft"], transform=same)
    assert values(data, 1, "target") == values(data, 1, "target")
    assert values(data, 1, "target") != values(data, 2, "target")
    other = TwoDomainDataset(volumes(), ["sharp", "soft"], transform=same, seed=1)
    assert values(other, 1, "target") != values(data, 1, "target")
    assert int(data[3]["source"][0, 0, 0]) == 2003


def test_source_and_target_are_cropped_by_themselves_and_again_alike():
    ramp = np.arange(64, dtype=np.int16).reshape(1, 8, 8)
    pair = [DomainVolume(ramp, (0.7, 0.7), domain, "p") for domain in ("soft", "sharp")]
    crop = RandSpatialCropd("image", roi_size=(3, 3), random_size=False)
    data = TwoDomainDataset(pair, ["soft", "sharp"], transform=crop)
    items = [data[epoch, 0] for epoch in range(8)]
    assert items[0]["source"].shape == items[0]["target"].shape == (1, 3, 3)
    assert any(not torch.equal(item["source"], item["target"]) for item in items)
    again = data[5, 0]
    assert torch.equal(again["source"], items[5]["source"])
    assert torch.equal(again["target"], items[5]["target"])


@pytest.mark.parametrize("domains", [["soft"], ["soft", "soft"], ["soft", "middle", "sharp"]])
def test_other_than_two_domains_are_refused(domains):
    with pytest.raises(ValueError, match="`domains` must be two different ones, source and target, got"):
        TwoDomainDataset(volumes(), domains, transform=same)


def test_a_domain_without_a_volume_is_named():
    with pytest.raises(ValueError, match=r"every domain of \['bone'\], got none of \['bone'\]"):
        TwoDomainDataset(volumes(), ["soft", "bone"], transform=same)
