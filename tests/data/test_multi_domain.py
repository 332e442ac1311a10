"""Slices of several CT domains: every item says where it comes from, and depends on (seed, epoch, index) alone."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, RandSpatialCropd

from common.data import DomainVolume, MultiDomainDataset, VolumeCache, conversions, load_domains, spacing_range

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
