"""The lung mask: on drawn bodies, the chest phantom and a real chest CT.

The region of a volume: the lungs, slices and boxes in voxels of the file, and what is refused.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged, Orientationd

from common.phantoms.chest.phantom import chest_parameters, make_chest
from common.transforms import FindRegiond, LungMaskd, lung_mask
from tests.helpers.shared import needs_shared, shared

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


@pytest.mark.parametrize("seed", range(3))
def test_filling_leaves_the_bounding_box_as_it_is(seed):
    """Shapes as noise and a vessel at the border make them; the last step alone is what `fill` leaves out."""
    volume, _ = body()
    volume[60:70, 100:120] = 40.0
    volume = volume + np.random.default_rng(seed).normal(0, 200, volume.shape)
    bare, filled = (lung_mask(volume, SPACING_MM, fill=fill) for fill in (False, True))
    assert bare.sum() < filled.sum()
    for axes in ((1, 2), (0, 2), (0, 1)):
        found, expected = (np.flatnonzero(mask.any(axis=axes)) for mask in (bare, filled))
        assert (found[0], found[-1]) == (expected[0], expected[-1])


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


@needs_shared("data", "chest_ct")
def test_real_chest_ct():
    """Both lungs, cut by the field of view; a left main bronchus (centre read off the image) is no lung."""
    path = shared("data", "chest_ct", "lidc_idri_0314_native_40slices.nii.gz")
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


SHAPE = (64, 48, 4)  # along right, anterior, superior
RIGHT, FRONT, UP = (12, 52), (18, 40), (1, 4)  # of the lung


def chest() -> np.ndarray:
    """A body of tissue with one lung and a vessel in it, along RAS."""
    volume = np.full(SHAPE, -1000.0)
    volume[4:60, 4:44] = 40.0
    volume[slice(*RIGHT), slice(*FRONT), slice(*UP)] = -850.0
    volume[25:30, 25:30] = 40.0
    return volume


def loaded(volume: np.ndarray, axes: str) -> dict[str, MetaTensor]:
    """As after loading a file stored along `axes` and turning it to RAS."""
    ras = np.diag([1.5, 1.5, 5.0, 1.0])
    change = nib.orientations.ornt_transform(nib.io_orientation(ras), nib.orientations.axcodes2ornt(axes))
    image = nib.Nifti1Image(volume, ras).as_reoriented(change)
    affine = torch.as_tensor(image.affine)
    data = torch.as_tensor(np.ascontiguousarray(image.get_fdata())[None])
    meta = {"filename_or_obj": "/data/scan.nii", "original_affine": image.affine}
    return Orientationd("image", "RAS", labels=None)({"image": MetaTensor(data, affine=affine, meta=meta)})


def region(item, *arguments, **options) -> list[list[int]]:
    return FindRegiond("image", *arguments, **options)(item)["region"].tolist()


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PSR"])
def test_the_bounding_box_of_the_lung(axes):
    assert region(loaded(chest(), axes)) == [list(RIGHT), list(FRONT), list(UP)]
    assert region(loaded(chest(), axes), "all") == [[0, n] for n in SHAPE]


def test_boxes_and_slabs_are_counted_along_the_axes_of_the_file():
    """Flipped axes count from the other end: written out by hand."""
    box = [[0, 10], [5, 48], [1, 2]]
    assert region(loaded(chest(), "RAS"), box) == box
    assert region(loaded(chest(), "LPI"), box) == [[54, 64], [0, 43], [2, 3]]
    assert region(loaded(chest(), "PSR"), [[5, 48], [1, 2], [0, 10]]) == [[0, 10], [0, 43], [1, 2]]
    assert region(loaded(chest(), "LPI"), "all", slab=[0, 3]) == [[0, 64], [0, 48], [1, 4]]
    assert region(loaded(chest(), "PSR"), slab=(0, 2)) == [list(RIGHT), list(FRONT), [1, 2]]


@pytest.mark.parametrize("axes", ["RAS", "LPS", "IRA", "PSR"])
def test_the_box_holds_the_voxels_that_a_viewer_shows_there(axes):
    """Marked in the file's own order, found in the volume turned to RAS."""
    stored = loaded(chest(), axes)["image"].meta["original_affine"]
    axis = int(np.flatnonzero(nib.io_orientation(stored)[:, 0] == 0)[0])
    volume = chest()
    volume[7] = 99.0  # a sagittal plane
    file = nib.Nifti1Image(volume, np.diag([1.5, 1.5, 5.0, 1.0]))
    change = nib.orientations.ornt_transform(nib.io_orientation(file.affine), nib.io_orientation(stored))
    voxels = file.as_reoriented(change).get_fdata()
    place = int(np.argwhere((voxels == 99).all(axis=tuple({0, 1, 2} - {axis})))[0, 0])
    box = [[0, n] for n in voxels.shape]
    box[axis] = [place, place + 1]
    assert region(loaded(volume, axes), box)[0] == [7, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lungs",), r"`region` must be 'lung', 'all' or a box of voxels .*, got 'lungs'\."),
        (([[0, 4], [0, 4]],), r"box of voxels .*, got \[\[0, 4\], \[0, 4\]\]\."),
        (([[0, 4], [0, 4], [3, 3]],), r"whole numbers >= 0, each second one above the first, got"),
        (([[0, 4], [0, 4], [0.0, 3.0]],), r"whole numbers >= 0"),
        (("all", "1,2"), r"`slab` must be axial slices \[z0, z1\], such as \[0, 9\], got '1,2'\."),
        (("all", [4, 2]), r"`slab` must be axial .*, got \[4, 2\]\."),
    ],
)
def test_malformed_regions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FindRegiond("image", arguments[0], slab=arguments[1] if len(arguments) > 1 else None)


def test_regions_beyond_the_volume_are_refused_with_its_size():
    item = loaded(chest(), "LPS")
    message = r"`region` must lie in '/data/scan\.nii' of 64 x 48 x 4 voxels, but along its axis 1, of 48, it asks for"
    with pytest.raises(ValueError, match=message + r" \[40, 50\]: give numbers up to 48\."):
        region(item, [[0, 64], [40, 50], [0, 4]])
    with pytest.raises(ValueError, match=r"`slab` must lie in .* along its axis 2, of 4, it asks for \[2, 9\]"):
        region(item, "all", slab=[2, 9])
    with pytest.raises(ValueError, match="`slab` must have slices in common with `region`, but it has none"):
        region(item, [[0, 4], [0, 4], [0, 2]], slab=[3, 4])


def test_without_lung_the_way_out_is_named():
    tissue = np.where(chest() == -850, 40.0, chest())
    with pytest.raises(ValueError, match=r"scan\.nii' has no lung: .*, no mask\. \(`--region all`\)"):
        region(loaded(tissue, "LPS"))
    with pytest.raises(ValueError, match=r"scan\.nii' has no lung in the slices of `slab`: choose others, or"):
        region(loaded(chest(), "LPS"), slab=[0, 1])
