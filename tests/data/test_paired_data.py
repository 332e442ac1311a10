"""Aligned pairs for the supervised end of the scale: what belongs together stays together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import RandSpatialCropd

from common.data import DomainVolume, PairedDomainsDataset, PairedPatchDataset, PatchVolume

DOMAINS = ["B30f", "B50f", "B70f"]


def volume(domain: str, patient: str, *, shape=(3, 8, 8)) -> DomainVolume:
    """A volume whose values tell patient, domain and place: 10,000 * patient + 1000 * domain + place."""
    number = 10_000 * int(patient[1:]) + 1000 * DOMAINS.index(domain)
    slices = np.arange(np.prod(shape)).reshape(shape).astype(np.int16) + np.int16(number)
    return DomainVolume(slices, (0.6, 0.8), domain, patient)


VOLUMES = [volume(domain, patient) for patient in ("p1", "p2") for domain in DOMAINS]


def crop(item):
    return item


@pytest.mark.parametrize("random", [False, True])
def test_image_and_truth_show_the_same_place_of_the_same_patient(random):
    """With a random crop as well: their difference is that of their domains, 1000 a step, at every pixel."""
    transform = RandSpatialCropd("image", roi_size=[4, 4], random_size=False) if random else crop
    data = PairedDomainsDataset(VOLUMES, DOMAINS, transform=transform, seed=1)
    assert len(data) == 2 * 3 * 3
    seen = set()
    for epoch in range(3):
        for index in range(len(data)):
            item = data[epoch, index]
            steps = int(item["target"]) - int(item["domain"])
            assert torch.equal(item["truth"] - item["image"], torch.full_like(item["image"], 1000.0 * steps))
            assert float(item["spacing_mm"]) == pytest.approx(0.7)
            seen.add((int(item["domain"]), int(item["target"])))
    assert seen == {(s, t) for s in range(3) for t in range(3) if s != t}


def test_an_item_depends_on_seed_epoch_and_index_alone():
    first, second = (PairedDomainsDataset(VOLUMES, DOMAINS, transform=crop, seed=5) for _ in range(2))
    for index in (4, 0, 4):
        assert torch.equal(first[2, index]["truth"], second[2, index]["truth"])


def test_a_patient_without_a_pair_is_refused():
    with pytest.raises(ValueError, match=r"patient 'p3' must have volumes of two domains on one grid, got \['B30f'\]"):
        PairedDomainsDataset([*VOLUMES, volume("B30f", "p3")], DOMAINS, transform=crop)
    other = volume("B50f", "p3", shape=(3, 8, 6))
    with pytest.raises(ValueError, match="of the shapes"):
        PairedDomainsDataset([volume("B30f", "p3"), other], DOMAINS, transform=crop)


@pytest.mark.parametrize(("factor", "thick"), [(2, 1), (4, 3)])
def test_a_patch_and_its_truth_are_of_one_place(factor, thick):
    """The coarse volume is the fine one averaged, so that each patch must be its own truth averaged."""
    rng = np.random.default_rng(0)
    fine = torch.from_numpy(rng.normal(size=(1, 10 * factor, 8 * factor, 3 * thick))).float()
    blocks = fine.reshape(1, 10, factor, 8, factor, 3, thick)
    coarse = blocks.mean(dim=(2, 4, 6))
    data = PairedPatchDataset(
        [PatchVolume(coarse)], [PatchVolume(fine)], factor=factor, source_size=3, patches_per_volume=20
    )
    for index in range(len(data)):
        item = data[1, index]
        averaged = item["target"].reshape(1, 3, factor, 3, factor).mean(dim=(2, 4))
        torch.testing.assert_close(averaged, item["source"])
    assert torch.equal(data[1, 3]["target"], data[1, 3]["target"])


def test_the_mask_of_the_clinical_volume_holds_the_patches():
    mask = np.zeros((8, 8, 1), bool)
    mask[4:, :4] = True
    coarse = PatchVolume(torch.arange(64.0).reshape(1, 8, 8, 1), mask)
    data = PairedPatchDataset(
        [coarse], [PatchVolume(torch.zeros(1, 16, 16, 1))], factor=2, source_size=4, patches_per_volume=3
    )
    assert all(torch.equal(data[0, i]["source"], coarse.image[:, 4:, :4, 0]) for i in range(3))


def test_a_truth_of_another_grid_is_refused():
    coarse, fine = PatchVolume(torch.zeros(1, 8, 8, 2), name="case 1"), PatchVolume(torch.zeros(1, 16, 16, 5))
    with pytest.raises(ValueError, match=r"the truth of case 1 must have 2 times its 8 x 8 pixels.*\(16, 16, 5\)"):
        PairedPatchDataset([coarse], [fine], factor=2, source_size=4)
    with pytest.raises(ValueError, match="got 1 and 0"):
        PairedPatchDataset([coarse], [], factor=2)
