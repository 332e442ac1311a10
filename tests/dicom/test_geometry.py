"""The order of slices, their affine, and every fault of a stack, named."""

import numpy as np
import pytest
from pydicom import dcmread

from common.dicom.files import dicom_files
from common.dicom.geometry import stack
from common.dicom.series import find_volumes
from tests.helpers.dicom_files import AFFINE, HU, change, change_all, series

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0] * [0.8, 0.7, 2.5]


def stacked(folder):
    slices = [image for volume in find_volumes(dicom_files(folder)).volumes for image in volume.slices]
    return stack(slices, "the series")


def shift(folder, offsets):
    """Moves slices, each by its own offset in mm (LPS)."""

    def moved(index, image):
        return {"ImagePositionPatient": [a + b for a, b in zip(image.ImagePositionPatient, offsets(index))]}

    change_all(folder, moved)


@pytest.mark.parametrize("flip", [1, -1])
@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE])
def test_slices_are_ordered_along_the_normal_not_by_number_or_name(tmp_path, affine, flip):
    affine = affine @ np.diag([1, 1, flip, 1])
    folder = series(tmp_path / "S1", affine=affine)
    change_all(folder, lambda index, image: {"InstanceNumber": (7 * index) % 4})
    found = stacked(folder)
    lps = np.array([[float(mm) for mm in image.position] for image in found.slices])
    row, column = np.reshape(found.slices[0].orientation, (2, 3))
    assert (np.diff(lps @ np.cross(row, column)) > 0).all()
    corners = np.array([[x, y, z, 1.0] for x in (0, 5) for y in (0, 4) for z in (0, 3)]).T
    world = {tuple(np.round(point, 3)) for point in (affine @ corners).T}
    assert {tuple(np.round(point, 3)) for point in (found.affine @ corners).T} == world


def test_a_single_slice_takes_its_thickness(tmp_path, caplog):
    folder = series(tmp_path / "S1", HU[:, :, :1])
    assert np.linalg.norm(stacked(folder).affine[:3, 2]) == pytest.approx(2.5)
    change(folder / "0001", SliceThickness=None)
    assert np.linalg.norm(stacked(folder).affine[:3, 2]) == 1
    assert "tells no thickness: 1 mm is assumed" in caplog.text


def test_rounded_positions_are_no_fault(tmp_path):
    folder = series(tmp_path / "S1")
    shift(folder, lambda index: (0.004 * (-1) ** index, 0.003, 0.01 * (-1) ** index))
    assert len(stacked(folder).slices) == 4


def test_missing_slices_are_named_by_their_positions(tmp_path):
    folder = series(tmp_path / "S1")
    (folder / "0003").unlink()
    with pytest.raises(
        ValueError, match=r"the series lacks 1 of its 4 slices, at -53\.50 mm along .*; the others are 2\.5 mm"
    ):
        stacked(folder)


def test_many_missing_slices_are_counted(tmp_path):
    folder = series(tmp_path / "S1", np.zeros((4, 4, 12), int))
    for number in range(2, 10):
        (folder / f"{number:04d}").unlink()
    with pytest.raises(ValueError, match=r"lacks 8 of its 12 slices, at .* and 3 more along"):
        stacked(folder)


def test_two_slices_at_one_place_are_named(tmp_path):
    folder = series(tmp_path / "S1")
    change(folder / "0003", ImagePositionPatient=dcmread(folder / "0002").ImagePositionPatient)
    with pytest.raises(ValueError, match=r"share 1 of their places: 000\d and 000\d at -51\.00 mm"):
        stacked(folder)


def test_a_varying_distance_is_named_with_its_range(tmp_path):
    folder = series(tmp_path / "S1")
    shift(folder, lambda index: (0, 0, 0.5 if index == 1 else 0))
    with pytest.raises(ValueError, match=r"varies from 2 to 3 mm; 0003 lies 0\.5 mm from its place"):
        stacked(folder)


