"""Intensities that carry over: what scanner and field of view change is gone, what tissue differs in is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.transforms import StandardizeForegroundd, foreground_ranks, intensity_encoder, landmark_scale
from common.transforms.standardize import BACKGROUND, EDGE, LOWEST
from tests.helpers.shared import require_shared


def head(gain=1.0, gamma=1.0, air=0):
    """A disc of three tissues with noise; `air` more pixels of background on each side."""
    x, y = np.mgrid[-24:24, -24:24]
    distance = np.hypot(x, y)
    noise = np.random.default_rng(0).normal(0, 15, (48, 48, 3))
    disc = np.select([distance < 6, distance < 14, distance < 21], [200, 800, 500], 0)[..., None]
    volume = np.where(disc > 0, disc + noise, 0.0) / 900
    volume = np.pad(gain * volume**gamma, [(air, air), (air, air), (0, 0)])
    return MetaTensor(torch.as_tensor(volume[None], dtype=torch.float32), affine=np.diag([1, 2, 3, 1.0]))


def encoded(volume, method="ranks", **more):
    return StandardizeForegroundd("image", method, **more)({"image": volume})["image"]


def test_ranks_count_what_lies_below():
    values = np.random.default_rng(1).integers(0, 20, 500).astype(float)
    expected = [((values < v).sum() + 0.5 * (values == v).sum()) / 500 for v in values]
    np.testing.assert_allclose(foreground_ranks(values), expected)


def test_ranks_outlive_gain_and_gamma():
    torch.testing.assert_close(encoded(head()), encoded(head(gain=37.0, gamma=1.6)), atol=1e-3, rtol=0)


@pytest.mark.parametrize("method", ["ranks", "percentiles", "median", "landmarks"])
def test_air_around_the_head_changes_nothing(method):
    more = {"standard": landmark_scale([head()[0].numpy()])} if method == "landmarks" else {}
    wide = encoded(head(air=20), method, **more)
    torch.testing.assert_close(wide[:, 20:-20, 20:-20], encoded(head(), method, **more), atol=2e-3, rtol=0)
    assert (wide[:, :20] == BACKGROUND).all()


def dark_rim():
    """A disc that grows brighter towards its centre."""
    distance = np.hypot(*np.mgrid[-24:24, -24:24])[..., None].repeat(3, axis=2)
    return MetaTensor(torch.as_tensor(np.where(distance < 21, 800 - 20 * distance, 0.0)[None], dtype=torch.float32))


def test_ranks_of_ranks_are_the_same_ranks():
    once = encoded(dark_rim())
    torch.testing.assert_close(encoded(once), once, atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", ["percentiles", "landmarks"])
def test_what_another_method_encoded_has_the_ranks_of_the_original(method):
    """Within a percent of the foreground, which that method clips at either end."""
    more = {"standard": landmark_scale([dark_rim()[0].numpy()])} if method == "landmarks" else {}
    torch.testing.assert_close(encoded(encoded(dark_rim(), method, **more)), encoded(dark_rim()), atol=0.02, rtol=0)


def test_the_median_of_what_was_encoded_is_refused():
    with pytest.raises(ValueError, match=r"was encoded to \[-1, 1\] before.*give the original"):
        encoded(encoded(head()), "median")


def test_the_papers_percentiles_do_change():
    """Which is why they are not used here: the same tissue moves when air is added."""
    paper = intensity_encoder("image", {"percentiles": [20.0, 80.0]})
    narrow, wide = (paper({"image": head(air=air)})["image"] for air in (0, 20))
    assert (wide[:, 20:-20, 20:-20] - narrow).abs().max() > 0.1


def test_background_is_minus_one_and_foreground_never():
    result = encoded(head())
    inside = np.hypot(*np.mgrid[-24:24, -24:24]) < 18
    assert (result[0][~(np.hypot(*np.mgrid[-24:24, -24:24]) < 23)] == BACKGROUND).all()
    assert (result[0][inside] > LOWEST).all()
    assert (result[0][inside].bfloat16().float() > EDGE).all()  # `precision: fast`


def test_median_is_proportional():
    inside = np.hypot(*np.mgrid[-24:24, -24:24]) < 18
    volume = head()
    values = (encoded(volume, "median", reference=[0.0, 4000.0])[0][inside] + 1) * 2000
    ratio = values / volume[0][inside]
    assert ratio.std() / ratio.mean() < 1e-3
    mask = encoded(volume)[0] > EDGE
    assert float(volume[0][mask].median() * ratio.mean()) == pytest.approx(1000, rel=2e-3)


def test_landmarks_come_to_lie_on_the_scale():
    standard = [LOWEST + (1 - LOWEST) * (k / 10) ** 2 for k in range(11)]
    volume = head()
    result = encoded(volume, "landmarks", standard=standard)[0].numpy()
    found = np.percentile(result[result > EDGE], [1, *range(10, 100, 10), 99])
    np.testing.assert_allclose(found, standard, atol=0.02)


def test_meta_data_stay():
    result = encoded(head())
    np.testing.assert_array_equal(result.affine, head().affine)
    assert result.dtype == torch.float32


def test_a_volume_without_foreground_is_background():
    assert (encoded(torch.zeros(1, 8, 8, 2)) == BACKGROUND).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "rank"}, "`method` must be one of"),
        ({"percentiles": [99, 1]}, "`percentiles` must be two rising numbers"),
        ({"reference": [5, 5]}, "`reference` must be two rising intensities"),
        ({"method": "landmarks"}, "`standard` must be 11 rising numbers"),
        ({"method": "landmarks", "standard": [0.0] * 10}, "`standard` must be 11 rising numbers"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        StandardizeForegroundd("image", **arguments)


def test_refused_codec():
    with pytest.raises(ValueError, match="`codec` must name a `method` or `percentiles`, got \\['reference'\\]"):
        intensity_encoder("image", {"reference": [0, 1]})


@pytest.mark.parametrize("stem", ["openms_cross07", "openms_cross19", "cstar_stroke"])
def test_real_scans_keep_their_encoding_in_a_wider_field(stem):
    """On scans of three sets: 30 voxels of air move the paper's encoding, not that of the foreground's ranks."""
    import nibabel as nib

    path = require_shared("data", "brain_mri", f"{stem}_T1.nii.gz")
    volume = nib.as_closest_canonical(nib.load(path)).get_fdata(dtype=np.float32)[..., 50:70]
    wide = np.pad(volume, [(30, 30), (30, 30), (0, 0)])
    inside = volume > 0
    moved = {}
    for name, codec in {"ranks": {"method": "ranks"}, "paper": {"percentiles": [1.0, 99.0]}}.items():
        encode = intensity_encoder("image", codec)
        narrow, wider = (encode({"image": torch.as_tensor(v[None])})["image"][0].numpy() for v in (volume, wide))
        moved[name] = float(np.abs(wider[30:-30, 30:-30] - narrow)[inside].mean())
    assert moved["ranks"] < 0.005
    assert moved["paper"] > 2 * moved["ranks"]
