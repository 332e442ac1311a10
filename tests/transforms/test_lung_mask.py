"""The lung mask: on drawn bodies, the chest phantom and a real chest CT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged

from common.phantoms.chest.phantom import chest_parameters, make_chest
from common.transforms import LungMaskd, lung_mask

SHARED = Path(__file__).parents[3] / "shared" / "data"
SPACING_MM = (2.0, 2.0, 5.0)


def body(*, table=False):
    """Air, a body of 320 x 240 mm with two lungs (ellipses of 100 x 160 mm), a trachea and a vessel in the first."""
    x, y = np.meshgrid(np.arange(192.0), np.arange(160.0), indexing="ij")

    def ellipse(centre, radii):
        return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1

    plane = np.full(x.shape, -1000.0)
    plane[ellipse((96, 70), (80, 60))] = 40.0
    lungs = ellipse((60, 70), (25, 40)), ellipse((132, 70), (25, 40))
    plane[lungs[0] | lungs[1]] = -850.0
    plane[ellipse((60, 70), (4, 4))] = 40.0
    plane[ellipse((96, 60), (5, 5))] = -1000.0
    if table:  # a shell around foam, which the body touches
        plane[10:182, 129:145] = -100.0
        plane[11:181, 130:144] = -880.0
    truth = lungs[0] | lungs[1]
    return np.repeat(plane[:, :, None], 3, axis=2), np.repeat(truth[:, :, None], 3, axis=2)


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.mark.parametrize("noise_hu", [0.0, 100.0])
@pytest.mark.parametrize("table", [False, True])
def test_lungs_are_found_with_their_vessels_and_without_trachea_and_table(table, noise_hu):
    volume, truth = body(table=table)
    volume += noise_hu * np.random.default_rng(0).normal(size=volume.shape)
    mask = lung_mask(volume, SPACING_MM)
    assert mask.dtype == bool
    assert dice(mask, truth) > 0.99
    assert mask[60, 70].all()  # the vessel
    assert not mask[90:102, 54:66].any()  # the trachea
    assert not mask[:, 130:].any()  # the table


def test_a_field_of_view_that_cuts_the_lung_or_has_one_slice():
    volume, truth = body()
    for cut in (np.s_[:, 60:], np.s_[55:], np.s_[:, :, :1]):
        assert dice(lung_mask(volume[cut], SPACING_MM), truth[cut]) > 0.98


def test_large_holes_are_not_lung_and_small_ones_are():
    volume, truth = body()
    x, y = np.ogrid[:192, :160]
    dome = ((x - 132) ** 2 + (y - 70) ** 2 <= 20**2) & truth[:, :, 0]  # 40 mm radius: 50 cm2
    volume[dome] = 50.0
    mask = lung_mask(volume, SPACING_MM)
    assert not mask[132, 70].any()
    assert mask[60, 70].all()


def test_the_spacing_counts_in_mm():
    """The same body on a grid of half the pixel size has the same mask."""
    volume, _ = body()
    fine = volume.repeat(2, axis=0).repeat(2, axis=1)
    coarse = lung_mask(volume, SPACING_MM).repeat(2, axis=0).repeat(2, axis=1)
    assert dice(lung_mask(fine, (1.0, 1.0, 5.0)), coarse) > 0.99


@pytest.mark.parametrize(
    "volume",
    [
        np.full((64, 64, 2), 40.0),
        np.full((64, 64, 2), -1000.0),
        np.where(body()[1], 40.0, body()[0]),  # lungs filled with water: the trachea alone is left
        body()[0] + 900.0,
    ],
    ids=["water", "air", "no lungs", "not HU"],
)
def test_a_volume_without_lung_is_refused(volume):
    message = (
        r"scan\.nii has no lung: no region enclosed by the body is darker than -320 HU, has a mean of -940 to -500 HU "
        r"and covers 10 cm2 of a slice.*\. Give a chest CT in HU, or, where all of the volume is lung, no mask\."
    )
    with pytest.raises(ValueError, match=message):
        lung_mask(volume, SPACING_MM, name="scan.nii")


def test_a_slice_without_its_third_axis_is_refused():
    with pytest.raises(ValueError, match=r"`volume_hu` must have 3 dimensions \(X, Y, Z\), got shape \(64, 64\)\."):
        lung_mask(np.zeros((64, 64)), SPACING_MM)


def test_the_transform_reads_the_spacing_and_names_the_file():
    volume, truth = body()
    meta = {"filename_or_obj": "/data/scan.nii"}
    image = MetaTensor(torch.tensor(volume[None]), affine=torch.diag(torch.tensor([-2.0, -2.0, 5.0, 1.0])), meta=meta)
    item = LungMaskd("image", "mask")({"image": image})
    assert item["mask"].dtype == torch.uint8
    assert item["mask"].shape == image.shape
    torch.testing.assert_close(item["mask"].affine, image.affine)
    assert dice(item["mask"][0].numpy().astype(bool), truth) > 0.99
    image[:] = 40.0
    with pytest.raises(ValueError, match=r"'/data/scan\.nii' has no lung"):
        LungMaskd("image")({"image": image})


@pytest.mark.parametrize("kernel", ["B30f", "B70f"])
def test_chest_phantom(kernel):
    """Against its label map."""
    volumes = make_chest(0, chest_parameters(slices=3, size=192, slice_mm=60.0))
    spacing = np.sqrt((volumes["truth"].affine[:3, :3] ** 2).sum(axis=0))
    mask = lung_mask(volumes[kernel].data, spacing)
    label, truth = volumes["label"].data, volumes["truth"].data
    assert mask[np.isin(label, [1, 2, 5, 6])].mean() > 0.95  # parenchyma, emphysema, vessels, nodules
    assert not mask[np.isin(label, [4, 7])].any()  # heart, great vessels, bones
    assert mask[(label == 0) & (truth < -900)].mean() < 0.01  # air around the body
    assert label[mask].astype(bool).mean() > 0.95
    assert 0 < mask[..., -1][label[..., -1] == 3].mean() < 0.5  # bronchi of the lung, without the trachea


@pytest.mark.skipif(not (SHARED / "chest_ct").is_dir(), reason="real volumes (../shared/data/chest_ct) are not there")
def test_real_chest_ct():
    """Both lungs, cut by the field of view; a left main bronchus (centre read off the image) is no lung."""
    path = SHARED / "chest_ct" / "lidc_idri_0314_native_40slices.nii.gz"
    item = LoadImaged("image", image_only=True, ensure_channel_first=True)({"image": path})
    item["image"] = item["image"][..., ::13]
    mask = LungMaskd("image")(item)["lung"][0].numpy().astype(bool)
    volume = item["image"][0].numpy()
    share = mask.mean(axis=(0, 1))
    assert ((share > 0.25) & (share < 0.45)).all()
    assert mask[volume < -700].mean() < 0.9  # air around the body is not in it
    assert -850 < volume[mask].mean() < -700
    halves = mask[:192].sum(), mask[192:].sum()
    assert 0.6 < halves[0] / halves[1] < 1.6
    assert not mask[218, 200, -1]
