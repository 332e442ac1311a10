"""The cache of volumes: reused while it fits its source and settings, made anew when not, bounded, shared."""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, ScaleIntensityRanged

from common.data import VolumeCache, cache_volumes, load_patch_volumes
from common.errors import DiskFullError
from tests.helpers.limits import file_size_limit

SHAPE = (20, 30, 10)
SIZE_GB = 20 * 30 * 10 * 4 / 1e9
made: list[str] = []


def noted(item):
    """Notes which volumes are prepared."""
    made.append(Path(item["image"]).name)
    return item


def prepare(width: float = 100.0) -> Compose:
    return Compose(
        [
            noted,
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            ScaleIntensityRanged("image", -width, width, -1.0, 1.0),
        ]
    )


@pytest.fixture
def scans(tmp_path):
    """Three volumes, and what `prepare` makes of them."""
    made.clear()
    rng = np.random.default_rng(0)
    paths, encoded = [], []
    for name in "abc":
        values = rng.integers(-100, 100, SHAPE).astype(np.int16)
        paths.append(str(tmp_path / f"{name}.nii"))
        nib.save(nib.Nifti1Image(values, np.eye(4)), paths[-1])
        encoded.append(values / 100)
    return [{"image": path} for path in paths], encoded


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def assert_encoded(volumes, encoded):
    for volume, values in zip(volumes, encoded, strict=True):
        np.testing.assert_allclose(volume[0].numpy(), values, atol=1e-6)


def test_a_volume_is_prepared_once_and_then_mapped_from_its_file(scans, tmp_path):
    entries, encoded = scans
    for _ in range(2):
        volumes = cache_volumes(entries, prepare(), cache=VolumeCache(tmp_path / "cache"))
        assert_encoded(volumes, encoded)
    assert made == ["a.nii", "b.nii", "c.nii"]
    if sys.platform == "linux":
        mapped = Path("/proc/self/maps").read_text()
        assert all(str(path) in mapped for path in files(tmp_path / "cache"))


def test_the_cache_changes_no_bit(scans, tmp_path):
    entries, _ = scans
    cached = cache_volumes(entries, prepare(), cache=VolumeCache(tmp_path / "cache"))
    for volume, other in zip(cached, cache_volumes(entries, prepare())):
        assert torch.equal(volume, other)
        assert volume.stride() == other.stride()
        assert volume.meta["filename_or_obj"] == other.meta["filename_or_obj"]


def test_masks_and_names_are_kept(tmp_path):
    source = tmp_path / "a.nii"
    source.touch()
    for _ in range(2):
        (volume,) = load_patch_volumes(
            [{"image": str(source)}], half_a_mask, mask_key="lung", cache=VolumeCache(tmp_path / "cache")
        )
        assert volume.mask.dtype == bool
        assert (volume.first, volume.last) == ((0, 0, 0), (4, 3, 5))
        assert (volume.name, tuple(volume.image.shape)) == ("the image", (1, 8, 3, 5))
    assert len(files(tmp_path / "cache")) == 1


def half_a_mask(item):
    lung = torch.zeros(1, 8, 3, 5)
    lung[:, :4] = 1
    return {"image": torch.ones(1, 8, 3, 5), "lung": lung}


def test_another_setting_or_source_is_another_entry(scans, tmp_path):
    entries, encoded = scans
    cache = VolumeCache(tmp_path / "cache")
    cache_volumes(entries[:1], prepare(), cache=cache)
    assert_encoded(cache_volumes(entries[:1], prepare(50.0), cache=cache), [2 * encoded[0]])
    nib.save(nib.Nifti1Image(np.full(SHAPE, 50, np.int16), np.eye(4)), entries[0]["image"])
    os.utime(entries[0]["image"], ns=(0, 10**18))
    assert_encoded(cache_volumes(entries[:1], prepare(), cache=cache), [np.full(SHAPE, 0.5)])
    assert made == ["a.nii"] * 3


def test_a_folder_is_stale_when_one_of_its_files_changes(tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"one")
    cache = VolumeCache(tmp_path / "cache")
    for content in (b"two", b"two", b"three"):
        (series / "2.dcm").write_bytes(content)
        os.utime(series / "2.dcm", ns=(0, 10**18))
        cache.get(series, noted, dict)
    assert made[-2:] == ["series"] * 2
    assert len(files(tmp_path / "cache")) == 2


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def put_another_entry(path: Path) -> None:
    path.write_bytes(next(other for other in files(path.parent) if other != path).read_bytes())


