"""Regions that a translation must leave as they are: found in slices of known content, and kept to the last bit."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch.testing import assert_close

from common.transforms import AddSourced, KeepPaddingd, LimitChanged, UnchangedRegion
from common.transforms.unchanged import axial_slices, body_mask, faded, padding_mask
from tests.helpers.shared import require_shared

RANGE = (-1024.0, 3071.0)
GENERATOR = np.random.default_rng(5)


def noisy(shape=(64, 48), mean=-1000.0, sd=20.0):
    """Air as a scanner stores it: noise, cut off at -1024 HU."""
    return np.maximum(GENERATOR.normal(mean, sd, shape).round(), -1024).astype(np.float32)


def circle(shape=(64, 48), radius=23.0):
    x, y = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(x - shape[0] / 2 + 0.5, y - shape[1] / 2 + 0.5) < radius


def padding(image, **meta):
    return padding_mask(torch.from_numpy(image)[None], meta)[0].numpy()


@pytest.mark.parametrize("value", [-3024, -2000, -1024, 0, 63])
def test_what_lies_outside_of_the_reconstruction_circle_is_padding_whatever_its_value(value):
    image = np.where(circle(), noisy(), np.float32(value))
    found = padding(image)
    assert found[~circle()].all()
    assert found[circle()].mean() < (0.01 if value == -1024 else 1e-9)  # clipped noise may touch it


@pytest.mark.parametrize("width", [1, 2, 6])
def test_columns_at_an_edge_are_padding(width):
    image = noisy()
    image[:, -width:] = -1000
    found = padding(image)
    assert found[:, -width:].all()
    assert found[:, :-width].sum() < 8


def test_the_noise_of_air_that_was_cut_off_is_no_padding():
    image = noisy(mean=-1015, sd=30)
    assert (image == -1024).mean() > 0.3
    assert padding(image).mean() < 0.01
    assert padding(image, padding_value=-1024.0).mean() < 0.1  # some of it is connected to the edge


def test_padding_of_the_header_is_found_inside_of_the_image_too():
    image = noisy(mean=40)
    image[20:30, 20:30] = -500  # a face that was removed
    image[40, 20] = -500  # a voxel that has this value
    assert not padding(image).any()
    found = padding(image, padding_value=-500.0)
    assert found[20:30, 20:30].all()
    assert found.sum() == 100
    image[25, 25] = -510
    assert padding(image, padding_value=-500.0, padding_limit=-520.0)[25, 25]


def test_a_constant_region_inside_of_the_image_is_none():
    image = noisy(mean=40)
    image[20:30, 20:30] = 3071
    assert not padding(image).any()


def test_the_change_fades_over_the_voxels_inside_of_the_border():
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, :, :3] = True
    assert_close(faded(mask, 3)[0, 4], torch.tensor([0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]))
    assert_close(faded(mask, 0), (~mask).float())
    assert faded(mask, 3)[mask].eq(0).all()


def test_values_beyond_the_range_are_kept_and_single_low_ones_are_noise():
    image = torch.from_numpy(noisy(mean=40))[None]
    image[0, 10, 10], image[0, 30, 30] = -1100, 5000
    weight = UnchangedRegion(RANGE).weight(image)[0]
    assert weight[10, 10] == 0
    assert weight[30, 30] == 0
    assert weight[10, 11] == 1  # noise of air
    assert weight[30, 31] == 0.25  # metal
    assert UnchangedRegion(RANGE).mask(image).sum() == 2


def test_in_a_narrow_window_the_change_grows_with_the_value():
    image = torch.full((1, 32, 32), 40.0) + torch.rand(1, 32, 32)
    image[0, 16, 10:15] = torch.tensor([-101.0, -100.0, -95.0, -90.0, -80.0])
    weight = UnchangedRegion((-100, 200), ramp_hu=20).weight(image)[0]
    assert_close(weight[16, 10:15], torch.tensor([0, 0, 0.25, 0.5, 1.0]))


def test_the_body_is_without_the_table_and_includes_its_holes():
    x, y = np.mgrid[:120, :100]
    body = np.hypot((x - 60) / 45, (y - 55) / 30) < 1
    image = np.where(body, 40.0, -1000.0)
    lung = np.hypot(x - 45, y - 55) < 10
    image[lung] = -850
    image[5:115, 10:12] = 60  # a table of 4 mm
    image[50:56, 92:97] = 60  # a tube
    found = body_mask(image, (2.0, 2.0))
    assert found[body].mean() > 0.99
    assert found[lung].all()
    assert not found[:, :12].any()
    assert not found[50:56, 92:97].any()
    legs = np.where((np.hypot(x - 30, y - 50) < 15) | (np.hypot(x - 85, y - 50) < 14), 40.0, -1000.0)
    assert (body_mask(legs, (2.0, 2.0)) == (legs > 0)).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_changes_are_limited_along_the_axial_axis_however_the_volume_is_stored(axis):
    axial = np.stack([np.where(circle(), noisy(mean=40), np.float32(-3024)) for _ in range(3)], axis=-1)
    stored = np.moveaxis(axial, -1, axis)
    axes = np.insert([0, 1], axis, 2)
    affine = np.zeros((4, 4))
    affine[axes, [0, 1, 2]], affine[3, 3] = [0.7, 0.7, 2.0], 1
    source = MetaTensor(torch.from_numpy(stored.copy())[None], affine=torch.from_numpy(affine))
    assert axial_slices(source)[0].shape == (3, 64, 48)
    item = {"original": source, "pred": torch.full(source.shape, 100.0)}
    limit = LimitChanged("pred", "original", UnchangedRegion(RANGE))
    output = AddSourced("pred", source_key="original")(limit(item))["pred"].numpy()[0]
    change = np.moveaxis(output - stored, axis, -1)
    assert (change[~circle()] == 0).all()
    assert np.ptp(change, axis=-1).max() == 0
    assert set(np.unique(change)) == {0, 25, 50, 75, 100}
    assert change[32, 24, 0] == 100


def test_super_resolution_keeps_padding_on_its_finer_grid():
    volume = np.where(circle((16, 12), 5.5), noisy((16, 12), mean=40), np.float32(-3024))[..., None].repeat(2, -1)
    source = MetaTensor(torch.from_numpy(volume)[None], affine=torch.eye(4))
    fine = torch.full((1, 64, 48, 2), 7.0)
    output = KeepPaddingd("pred", "original")({"original": source, "pred": fine})["pred"].numpy()[0]
    outside = (volume == -3024).repeat(4, 0).repeat(4, 1)
    assert (output[outside] == -3024).all()
    assert output[32, 24, 0] == 7  # away from the border
    nearest = volume.repeat(4, 0).repeat(4, 1)
    border = ~outside & (output != 7)
    np.testing.assert_allclose(output[border], (nearest[border] + 7) / 2)
    bare = {"original": source * 0 + torch.rand(source.shape), "pred": fine}
    assert KeepPaddingd("pred", "original")(bare)["pred"] is fine


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"`fade` must be 0 or more voxels, got -1"):
        UnchangedRegion(fade=-1)
    with pytest.raises(ValueError, match=r"`hu_range` must be a lower and a higher value in HU, got \[5, 5\]"):
        UnchangedRegion([5, 5])
    with pytest.raises(ValueError, match=r"`ramp_hu` must be 0 or more"):
        UnchangedRegion(ramp_hu=-2)


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("abdomen_ct/acrin_flt_breast_001_abdomen_SOFT_44slices.nii.gz", 0.22),
        ("chest_ct/rider_pilot_0117_STANDARD_40slices.nii.gz", 0.21),
        ("chest_ct/cmb_crc_01068_LUNG_40slices.nii.gz", 0.22),
        ("kernel_pair_ct/philips_headphantom_YA_sharp_bone_40slices.nii.gz", 0.0),
    ],
)
def test_padding_of_real_scanners_is_what_lies_outside_of_the_circle(name, share):
    image = nib.load(require_shared("data", *name.split("/")))
    volume = np.asarray(image.dataobj[..., ::10], dtype=np.float32)
    found = padding_mask(torch.from_numpy(volume).movedim(-1, 0).contiguous())
    assert float(found.float().mean()) == pytest.approx(share, abs=0.01)  # 1 - pi / 4 is 0.215
