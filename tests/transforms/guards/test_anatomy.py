"""Body parts: each measure on drawn discs, and no false alarm on real volumes of the right part.

Which slices are axial, how many, how far apart and how tilted.
"""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from common.transforms import CheckAxiald, CheckBodyPartd, axial_geometry
from tests.helpers.shared import needs_shared, shared

PIXEL_MM = 3.0


def disc(diameter_mm: float, inside: float, outside: float, size: int = 128, centre: tuple[int, int] = (64, 64)):
    x, y = np.mgrid[:size, :size]
    circle = np.hypot(x - centre[0], y - centre[1]) * PIXEL_MM <= diameter_mm / 2
    return np.where(circle, inside, outside)


def trunk(lung_mm: float) -> np.ndarray:
    """A trunk of 300 mm with two round lungs."""
    plane = disc(300, 40.0, -1000.0)
    for x in (41, 87):
        lung = disc(lung_mm, 1.0, 0.0, centre=(x, 64)) > 0
        plane[lung] = -850.0
    return plane


def warned(plane: np.ndarray, part: str, caplog, **meta: str) -> str:
    caplog.clear()
    volume = torch.as_tensor(np.repeat(plane[None, ..., None], 4, axis=-1))
    affine = torch.diag(torch.tensor([PIXEL_MM, PIXEL_MM, 5.0, 1.0], dtype=torch.float64))
    CheckBodyPartd("image", part)({"image": MetaTensor(volume, affine=affine, meta=dict(meta))})
    return caplog.text


def test_a_brain_has_the_size_of_one(caplog):
    assert warned(disc(150, 100.0, 0.0), "brain", caplog) == ""
    text = warned(disc(60, 100.0, 0.0), "brain", caplog)
    assert "may not show the brain" in text
    assert "largest cross-section is that of a disc of 60 mm, a brain has 110 to 230 mm" in text
    assert "a disc of 300 mm" in warned(disc(300, 100.0, 0.0), "brain", caplog)


def test_an_abdomen_has_the_size_of_a_trunk_and_hardly_any_lung(caplog):
    assert warned(trunk(0), "abdomen", caplog) == ""
    assert warned(trunk(60), "abdomen", caplog) == ""
    assert "a head or a limb has less" in warned(disc(120, 40.0, -1000.0), "abdomen", caplog)
    assert "in 100% of its slices more than 10% of the cross-section is lung" in warned(trunk(130), "abdomen", caplog)


def test_a_lung_must_be_there(caplog):
    assert warned(trunk(130), "lung", caplog) == ""
    assert "no region enclosed by the body" in warned(trunk(0), "lung", caplog)


def test_a_header_that_names_another_part_is_evidence(caplog):
    assert warned(trunk(0), "abdomen", caplog, body_part="ABDOMENPELVIS") == ""
    assert "its DICOM header says 'KNEE'" in warned(trunk(0), "abdomen", caplog, body_part="KNEE")


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match=r"`part` must be one of brain, abdomen, lung, got 'leg'."):
        CheckBodyPartd("image", "leg")


@needs_shared("data")
@pytest.mark.parametrize(
    ("path", "part", "alarm"),
    [
        ("brain_mri/TCGA-FG-6692_t1_brain.nii.gz", "brain", ""),
        ("brain_mri/cstar_stroke_T1.nii.gz", "brain", ""),
        ("abdomen_ct/totalseg_example_ct_noncontrast_3mm.nii.gz", "abdomen", ""),
        ("chest_ct/lidc_idri_0314_native_40slices.nii.gz", "lung", ""),
        ("abdomen_ct/acrin_flt_breast_001_abdomen_SOFT_44slices.nii.gz", "abdomen", ""),
        ("abdomen_ct/totalseg_example_contrast_Br38f_20slices.nii.gz", "abdomen", ""),
        ("chest_ct/lidc_idri_0314_native_40slices.nii.gz", "abdomen", "as in a chest"),
        ("chest_ct/acrin_flt_breast_001_SOFT_24slices.nii.gz", "abdomen", "as in a chest"),
        ("chest_ct/cmb_crc_01068_LUNG_40slices.nii.gz", "abdomen", "as in a chest"),
        ("chest_ct/lungfcp_01-0001_B31f_40slices.nii.gz", "abdomen", "as in a chest"),
        ("chest_ct/rider_pilot_0117_STANDARD_40slices.nii.gz", "abdomen", "as in a chest"),
        ("kernel_pair_ct/philips_headphantom_UB_soft_brain_40slices.nii.gz", "abdomen", "a head or a limb has less"),
    ],
)
def test_real_volumes_raise_no_false_alarm(path, part, alarm, caplog):
    volume = LoadImage(reader="NibabelReader", ensure_channel_first=True)(shared("data", path))
    caplog.clear()  # of what MONAI says in loading
    CheckBodyPartd("image", part)({"image": volume})
    assert alarm in caplog.text
    assert bool(alarm) == bool(caplog.text)


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
