"""Work that grows with the number of files, by the number of its operations: none grows with their square."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from monai.transforms import Compose

from common import files
from common.data import VolumeCache, datalist, inference_images, load_datalist, load_domain, volume_cache
from common.data.datalist import describe, label_names
from common.files import Staging
from common.inference import shards
from common.inference.shards import cases_to_do
from common.inference.sidecar import RunRecord

NUMBER = 64
SEARCHES = 7  # at the 1st, 2nd, 4th ... 64th


def counted(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> list[object]:
    """The first arguments of all calls of a module's function from now on."""
    calls: list[object] = []
    function = getattr(module, name)

    def call(*arguments, **options):
        calls.append(arguments[0])
        return function(*arguments, **options)

    monkeypatch.setattr(module, name, call)
    return calls


def data(folder: Path, number: int = NUMBER) -> Path:
    entries = [{"image": f"{n}.nii", "patient": f"p{n}", "domain": "T1" if n % 2 else "T2"} for n in range(number)]
    for entry in entries:
        (folder / entry["image"]).touch()
    (folder / "datalist.json").write_text(json.dumps({"training": entries, "test": entries[:0]}))
    return folder


def test_a_folder_of_outputs_is_not_searched_at_each_output(tmp_path, monkeypatch):
    searches = counted(monkeypatch, files, "_list_partials")
    for number in range(NUMBER):
        with Staging(tmp_path) as staging:
            path = staging.place(tmp_path / f"{number}.txt")
            path.write_text("whole")
            staging.publish([path])
    assert len(searches) == SEARCHES
    assert len(list(tmp_path.iterdir())) == NUMBER


def test_a_datalist_is_read_and_its_files_are_sought_once_however_often_a_training_asks(tmp_path, monkeypatch):
    folder = data(tmp_path)
    reads, entries = counted(monkeypatch, datalist, "read_json"), counted(monkeypatch, datalist, "_absolute")
    found = [load_domain(folder, "training", domain) for domain in ("T1", "T2", "T1")]
    load_datalist(folder, "training")
    describe(folder)
    label_names(folder)
    assert [len(each) for each in found] == [NUMBER // 2] * 3
    assert len(reads) == 1
    assert len(entries) == NUMBER


def test_a_datalist_that_was_changed_is_read_again(tmp_path):
    folder = data(tmp_path)
    first = load_datalist(folder, "training")
    first[0]["patient"] = "changed by its reader"
    assert load_datalist(folder, "training")[0]["patient"] == "p0"
    data(tmp_path, NUMBER + 1)
    assert len(load_datalist(folder, "training")) == NUMBER + 1
    with pytest.raises(ValueError, match="no list 'test', or an empty one"):
        load_datalist(folder, "test")


class Entry(dict):
    """An entry that counts with how many others it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Entry.compared += 1
        return dict.__eq__(self, other)

    __hash__ = None  # type: ignore[assignment]


def test_the_entries_of_a_datalist_are_not_compared_with_each_other(tmp_path, monkeypatch):
    entries = [Entry(image=f"{n}.nii", domain="T1" if n % 2 else "T2") for n in range(NUMBER)]
    (tmp_path / "datalist.json").write_text("{}")
    monkeypatch.setattr(inference_images, "load_datalist", lambda *_: entries)
    assert len(inference_images.find_images(tmp_path, domain="T1")) == NUMBER // 2
    assert Entry.compared == 0


def arranged(item: dict) -> dict:
    return {"image": torch.zeros(4)}


def test_the_folder_of_a_cache_is_not_listed_for_each_volume(tmp_path, monkeypatch):
    folder = data(tmp_path)
    listings = counted(monkeypatch, volume_cache, "_entries")
    searches = counted(monkeypatch, files, "_list_partials")
    cache = VolumeCache(tmp_path / "cache")
    for number in range(NUMBER):
        cache.get(folder / f"{number}.nii", Compose([]), arranged)
    assert len(listings) == len(searches) == SEARCHES
    assert len(list((tmp_path / "cache").iterdir())) == NUMBER


def test_a_cache_never_grows_beyond_its_limit_between_two_listings(tmp_path):
    folder, size = data(tmp_path), 8192 + 16
    for number in range(0, NUMBER, 2):  # a new training each, whose volumes are not in use by the next one
        cache = VolumeCache(tmp_path / "cache", limit_gb=10 * size / 1e9)
        for n in (number, number + 1):
            cache.get(folder / f"{n}.nii", Compose([]), arranged)
        assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= 10 * size


def test_each_finished_case_costs_its_own_files_alone(tmp_path, monkeypatch):
    images = [{"image": str(tmp_path / "in" / f"{n}.nii")} for n in range(NUMBER)]
    record = RunRecord(tmp_path, tmp_path, network=torch.nn.Identity(), target="T2", guards="off")
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for n in range(NUMBER):
        (tmp_path / "in" / f"{n}.nii").touch()
        (tmp_path / "out" / f"{n}_synthetic_T2.nii.gz").touch()
        facts = {
            **record.identity(),
            "output": [{"file": f"{n}_synthetic_T2.nii.gz", "sha256": hashlib.sha256().hexdigest()}],
        }
        (tmp_path / "out" / f"{n}_synthetic_T2.json").write_text(json.dumps(facts))
    asked = counted(monkeypatch, shards, "described")
    assert cases_to_do(images, record, output_dir=tmp_path / "out", output_format="nifti", skip_done=True) == []
    assert len(asked) == NUMBER
