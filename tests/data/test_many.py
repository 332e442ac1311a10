"""Many volumes are opened when they are drawn, give the same items as few, and a few stand for all in every fit."""

from __future__ import annotations

import json
import logging
import pickle
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, ScaleIntensityRanged

from common.baselines import fit_and_save
from common.baselines.kernels.training import fit_and_save_filters
from common.data import (
    MultiDomainDataset,
    PairedDomainsDataset,
    PairedPatchDataset,
    TwoDomainDataset,
    UnpairedDataset,
    UnpairedPatchDataset,
    VolumeCache,
    axial_slices,
    axial_stacks,
    cache_volumes,
    conversions,
    load_domain,
    load_domains,
    load_patch_volumes,
    random_patches,
    sampled,
    spacing_range,
    validation_images,
    warn_of_confounders,
)
from common.data import many as rules
from common.data.many import LazyPlaces, LazyVolumes, sampled_patients
from common.errors import own_error
from common.transforms import LoadImageAndCheckd

NUMBER, SAMPLE = 9, 2
SHAPE = (10, 12, 4)
DOMAINS = ("soft", "sharp")
opened: list[str] = []


def noted(item):
    opened.append(Path(item["image"]).name)
    return item


LOAD = Compose([noted, LoadImaged("image"), EnsureChannelFirstd("image")])
ENCODE = Compose([LOAD, ScaleIntensityRanged("image", -1000, 1000, -1.0, 1.0)])


@pytest.fixture
def folder(tmp_path):
    """Patients with both domains; one slice of the first patient has no foreground."""
    opened.clear()
    rng = np.random.default_rng(0)
    entries = []
    for n in range(NUMBER):
        entry = {"patient": f"p{n}"}
        for domain in DOMAINS:
            values = rng.integers(-800, 800, SHAPE).astype(np.int16)
            if n == 0:
                values[..., 1] = -1000
            nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / f"{n}_{domain}.nii")
            entry[domain] = f"{n}_{domain}.nii"
        entries.append(entry)
    lists = {"training": entries, "training_paired": entries}
    (tmp_path / "datalist.json").write_text(json.dumps(lists))
    return tmp_path


@pytest.fixture
def many(monkeypatch):
    """From now on, what `folder` lists are many volumes."""

    def from_now_on():
        monkeypatch.setattr(rules, "MANY", NUMBER)
        monkeypatch.setattr(rules, "SAMPLED", SAMPLE)

    return from_now_on


def assert_same_items(data, expected):
    assert len(data) == len(expected)
    for index in range(len(data)):
        torch.testing.assert_close(data[3, index], expected[3, index], rtol=0, atol=0)


def test_of_few_all_and_of_many_the_same_ones_are_taken(caplog):
    few = list(range(rules.MANY - 1))
    assert sampled(few, "the test") is few
    with caplog.at_level(logging.INFO):
        chosen = [list(sampled(range(rules.MANY), "The test")) for _ in range(2)]
    assert chosen[0] == chosen[1] == sorted(set(chosen[0]))
    assert len(chosen[0]) == rules.SAMPLED
    assert "The test: 16 of 1,000 volumes, the same ones in each run, stand for all." in caplog.text


def test_the_last_used_volumes_are_kept_within_their_bytes(monkeypatch):
    monkeypatch.setattr(rules, "KEPT_BYTES", 20)
    volumes = LazyVolumes("abcd", lambda key: key * 10, size=len, mapped=False)
    for index in (0, 1, 0, 2, 0, 1):  # 1 goes when 2 comes
        assert volumes[index] == "abcd"[index] * 10
    assert volumes.opened == 4
    assert volumes[-1] == "d" * 10
    assert list(volumes[1:3]) == ["b" * 10, "c" * 10]
    with pytest.raises(IndexError):
        volumes[4]


def test_the_number_of_maps_is_limited(monkeypatch):
    monkeypatch.setattr(rules, "KEPT_MAPS", 2)
    volumes = LazyVolumes("abcd", lambda key: key, size=lambda _: 10**15, mapped=True)
    for index in (0, 1, 0, 1, 2, 1, 0):
        assert volumes[index] == "abcd"[index]
    assert volumes.opened == 4


def test_a_worker_process_starts_without_the_kept_volumes():
    volumes = LazyVolumes(["a"], str.upper, size=len, mapped=False)
    assert volumes[0] == "A"
    copied = pickle.loads(pickle.dumps(volumes))
    assert not copied._kept
    assert copied[0] == "A"


