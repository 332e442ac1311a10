"""What is found slab by slab is what the whole volume says: exactly for whole numbers, within rounding otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from common.metrics.score import foreground_mask
from common.transforms import StandardizeForegroundd, foreground_ranks, intensity_encoder
from common.transforms.streaming import Foreground, ValueCounts, sees_all, slab_encoder

SCALE = [float(place) for place in np.linspace(-0.8, 0.9, 11)]
CODECS = {
    "ranks": {"method": "ranks"},
    "percentiles": {"method": "percentiles"},
    "median": {"method": "median"},
    "landmarks": {"method": "landmarks", "standard": SCALE},
    "paper": {"percentiles": [1.0, 99.0]},
}


def head(seed: int = 0, *, whole: bool = True) -> np.ndarray:
    """Blobs that join and part from slice to slice, in a noisy background."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.standard_normal((40, 36, 18)), (3, 3, 1.5))
    volume = np.where(smooth > 0.03, 600 + 4000 * smooth, 5) + random.uniform(0, 20, smooth.shape)
    volume[17:22, 15:20, 4:9] = 0  # a hole
    return (np.rint(volume) if whole else volume).astype(np.float32)


def parts(volume: np.ndarray, size: int):
    return lambda: (volume[..., start : start + size] for start in range(0, volume.shape[2], size))


def in_slabs(step, volume: np.ndarray, size: int) -> np.ndarray:
    encode = slab_encoder(step, parts(volume, size))
    return np.concatenate([encode(volume[..., z : z + size], z) for z in range(0, volume.shape[2], size)], axis=2)


def test_counts_of_whole_numbers_are_exact():
    values = np.random.default_rng(0).integers(-30000, 65536, 5000).astype(np.float32)
    counts = ValueCounts()
    for part in np.array_split(values, 7):
        counts.add(part)
    assert counts.total == values.size
    for percent in (0, 1, 33.3, 50, 99, 100):
        assert counts.percentile(percent) == pytest.approx(np.percentile(values.astype(float), percent), abs=1e-9)
    np.testing.assert_allclose(counts.ranks(values), foreground_ranks(values), rtol=0, atol=1e-12)


def test_counts_of_other_numbers_are_off_by_their_rounding():
    values = np.random.default_rng(0).lognormal(5, 2, 20000).astype(np.float32)
    counts = ValueCounts()
    counts.add(values)
    for percent in (1, 50, 99):
        assert counts.percentile(percent) == pytest.approx(np.percentile(values, percent), rel=2**-16)
    assert np.abs(counts.ranks(values) - foreground_ranks(values)).max() < 1e-3


@pytest.mark.parametrize("size", [1, 5, 18])
@pytest.mark.parametrize("seed", range(4))
def test_the_foreground_is_that_of_the_whole_volume(seed, size):
    volume = head(seed)
    found = Foreground(parts(volume, size))
    np.testing.assert_array_equal(np.stack([found[z] for z in range(len(found))], axis=2), foreground_mask(volume))
    assert 0.05 < foreground_mask(volume).mean() < 0.9


def test_components_that_meet_in_a_later_slice_are_one():
    """A fork: two prongs, each smaller than a tenth of the bulk, of which one is joined to it and one is not."""
    volume = np.zeros((40, 40, 8), np.float32)
    volume[4:36, 4:20, :4] = 100  # the bulk
    volume[4:9, 24:29, 1:] = 100  # apart: dropped
    volume[14:19, 24:29, 1:] = 100
    volume[14:19, 16:29, 2:3] = 100  # its bridge to the bulk, above its beginning
    found = Foreground(parts(volume, 3))
    assert not found[6][5, 26]
    assert found[6][16, 26]
    np.testing.assert_array_equal(np.stack([found[z] for z in range(8)], axis=2), foreground_mask(volume))


def test_a_constant_volume_has_no_foreground():
    volume = np.full((8, 8, 3), 7.0, np.float32)
    assert not any(Foreground(parts(volume, 2))[z].any() for z in range(3))
    encode = slab_encoder(StandardizeForegroundd("image"), parts(volume, 2))
    assert (encode(volume[..., :2], 0) == -1).all()


def test_slices_beyond_the_volume_are_refused():
    with pytest.raises(IndexError, match=r"slice in \[0, 17\], got 18"):
        Foreground(parts(head(), 4))[18]


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("name", CODECS)
def test_slabs_are_encoded_as_the_whole(name, size):
    step = intensity_encoder("image", CODECS[name])
    assert sees_all(step)
    for whole, tolerance in ((True, 2e-6), (False, 1e-3)):
        volume = head(1, whole=whole)
        expected = step({"image": torch.from_numpy(volume)[None]})["image"][0].numpy()
        found = in_slabs(step, volume, size)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
        assert np.ptp(expected) > 0.5


def test_what_was_encoded_keeps_its_foreground():
    step = StandardizeForegroundd("image")
    once = in_slabs(step, head(2), 5)
    assert (foreground_mask(once) != (once > -1)).any()  # ranks are spread evenly: dark tissue would be lost
    np.testing.assert_allclose(in_slabs(step, once, 5), once, rtol=0, atol=1e-4)
