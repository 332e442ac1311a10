"""Registration: known transforms are recovered, and what is measured of a transform is what was put into it."""

from __future__ import annotations

import sys

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from common.images.registration import deformation, from_itk, register, resample, similarity, to_itk
from tests.helpers.misaligned import AFFINE, SHAPE, body_at, breathed, moved, noisy, points, rotated
from tests.helpers.shared import require_shared

sitk = pytest.importorskip("SimpleITK", reason="SimpleITK (the extra `align`) is not installed")

WINDOW = (-200.0, 300.0)
OBLIQUE = np.array([[-0.7, 0.3, 0.1, 12.0], [0.2, -0.8, 0.4, -3.0], [0.1, 0.2, 2.4, 40.0], [0, 0, 0, 1]])
PLACES = points()
BODY = body_at(PLACES, enhanced=False) > -300
FIXED = noisy(body_at(PLACES, enhanced=False), 0)


def found(moving, **options):
    affines = {"fixed_affine": AFFINE, "moving_affine": AFFINE}
    return register(FIXED, moving, mask=BODY, window=WINDOW, **affines | options)


def errors_mm(transform, move):
    """Distances in mm, in the organs, between where a transform and where the truth put places."""
    x, y, z = np.moveaxis(PLACES, -1, 0)
    within = BODY & (np.hypot(x, y) < 55) & (np.abs(z) < 40)
    places = PLACES[within][::37]
    lps = np.array([transform.TransformPoint((place * [-1, -1, 1]).tolist()) for place in places])
    return np.linalg.norm(lps * [-1, -1, 1] - move(places), axis=1)


@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE, np.diag([0.5, 0.5, 3.0, 1.0])])
def test_a_voxel_lies_where_its_affine_says_and_comes_back(affine):
    values = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
    image = to_itk(values, affine)
    for voxel in ((0, 0, 0), (4, 0, 0), (4, 3, 2)):
        place = np.array(image.TransformIndexToPhysicalPoint(voxel)) * [-1, -1, 1]
        np.testing.assert_allclose(place, (affine @ [*voxel, 1])[:3], atol=1e-6)
        assert image[voxel] == values[voxel]
    np.testing.assert_array_equal(from_itk(image), values)


@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE])
def test_without_a_transform_a_volume_on_its_own_grid_is_itself(affine):
    made, inside = resample(FIXED, moving_affine=affine, shape=SHAPE, affine=affine)
    np.testing.assert_allclose(made, FIXED, atol=1e-2)
    assert inside.all()


def test_voxels_from_outside_are_padding_and_no_value_is_mixed_with_padding():
    values = np.full((6, 5, 4), 40.0, np.float32)
    values[0] = -3024  # the scanner's own padding
    grid = np.eye(4)
    grid[0, 3] = 0.5  # half a voxel on
    made, inside = resample(
        values, moving_affine=np.eye(4), shape=(8, 5, 4), affine=grid, padding=-1024, valid=values > -1500
    )
    assert inside[:, 0, 0].tolist() == [False, True, True, True, True, False, False, False]
    assert (made[inside] == 40).all()
    assert (made[~inside] == -1024).all()


def test_an_affine_motion_is_recovered_across_contrast_grids_and_formats_of_axes():
    move = rotated()
    other = np.array([[0, 0, 5.0, -130], [3.5, 0, 0, -110], [0, 4.5, 0, -95], [0, 0, 0, 1]])  # other axes, another grid
    result = found(moved(move, affine=other, shape=(62, 46, 54)), moving_affine=other, method="affine")
    errors = errors_mm(result.transform, move)
    assert errors.mean() < 1.5
    assert errors.max() < 4


def test_a_smooth_deformation_is_recovered_by_the_spline_and_not_by_the_affine():
    move = breathed()
    moving = moved(move)
    before = np.linalg.norm(move(PLACES) - PLACES, axis=-1)[BODY].mean()
    affine, spline = (
        errors_mm(found(moving, method=method).transform, move).mean() for method in ("affine", "bspline")
    )
    assert before > 3
    assert spline < 0.9 * affine
    assert spline < 2.8  # of voxels of 5 mm