def test_each_volume_has_as_many_places_and_one_without_images_is_passed_over(monkeypatch):
    monkeypatch.setattr(rules, "SAMPLED", 4)
    numbers = [2, 0, 3, 4]
    places = LazyPlaces(numbers, numbers.__getitem__, "the test")
    assert [places[n] for n in range(len(places))] == [
        *[(0, 0), (0, 0), (0, 1), (0, 1)],
        *[(2, 0), (2, 0), (2, 1), (2, 2)],
        *[(2, 0), (2, 0), (2, 1), (2, 2)],
        *[(3, 0), (3, 1), (3, 2), (3, 3)],
    ]
    with pytest.raises(ValueError, match="The test: none of 4 volumes out of 4 has an image"):
        LazyPlaces(numbers, lambda _: 0, "The test")


@pytest.mark.parametrize("cut", [axial_slices, axial_stacks])
def test_slices_and_stacks_are_those_of_few_volumes(folder, many, cut):
    entries = load_domain(folder, "training", "soft")[1:]  # of equal numbers of slices
    expected = list(cut(cache_volumes(entries, ENCODE)))
    many()
    opened.clear()
    entries.append(entries[0])
    volumes = cache_volumes(entries, ENCODE)
    assert opened == []
    images = cut(volumes)
    assert len(opened) == SAMPLE
    assert len(images) == len(expected) * NUMBER // (NUMBER - 1)
    torch.testing.assert_close(list(images[: len(expected)]), expected, rtol=0, atol=0)
    assert volumes[3].meta["filename_or_obj"] == entries[3]["image"]


def test_slices_without_foreground_are_never_drawn(folder, many):
    many()
    images = axial_slices(cache_volumes(load_domain(folder, "training", "soft"), ENCODE))
    assert all((image > -0.95).any() for image in images)
    assert len(images) == NUMBER * SHAPE[2]


def test_pairs_stay_together(folder, many):
    many()
    volumes = {d: cache_volumes(load_domain(folder, "training_paired", d), ENCODE) for d in DOMAINS}
    source = axial_stacks(volumes["soft"])
    target = axial_stacks(volumes["sharp"], like=volumes["soft"])
    data = UnpairedDataset(source, target, paired=True)
    for index in (0, 1, 7, len(data) - 1):
        volume, place = index // source.places.each, index % source.places.each
        middle = volumes["sharp"][volume][0, ..., place + 1] if volume else None
        if middle is not None:
            assert torch.equal(data[1, index]["target"][1], torch.as_tensor(middle))
    with pytest.raises(ValueError, match="a volume for each of the 9 volumes, got 8"):
        axial_stacks(volumes["sharp"], like=volumes["soft"][1:])


def test_the_sample_of_slices_is_bounded(folder, many):
    many()
    images = axial_slices(cache_volumes(load_domain(folder, "training", "soft"), ENCODE))
    assert len(images.sample(3)) == SAMPLE * 3
    assert len(images.sample()) == SAMPLE * SHAPE[2]


@pytest.mark.parametrize("dataset", [MultiDomainDataset, TwoDomainDataset, PairedDomainsDataset])
def test_items_of_domains_are_those_of_few_volumes(folder, many, dataset):
    expected = dataset(load_domains(folder, "training", DOMAINS, LOAD), DOMAINS, transform=Compose([]))
    many()
    opened.clear()
    volumes = load_domains(folder, "training", DOMAINS, LOAD)
    assert [volume.patient for volume in volumes[:2]] == ["p0", "p1"]
    assert opened == []
    data = dataset(volumes, DOMAINS, transform=Compose([]))
    assert len(set(opened)) <= 3 * SAMPLE
    assert_same_items(data, expected)


def test_volumes_of_domains_go_to_worker_processes_unopened(folder, many):
    many()
    volumes = load_domains(folder, "training", DOMAINS, LOAD)
    opened.clear()
    copied = pickle.loads(pickle.dumps(volumes))
    assert opened == []
    assert [(v.domain, v.patient) for v in copied] == [(v.domain, v.patient) for v in volumes]
    assert np.array_equal(copied[3].slices, volumes[3].slices)


