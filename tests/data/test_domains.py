"""Slices of several CT domains: every item says where it comes from, and depends on (seed, epoch, index) alone.

Slices of one pair of CT domains: unpaired, and dependent on (seed, epoch, index) alone.

Aligned pairs for the supervised end of the scale: what belongs together stays together.
"""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, RandSpatialCropd

from common.data import (
    DomainVolume,
    MultiDomainDataset,
    PairedDomainsDataset,
    PairedPatchDataset,
    PatchVolume,
    TwoDomainDataset,
    VolumeCache,
    conversions,
    load_domains,
    spacing_range,
)

LOAD = Compose(
    [
        LoadImaged("image"),
        EnsureChannelFirstd("image"),
        Orientationd("image", axcodes="RAS", labels=None),
    ]
)


def same(item):
    return item


@pytest.fixture
def folder(tmp_path):
    """Soft and sharp volumes whose values name patient and slice; stored with the first axis to the left."""
    rng = np.random.default_rng(0)

    def entry(patient, domains):
        paths = {}
        for offset, domain in enumerate(domains):
            data = np.zeros((6, 5, 3), np.int16) + 1000 * patient + 100 * offset + np.arange(3, dtype=np.int16)
            data[0] = rng.integers(-1000, 0)
            paths[domain] = f"{patient}_{domain}.nii.gz"
            nib.save(nib.Nifti1Image(data, np.diag([-0.6 - 0.1 * patient, 0.6, 2, 1])), tmp_path / paths[domain])
        return paths

    datalist = {
        "training": [
            {"image": entry(0, ["soft"])["soft"], "domain": "soft", "patient": "p0"},
            {"image": entry(1, ["sharp"])["sharp"], "domain": "sharp", "patient": "p1"},
        ],
        "validation": [{**entry(2, ["soft", "sharp"]), "patient": "p2"}],
        "test": [],
    }
    (tmp_path / "datalist.json").write_text(json.dumps(datalist))
    return tmp_path


@pytest.mark.parametrize("cached", [False, True])
def test_volumes_keep_their_hu_domain_and_spacing(folder, cached, tmp_path):
    volumes = load_domains(
        str(folder), "training", ["soft", "sharp"], LOAD, cache=VolumeCache(tmp_path / "cache" if cached else None)
    )
    assert [(v.domain, v.patient, v.slices.dtype, v.slices.shape) for v in volumes] == [
        ("soft", "p0", np.int16, (3, 6, 5)),
        ("sharp", "p1", np.int16, (3, 6, 5)),
    ]
    assert volumes[1].slices[2, 0, 0] == 1002
    assert volumes[0].slices[0, -1, 0] < 0  # the stored first row is the patient's left, the last in RAS
    assert volumes[1].spacing_mm == pytest.approx((0.7, 0.6))
    assert spacing_range(volumes) == [0.6, 0.7]
    assert len(list((tmp_path / "cache").glob("*"))) == (2 if cached else 0)


def test_items_say_domain_and_pixel_size_and_depend_on_seed_epoch_and_index_alone(folder):
    volumes = load_domains(str(folder), "training", ["soft", "sharp"], LOAD)
    crop = Compose([RandSpatialCropd("image", roi_size=[3, 3], random_size=False)])
    data, again = (MultiDomainDataset(volumes, ["sharp", "soft"], transform=crop, seed=5) for _ in range(2))
    assert len(data) == 6
    assert [data[i]["domain"].item() for i in range(6)] == [1, 1, 1, 0, 0, 0]
    assert data[0]["spacing_mm"].item() == pytest.approx(0.6)
    assert data[5]["spacing_mm"].item() == pytest.approx(0.65)
    item = data[3, 2]["image"]
    assert item.shape == (1, 3, 3)
    for place in [(1, 0), (3, 2)]:
        again[place]
    assert torch.equal(again[3, 2]["image"], item)


def test_validation_converts_into_every_other_domain_and_knows_the_truth_where_there_is_one(folder):
    items = conversions(str(folder), ["soft", "sharp"], LOAD, same, slices_per_volume=2)
    assert [(i["source"].item(), i["target"].item()) for i in items] == [(0, 1), (0, 1), (1, 0), (1, 0)]
    assert [i["image"][0, 0, 0].item() for i in items] == [2000, 2002, 2100, 2102]
    assert [i["label"][0, 0, 0].item() for i in items] == [2100, 2102, 2000, 2002]


def test_validation_of_one_direction_converts_into_its_target_only(folder):
    items = conversions(str(folder), ["soft", "sharp"], LOAD, same, slices_per_volume=2, targets=["sharp"])
    assert [(i["source"].item(), i["target"].item()) for i in items] == [(0, 1), (0, 1)]
    assert [i["label"][0, 0, 0].item() for i in items] == [2100, 2102]


def test_a_domain_without_a_volume_is_named():
    volume = DomainVolume(np.zeros((1, 4, 4), np.int16), (1.0, 1.0), "soft", "p")
    with pytest.raises(ValueError, match=r"every domain of \['soft', 'sharp'\], got none of \['sharp'\]"):
        MultiDomainDataset([volume], ["soft", "sharp"], transform=same)


DEPTH = 5


def volumes() -> list[DomainVolume]:
    """Two patients a domain; the values of a slice name domain, patient and place."""
    plane = np.arange(36, dtype=np.int16).reshape(6, 6) * 0
    return [
        DomainVolume(np.stack([plane + 1000 * d + 100 * p + z for z in range(DEPTH)]), (0.7, 0.7), domain, f"p{p}")
        for d, domain in enumerate(("soft", "middle", "sharp"))
        for p in range(2)
    ]


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


def test_a_domain_without_a_volume_is_named_in_two_domains():
    with pytest.raises(ValueError, match=r"every domain of \['bone'\], got none of \['bone'\]"):
        TwoDomainDataset(volumes(), ["soft", "bone"], transform=same)


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


def test_no_pair_is_drawn_between_linear_domains():
    data = PairedDomainsDataset(VOLUMES, DOMAINS, transform=crop, linear=DOMAINS[:2], seed=1)
    items = [data[epoch, index] for epoch in range(3) for index in range(len(data))]
    assert {(int(item["domain"]), int(item["target"])) for item in items} == {(0, 2), (1, 2), (2, 0), (2, 1)}
    with pytest.raises(ValueError, match=r"`linear` must leave out one of the domains"):
        PairedDomainsDataset(VOLUMES, DOMAINS, transform=crop, linear=DOMAINS)
    pair = [volume(domain, "p3") for domain in DOMAINS[:2]]
    with pytest.raises(ValueError, match=r"patient 'p3'.*a pair of two of `linear` is none"):
        PairedDomainsDataset([*VOLUMES, *pair], DOMAINS, transform=crop, linear=DOMAINS[:2])


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