def test_a_real_brain_that_was_moved_comes_back():
    """T1 and T2 of one patient, which are aligned; the T2 is turned by 5 degrees and shifted by 9 mm."""
    fixed, moving = (
        nib.load(require_shared("data", "brain_mri", f"cstar_stroke_{name}.nii.gz")) for name in ("T1", "T2")
    )
    motion = np.eye(4)
    motion[:3, :3] = nib.eulerangles.euler2mat(0.06, 0.03, -0.05)
    motion[:3, 3] = (6, -4, 5)
    t1, t2 = (np.asarray(image.dataobj, np.float32) for image in (fixed, moving))
    body = t1 > 20
    options = {"window": (34, 204), "moving_window": (50, 398), "mask": ndimage.binary_dilation(body, iterations=10)}
    affines = {"fixed_affine": fixed.affine, "moving_affine": motion @ moving.affine}
    places = nib.affines.apply_affine(fixed.affine, np.argwhere(body)[::2000])
    truth = nib.affines.apply_affine(motion, places)
    assert np.linalg.norm(places - truth, axis=1).mean() > 10
    left = {}
    for method in ("affine", "bspline"):
        transform = register(t1, t2, method=method, **affines, **options).transform
        got = np.array([transform.TransformPoint((place * [-1, -1, 1]).tolist()) for place in places]) * [-1, -1, 1]
        left[method] = np.linalg.norm(got - truth, axis=1).mean()
    assert left["affine"] < 2 < left["bspline"] < 3.5  # a deformation harms where there was none, as the page says


def test_the_same_seed_gives_the_same_transform():
    moving = moved(rotated())
    first, second = (found(moving, method="affine", seed=3).transform for _ in range(2))
    for place in PLACES[::9, ::9, ::9].reshape(-1, 3).tolist():  # but for the order in which threads add
        np.testing.assert_allclose(first.TransformPoint(place), second.TransformPoint(place), atol=0.1)


def test_headers_that_lie_far_apart_are_overruled_by_the_centres():
    far = AFFINE.copy()
    far[0, 3] += 400
    result = found(moved(lambda p: p * 1.0), moving_affine=far, method="affine")
    assert result.start == "centres"
    assert errors_mm(result.transform, lambda p: p + [400.0, 0, 0]).mean() < 2


@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE])
def test_the_jacobian_of_a_scaling_is_its_cube_whatever_the_axes(affine):
    transform = sitk.AffineTransform(3)
    transform.Scale(0.9)
    found_ = deformation(transform, affine=affine, mask=np.ones((20, 20, 10), dtype=bool))
    assert found_.smallest_jacobian == pytest.approx(0.729, abs=1e-6)
    assert found_.folded == 0


def test_a_fold_is_found():
    spline = sitk.BSplineTransformInitializer(to_itk(FIXED, AFFINE), [4, 4, 3], 3)
    values = np.zeros((3, 7 * 7 * 6))
    values[0, 7 * 7 * 2 + 7 * 3 + 3], values[0, 7 * 7 * 2 + 7 * 3 + 4] = 150, -150  # neighbours pass each other
    spline.SetParameters(values.ravel().tolist())
    result = deformation(spline, affine=AFFINE, mask=BODY)
    assert result.smallest_jacobian < 0
    assert 0 < result.folded < 0.5
    assert result.largest_mm > 30


def test_similarity_tells_equal_from_independent_and_counts_the_mask_alone():
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0, 100, (2, 40, 40, 20))
    everywhere = np.ones(first.shape, dtype=bool)
    assert similarity(first, 3 - 2 * first, mask=everywhere, window=(0, 100), second_window=(-200, 3)) > 1.95
    assert similarity(first, second, mask=everywhere, window=(0, 100)) < 1.02
    half = everywhere.copy()
    half[20:] = False
    mixed = np.where(half, first, second)
    assert similarity(first, mixed, mask=half, window=(0, 100)) > 1.95
    assert similarity(first, mixed, mask=~everywhere, window=(0, 100)) == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "demons"}, r"`method` must be one of affine, bspline, got 'demons'\."),
        ({"grid_mm": 0}, r"`grid_mm` must be above 0, got 0\."),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        found(FIXED, **options)


def test_without_a_body_nothing_is_compared():
    with pytest.raises(ValueError, match="the fixed volume shows no body"):
        register(FIXED, FIXED, fixed_affine=AFFINE, moving_affine=AFFINE, mask=BODY & False, window=WINDOW)


def test_without_simpleitk_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ValueError, match=r"needs SimpleITK.*`python -m pip install SimpleITK` \(the extra `align`\)"):
        found(FIXED)
