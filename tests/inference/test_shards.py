"""Who translates what: shares, and outputs that are there already."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from common.files import write_json
from common.inference import RunRecord, cases_to_do, own_shard
from common.inference.shards import is_finished, sidecar_path
from common.inference.sidecar import sidecar


def record(folder: Path, **more: object) -> RunRecord:
    options = {"network": torch.nn.Identity(), "target": "T2", "guards": "refuse", "choices": {"slab": (0, 2)}, **more}
    return RunRecord(folder / "bundle", folder / "models", **options)


@pytest.fixture
def images(tmp_path) -> list[dict[str, str]]:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").write_bytes(b"weights")
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    metadata = {"version": "0.1.0", "translation_task": "sequence_translation"}
    write_json(tmp_path / "bundle" / "configs" / "metadata.json", metadata)
    items = []
    for name in ("b/x", "a/x", "a/y", "c/x", "c/y"):
        path = tmp_path / "in" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)), path)
        os.utime(path, (1e9, 1e9))
        items.append({"image": str(path)})
    return items


def to_do(images: list, folder: Path, *, run: RunRecord | None = None, **options: object) -> list[str]:
    options = {"output_format": "nifti", **options}
    found = cases_to_do(images, run or record(folder), output_dir=folder / "out", **options)
    return [str(Path(item["image"]).relative_to(folder / "in")).removesuffix(".nii.gz") for item in found]


def finish(images: list, folder: Path, number: int = 0) -> tuple[Path, Path]:
    """Writes an output and its sidecar."""
    run, root = record(folder), str(folder / "in")
    beside = sidecar_path(images[number]["image"], run, output_dir=folder / "out", data_root_dir=root)
    beside.parent.mkdir(parents=True)
    output = beside.with_suffix(".nii.gz")
    output.write_bytes(b"volume")
    write_json(beside, sidecar(run, sources=[], outputs=[output], guards=[], findings=[]))
    return beside, output


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_shares_lose_and_repeat_nothing_whatever_the_order_of_the_images(count, images, tmp_path):
    shares = [to_do(images, tmp_path, share=[number, count]) for number in range(count)]
    assert sorted(name for share in shares for name in share) == ["a/x", "a/y", "b/x", "c/x", "c/y"]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    turned = [to_do(images[::-1], tmp_path, share=[number, count]) for number in range(count)]
    assert list(map(sorted, turned)) == list(map(sorted, shares))
    if count == 2:
        assert [sorted(share) for share in shares] == [["a/x", "b/x", "c/y"], ["a/y", "c/x"]]


def test_images_with_one_output_are_of_one_share(images, tmp_path):
    twice = [*images, dict(images[0])]
    shares = [to_do(twice, tmp_path, share=(number, 2)) for number in range(2)]
    assert [share.count("b/x") for share in shares] == [2, 0]


def test_the_shares_do_not_depend_on_what_is_finished(images, tmp_path):
    finish(images, tmp_path, number=1)
    assert sorted(to_do(images, tmp_path, share=(0, 2), skip_done=True)) == ["b/x", "c/y"]
    assert sorted(to_do(images, tmp_path, share=(1, 2), skip_done=True)) == ["a/y", "c/x"]
    assert len(to_do(images, tmp_path)) == 5


def test_a_finished_image_is_left_out_only_if_this_run_would_write_the_same(images, tmp_path):
    beside, output = finish(images, tmp_path)
    assert beside == tmp_path / "out" / "b" / "x_synthetic_T2.json"
    assert "b/x" not in to_do(images, tmp_path, skip_done=True)
    assert "b/x" in to_do(images, tmp_path, skip_done=True, output_format="both")
    for change in ({"choices": {"slab": [2, 4]}}, {"target": "PD"}, {"network": torch.nn.ReLU()}):
        assert "b/x" in to_do(images, tmp_path, skip_done=True, run=record(tmp_path, **change)), change
    assert "b/x" not in to_do(images, tmp_path, skip_done=True, run=record(tmp_path, guards="off"))
    (tmp_path / "models" / "model.pt").write_bytes(b"other weights")
    assert "b/x" in to_do(images, tmp_path, skip_done=True)
    (tmp_path / "models" / "model.pt").write_bytes(b"weights")
    assert "b/x" not in to_do(images, tmp_path, skip_done=True)
    output.write_bytes(b"volum")
    assert "b/x" in to_do(images, tmp_path, skip_done=True)


@pytest.mark.parametrize("damage", ["absent output", "absent sidecar", "damaged sidecar", "a list", "younger source"])
def test_what_is_not_whole_is_not_finished(damage, images, tmp_path):
    beside, output = finish(images, tmp_path)
    assert is_finished(beside, images[0]["image"], record(tmp_path), output_format="nifti")
    if damage == "absent output":
        output.unlink()
    elif damage == "absent sidecar":
        beside.unlink()
    elif damage == "damaged sidecar":
        beside.write_text(beside.read_text()[:100])
    elif damage == "a list":
        beside.write_text(json.dumps([1]))
    else:
        os.utime(images[0]["image"], (4e9, 4e9))
    assert not is_finished(beside, images[0]["image"], record(tmp_path), output_format="nifti")


@pytest.mark.parametrize("share", [[2, 2], [-1, 2], [0, 0], [0], ["0", 2], 3, [True, 2]])
def test_a_wrong_share_is_refused(share, images, tmp_path):
    with pytest.raises(ValueError, match=r"`share` must be the number of this process, from 0, and the number of"):
        to_do(images, tmp_path, share=share)


@pytest.mark.parametrize(("rank", "world"), [(None, None), ("0", None), ("first", "2")])
def test_without_a_rank_the_message_says_how_to_start(rank, world, monkeypatch):
    for name, value in (("RANK", rank), ("WORLD_SIZE", world)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"RANK and WORLD_SIZE as whole numbers, got .* start it with `torchrun`"):
        own_shard()
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"such as \[0, 2\], got \(3, 2\)"):
        own_shard()
