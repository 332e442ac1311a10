"""A contrast-enhanced CT is told from one without contrast medium, with the evidence."""

from __future__ import annotations

import re
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from common.phantoms.abdomen.phantom import abdomen_parameters, make_abdomen
from common.transforms import CheckNonContrastd, enhancement
from common.transforms.guards.enhanced import enhancement_in_parts
from tests.helpers.shared import needs_shared, shared

SPACING = (2.0, 2.0, 3.0)


def body(noise_hu: float = 0.0) -> np.ndarray:
    """Soft tissue of 50 HU in air, 160 x 160 x 60 mm, with a vertebra: a cortex of 500 HU around 180 HU."""
    volume = np.full((100, 100, 20), -1000.0)
    volume[10:90, 10:90] = 50.0
    volume[40:60, 70:86] = 500.0
    volume[42:58, 72:84] = 180.0
    return volume + np.random.default_rng(0).normal(0, noise_hu, volume.shape)


def check(volume: np.ndarray) -> None:
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.from_numpy(volume)[None], affine=affine, meta={"filename_or_obj": "ct.nii"})
    CheckNonContrastd("image")({"image": image})


@pytest.mark.parametrize("noise_hu", [0, 40])
def test_marrow_within_its_cortex_is_no_contrast_medium(noise_hu):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(body(noise_hu))


@pytest.mark.parametrize("noise_hu", [0, 40])
def test_a_vessel_is_found_and_the_warning_says_how_much_how_bright_and_where(noise_hu):
    """A vessel of 20 x 20 x 60 mm at 160 HU: 24 ml, of which smoothing leaves the margin out."""
    volume = body(noise_hu)
    volume[45:55, 30:40] += 110
    with pytest.warns(UserWarning, match="'ct.nii' looks contrast-enhanced") as caught:
        check(volume)
    (message,) = (str(w.message) for w in caught)
    ml, hu = (float(re.search(p, message)[1]) for p in (r"the largest, (\d+) ml", r"a median of (\d+) HU"))
    assert 18 <= ml <= 24
    assert 155 <= hu <= 165
    x, y, z = map(int, re.search(r"around voxel \((\d+), (\d+), (\d+)\)", message).groups())
    assert 45 <= x < 55
    assert 30 <= y < 40
    assert 5 <= z < 15


def test_a_vessel_does_not_become_bone_by_a_plaque_or_a_bridge_to_the_spine():
    volume = body()
    volume[45:55, 54:66] = 160.0
    volume[50, 66:70] = 160.0  # a bridge of one voxel to the vertebra
    volume[46:48, 54, 9:11] = 600.0  # a plaque
    found = enhancement(volume, SPACING)
    assert found is not None
    assert found.regions == 1


@pytest.mark.parametrize(("hu", "size"), [(100.0, 10), (320.0, 10), (160.0, 3)])
def test_what_is_too_dark_too_dense_or_too_small_is_no_evidence(hu, size):
    """100 HU: blood, a liver full of iron; 320 HU: dense oral contrast medium, metal; 3 voxels: a stone, cartilage."""
    volume = body()
    volume[30 : 30 + size, 30 : 30 + size, 8 : 8 + size] = hu
    assert enhancement(volume, SPACING) is None


def test_fine_and_coarse_voxels_give_the_same_evidence():
    """The volume repeated twice along each axis at half the voxel size is the same object."""
    volume = body()
    volume[45:55, 30:40] = 160.0
    fine = volume.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    coarse, refined = enhancement(volume, SPACING), enhancement(fine, [s / 2 for s in SPACING])
    assert coarse is not None
    assert refined is not None
    assert refined.volume_ml == pytest.approx(coarse.volume_ml, rel=0.05)
    assert all(abs(r - 2 * c) <= 3 for r, c in zip(refined.voxel, coarse.voxel))


@pytest.mark.parametrize(("size", "patients"), [(64, 3), pytest.param(256, 12, marks=pytest.mark.slow)], ids=str)
def test_no_alarm_on_the_phantoms_nect_and_alarm_on_its_cect(size, patients):
    for patient in range(patients):
        volumes = make_abdomen(patient, abdomen_parameters(size=size))
        spacing = nib.affines.voxel_sizes(volumes["NECT"].affine)
        assert enhancement(volumes["NECT"].data, spacing) is None
        assert enhancement(volumes["CECT"].data, spacing) is not None


@needs_shared("data", "abdomen_ct")
def test_no_alarm_on_a_real_abdomen_without_contrast_medium_but_when_a_part_of_the_liver_enhances():
    (path,) = shared("data", "abdomen_ct").glob("*noncontrast*.nii.gz")
    image = nib.load(path)
    volume = np.asarray(image.dataobj, dtype=np.float32)
    spacing = nib.affines.voxel_sizes(image.affine)
    assert enhancement(volume, spacing) is None
    for start in range(0, volume.shape[-1] - 8, 16):  # nor on a part of it
        assert enhancement(volume[..., start : start + 8], spacing) is None
    centre = np.unravel_index(_depth_in_soft_tissue(volume).argmax(), volume.shape)
    volume[tuple(slice(c - 6, c + 6) for c in centre)] += 120
    assert enhancement(volume, spacing) is not None


def _depth_in_soft_tissue(volume: np.ndarray) -> np.ndarray:
    """Distance from everything else, largest inside of the largest organ."""
    smooth = ndimage.uniform_filter(volume, 5)
    return ndimage.distance_transform_edt((smooth > 30) & (smooth < 90))


def test_a_very_long_volume_is_judged_in_parts():
    volume = np.concatenate([body(), body(), body()], axis=2)
    volume[10:40, 20:50, 42:58] = 160.0  # in the last third
    image = MetaTensor(torch.from_numpy(volume)[None], affine=torch.diag(torch.tensor([*SPACING, 1.0])))
    whole = enhancement(volume, SPACING)
    found = enhancement_in_parts(image, SPACING, most=volume.size // 3)
    assert found.regions == whole.regions == 1
    assert found.volume_ml == pytest.approx(whole.volume_ml, rel=0.1)
    assert 42 <= found.voxel[2] < 58
    assert volume[found.voxel] == 160.0
    assert enhancement_in_parts(image[..., :40], SPACING, most=volume.size // 3) is None