def put_a_foreign_file(path: Path) -> None:
    torch.save(torch.ones(3), path)


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, empty, put_another_entry, put_a_foreign_file])
def test_a_damaged_entry_is_noticed_and_made_anew(scans, tmp_path, damage, caplog):
    entries, encoded = scans
    cache_volumes(entries[:2], prepare(), cache=VolumeCache(tmp_path / "cache"))
    damage(files(tmp_path / "cache")[0])
    assert_encoded(cache_volumes(entries[:2], prepare(), cache=VolumeCache(tmp_path / "cache")), encoded[:2])
    assert len(made) == 3
    assert "is damaged and is made again" in caplog.text
    assert_encoded(cache_volumes(entries[:2], prepare(), cache=VolumeCache(tmp_path / "cache")), encoded[:2])
    assert len(made) == 3


def test_no_flipped_bit_changes_a_value(tmp_path):
    source = tmp_path / "a.nii"
    source.touch()
    expected = half_a_mask({})
    VolumeCache(tmp_path / "cache").get(source, half_a_mask, dict)
    (path,) = files(tmp_path / "cache")
    whole = path.read_bytes()
    for place in range(0, len(whole), 29):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        content = VolumeCache(tmp_path / "cache").get(source, half_a_mask, dict)
        assert all(torch.equal(content[name], expected[name]) for name in expected)


def test_what_was_not_used_for_longest_makes_room(scans, tmp_path):
    entries, _ = scans
    limit = {"limit_gb": 2.9 * SIZE_GB}
    for when, entry in enumerate(entries[:2]):
        before = set((tmp_path / "cache").glob("*"))
        cache_volumes([entry], prepare(), cache=VolumeCache(tmp_path / "cache", **limit))
        (new,) = set(files(tmp_path / "cache")) - before
        os.utime(new, ns=(0, 10**9 * (when + 1)))
    other = tmp_path / "cache" / "weights.pt"
    other.write_bytes(bytes(10**6))
    cache_volumes(entries[:1], prepare(), cache=VolumeCache(tmp_path / "cache", **limit))  # is now the last used
    cache_volumes(entries[2:], prepare(), cache=VolumeCache(tmp_path / "cache", **limit))
    assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.volume")) <= limit["limit_gb"] * 1e9
    made.clear()
    cache_volumes([entries[0], entries[2]], prepare(), cache=VolumeCache(tmp_path / "cache", **limit))
    assert made == []
    cache_volumes([entries[1]], prepare(), cache=VolumeCache(tmp_path / "cache", **limit))
    assert made == ["b.nii"]
    assert other.is_file()


def test_a_training_that_needs_more_than_the_limit_is_told_so(scans, tmp_path):
    message = (
        r"`cache_gb` must be enough for all volumes of a training, got 6e-05: 2 are in use, and the next needs 2\.4e-05"
        r" more\. Raise it, or set `cache_dir` to null\."
    )
    with pytest.raises(ValueError, match=message):
        cache_volumes(scans[0], prepare(), cache=VolumeCache(tmp_path / "cache", limit_gb=6e-5))
    assert len(files(tmp_path / "cache")) == 2
    with pytest.raises(
        ValueError, match=r"`limit_gb` must be above 0, got 0: to keep nothing, set `cache_dir` to null"
    ):
        VolumeCache(tmp_path, limit_gb=0)


def test_transforms_without_a_name_are_refused(scans, tmp_path):
    with pytest.raises(
        ValueError, match=r"`prepare` must be made of named functions and classes to be cached \(.*\), or"
    ):
        cache_volumes(scans[0], Compose([lambda item: item]), cache=VolumeCache(tmp_path / "cache"))


def test_a_full_disk_leaves_nothing_and_names_the_file(scans, tmp_path):
    with (
        file_size_limit(10_000),
        pytest.raises(DiskFullError, match=r"\.volume' could not be written: File too large .* Make room, or choose"),
    ):
        cache_volumes(scans[0], prepare(), cache=VolumeCache(tmp_path / "cache"))
    assert files(tmp_path / "cache") == []


def fill(start, entries, folder):
    start.wait()
    cache_volumes(entries, prepare(), cache=VolumeCache(folder))


@pytest.mark.skipif(os.name != "posix", reason="needs processes that start at once")
def test_processes_may_fill_a_cache_at_the_same_time(scans, tmp_path):
    entries, encoded = scans
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    running = [context.Process(target=fill, args=(start, entries, tmp_path / "cache")) for _ in range(2)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0, 0]
    assert len(files(tmp_path / "cache")) == 3
    assert_encoded(cache_volumes(entries, prepare(), cache=VolumeCache(tmp_path / "cache")), encoded)
    assert made == []


def test_every_training_keeps_its_volumes_in_the_cache():
    configs = Path(__file__).parents[2] / "bundles"
    calls = re.compile(
        r"common\.data\.(?:load_domains|cache_volumes|load_patch_volumes|validation_images|conversions)\(.*"
    )
    for bundle in configs.iterdir():
        found = [call for path in bundle.glob("configs/**/*.yaml") for call in calls.findall(path.read_text())]
        assert found
        assert all("cache=@volume_cache" in call for call in found)
