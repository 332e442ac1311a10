"""Which slices are axial, how many, how far apart and how tilted."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.transforms import CheckAxiald, axial_geometry


def turned(degrees: float, spacing: tuple[float, float, float]) -> np.ndarray:
    """An affine whose slices are tilted about the patient's left-right axis."""
    angle = np.deg2rad(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    return affine


def check(shape: tuple[int, ...], affine: np.ndarray, **options: float) -> None:
    volume = MetaTensor(torch.zeros(1, *shape), affine=torch.from_numpy(affine), meta={"filename_or_obj": "ct.nii"})
    CheckAxiald("image", **options)({"image": volume})


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LPI", "PSR", "SAR", "ASL"])
@pytest.mark.parametrize("degrees", [0, 20, 40])
def test_slices_are_found_however_the_volume_is_stored(axes, degrees):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), turned(degrees, (0.7, 0.8, 5.0)))
    change = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes))
    stored = image.as_reoriented(change)
    slices, tilt, distance = axial_geometry(stored.shape, stored.affine)
    assert slices == 6
    assert tilt == pytest.approx(degrees, abs=1e-5)
    assert distance == pytest.approx(5.0)


def test_a_tilted_gantry_shears_the_volume_but_its_slices_are_what_counts():
    """Slices tilted by 10 degrees, stacked along the table: their distance is the step times the cosine."""
    affine = turned(10, (1.0, 1.0, 1.0))
    affine[:3, 2] = [0, 0, 4.0]
    _, tilt, distance = axial_geometry((8, 8, 8), affine)
    assert tilt == pytest.approx(10)
    assert distance == pytest.approx(4 * np.cos(np.deg2rad(10)))


def test_oblique_and_thick_slices_within_the_limits_pass_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check((8, 8, 3), turned(29, (0.5, 2.0, 10.0)), min_slices=3)
        check((8, 8, 1), turned(0, (1.0, 1.0, 20.0)))


def test_too_much_tilt_and_too_thick_slices_are_warned_of_by_name():
    with pytest.warns(UserWarning, match="'ct.nii' are tilted by 35 degrees from the axial plane, more than 30"):
        check((8, 8, 8), turned(35, (1.0, 1.0, 3.0)))
    with pytest.warns(UserWarning, match="'ct.nii' are 12 mm apart, more than 10 mm.*thinner reconstruction"):
        check((8, 8, 8), turned(0, (1.0, 1.0, 12.0)))


def test_too_few_axial_slices_are_refused_wherever_they_are_stored():
    sagittal = np.array([[0, 0, 5.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # the second axis points up
    with pytest.raises(ValueError, match=r"'ct.nii' has 2 axial slice.*at least 3 are needed\. Give the whole series"):
        check((30, 2, 20), sagittal, min_slices=3)
    check((30, 3, 2), sagittal, min_slices=3)