def test_items_of_patches_are_those_of_few_volumes(folder, many):
    def data(kind, **options):
        volumes = [load_patch_volumes(load_domain(folder, "training", d), ENCODE) for d in DOMAINS]
        return kind(*volumes, factor=1, source_size=4, patches_per_volume=3, **options)

    kinds = (UnpairedPatchDataset, PairedPatchDataset)
    expected = [data(kind) for kind in kinds]
    many()
    for kind, each in zip(kinds, expected):
        opened.clear()
        found = data(kind)
        assert len(opened) <= 2 * SAMPLE
        assert_same_items(found, each)
    assert len(random_patches(found.source, 4, each=5)) == 5 * SAMPLE


def test_with_a_cache_volumes_are_mapped_and_may_make_room_for_others(folder, many, tmp_path):
    many()
    size_gb = np.prod(SHAPE) * 4 / 1e9
    cache = VolumeCache(tmp_path / "cache", limit_gb=3 * (size_gb + 1e-5))
    volumes = cache_volumes(load_domain(folder, "training", "soft"), ENCODE, cache=cache)
    first = volumes[0].clone()
    for volume in volumes:
        assert volume.shape == (1, *SHAPE)
    assert len(list((tmp_path / "cache").glob("*.volume"))) < NUMBER
    volumes._kept.clear()
    assert torch.equal(volumes[0], first)


def test_a_missing_file_of_a_long_list_is_named_at_once_and_a_damaged_one_when_it_is_drawn(folder, many):
    many()
    (folder / "4_soft.nii").write_bytes(b"no image")
    images = cache_volumes(load_domain(folder, "training", "soft"), LoadImageAndCheckd("image", hu=False))
    with pytest.raises(RuntimeError) as raised:
        images[4]
    assert "4_soft.nii" in str(own_error(raised.value))
    (folder / "4_soft.nii").unlink()
    content = (folder / "datalist.json").read_text()
    (folder / "datalist.json").write_text(content + " ")  # another version of the datalist
    with pytest.raises(FileNotFoundError, match=re.escape("4_soft.nii")):
        load_domain(folder, "training", "soft")


def test_fits_open_some_volumes_only(folder, many):
    many()
    volumes = load_domains(folder, "training", DOMAINS, LOAD)
    assert spacing_range(volumes) == [1.0, 1.0]
    assert warn_of_confounders(volumes, DOMAINS) == {}
    assert len(set(opened)) == SAMPLE
    targets = cache_volumes(load_domain(folder, "training", "sharp"), ENCODE)
    path = fit_and_save(folder / "models", folder, "soft", "sharp", ENCODE, targets)
    assert len(json.loads(path.read_text())["facts"]["target_patients"]) == SAMPLE
    assert len(set(opened)) <= 5 * SAMPLE


def test_radial_filters_are_fitted_to_some_volumes_of_each_domain(tmp_path, many, monkeypatch):
    rng = np.random.default_rng(0)
    for n in range(NUMBER):
        image = nib.Nifti1Image(rng.integers(-100, 100, (64, 64, 2)).astype(np.int16), np.eye(4))
        nib.save(image, tmp_path / f"{n}.nii")
    entries = [{"image": f"{n}.nii", "patient": f"p{n}", "domain": DOMAINS[n % 2]} for n in range(NUMBER)]
    (tmp_path / "datalist.json").write_text(json.dumps({"training": entries}))
    many()
    opened.clear()
    volumes = load_domains(tmp_path, "training", DOMAINS, LOAD)
    path = fit_and_save_filters(tmp_path, tmp_path, DOMAINS, LOAD, volumes)
    assert len(opened) == 2 * SAMPLE
    assert [len(names) for names in json.loads(path.read_text())["facts"]["patients"].values()] == [SAMPLE] * 2


def test_validation_of_a_long_list_sees_some_patients_of_each_domain(folder, many):
    entries = json.loads((folder / "datalist.json").read_text())["training"]
    entries = [{**e, **{d: str(folder / e[d]) for d in DOMAINS}} for e in entries]
    many()
    items = conversions(entries, DOMAINS, LOAD, lambda item: item, slices_per_volume=1)
    assert len(items) == 2 * SAMPLE
    assert all("label" in item for item in items)
    assert len(validation_images(entries, "soft", "sharp", ENCODE, volumes=True)) == SAMPLE
    unpaired = [{"domain": "soft" if n else "sharp", "image": "x", "patient": n} for n in range(NUMBER)]
    assert sum(entry["domain"] == "sharp" for entry in sampled_patients(unpaired, DOMAINS, "the test")) == 1
