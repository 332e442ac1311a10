"""The region of a volume: the lungs, slices and boxes in voxels of the file, and what is refused."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientationd

from common.transforms import FindRegiond

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