def test_gantry_tilt_is_refused_with_its_angle_and_a_cure(tmp_path):
    folder = series(tmp_path / "S1", GantryDetectorTilt="15")
    shift(folder, lambda index: (0, 2.5 * index * np.tan(np.radians(15)), 0))
    with pytest.raises(ValueError, match=r"tilted gantry: 15\.0 degrees, .* 0\.67 mm .*GantryDetectorTilt 15.*_Tilt"):
        stacked(folder)


def test_slices_beside_the_others_are_named(tmp_path):
    folder = series(tmp_path / "S1")
    shift(folder, lambda index: (3.0 if index == 2 else 0, 0, 0))
    with pytest.raises(ValueError, match="0002 lies 3 mm sideways of the line through the others"):
        stacked(folder)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"ImagePositionPatient": None}, "0002 lacks ImagePositionPatient, it cannot be placed"),
        ({"PixelSpacing": None}, "0002 lacks PixelSpacing"),
        ({"ImageOrientationPatient": None}, "0002 lacks ImageOrientationPatient"),
        ({"PixelSpacing": [0, 0.8]}, r"0002 has PixelSpacing \(0\.0, 0\.8\): it must be positive"),
        ({"PixelSpacing": [0.7, 0.9]}, r"differ in pixel spacing \(0\.7\\0\.\d mm, 0\.7\\0\.\d mm\)"),
        ({"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, "differ in orientation"),
        ({"Rows": 6}, r"differ in matrix \(6 x \d, 6 x \d\): they are no one volume"),
    ],
)
def test_what_one_slice_lacks_or_has_otherwise_is_named(tmp_path, attributes, message):
    folder = series(tmp_path / "S1")
    change(folder / "0002", **attributes)
    with pytest.raises(ValueError, match=message):
        stacked(folder)


def test_directions_that_are_not_perpendicular_are_refused(tmp_path):
    folder = series(tmp_path / "S1")
    change_all(folder, lambda index, image: {"ImageOrientationPatient": [1, 0, 0, 0.5, 0.9, 0]})
    with pytest.raises(ValueError, match="must be two perpendicular directions of length 1"):
        stacked(folder)


@pytest.mark.parametrize(("angle", "warned"), [(2e-4, False), (4e-4, False), (2e-3, True)])
def test_jitter_of_the_orientation_splits_nothing_and_the_mean_is_taken(tmp_path, caplog, angle, warned):
    """Rounding and registration on the scanner turn single slices by up to 0.1 degrees."""
    folder = series(tmp_path / "S1", affine=np.diag([-0.8, -0.7, 2.5, 1.0]))
    turned = [float(f"{v:.9g}") for v in (np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0)]
    change_all(folder, lambda index, _: {"ImageOrientationPatient": turned} if index % 2 else {})
    (volume,) = find_volumes(dicom_files(folder)).volumes
    found = stack(volume.slices, "the series")
    half = angle / 2
    expected = [[-0.8 * np.cos(half), 0.7 * np.sin(half)], [-0.8 * np.sin(half), -0.7 * np.cos(half)], [0, 0]]
    np.testing.assert_allclose(found.affine[:3, :2], expected, atol=1e-6)
    np.testing.assert_allclose(found.affine[:3, 2], [0, 0, 2.5], atol=1e-6)
    assert ("the orientation of its slices varies by up to 0.002" in caplog.text) is warned
    sizes = np.linalg.norm(found.affine[:3, :3], axis=0)
    np.testing.assert_allclose(found.affine[:3, :3].T @ found.affine[:3, :3], np.diag(sizes**2), atol=1e-9)


def test_an_orientation_that_differs_by_more_is_another_volume(tmp_path):
    folder = series(tmp_path / "S1")
    turned = [np.cos(0.01), np.sin(0.01), 0, -np.sin(0.01), np.cos(0.01), 0]
    change(folder / "0002", ImageOrientationPatient=[float(f"{v:.9g}") for v in turned])
    assert sorted(len(volume.slices) for volume in find_volumes(dicom_files(folder)).volumes) == [1, 3]
