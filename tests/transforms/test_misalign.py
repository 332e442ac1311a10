"""Simulated misalignment: I + kU as the paper's section 4.4.1 has it, one draw a patient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch.testing import assert_close

from common.transforms import misalign, misalign_patients, random_affine

SHAPE = (24, 20, 6)


def smooth_volume() -> torch.Tensor:
    """A blob in the middle of background, (1, 24, 20, 6) in [-1, 1]."""
    axes = [np.linspace(-1, 1, size) for size in SHAPE]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return torch.as_tensor(2 * np.exp(-4 * ((x - 0.2) ** 2 + (y + 0.1) ** 2 + 0.2 * z**2)) - 1, dtype=torch.float32)[
        None
    ]


def reference(volume: torch.Tensor, matrix: np.ndarray) -> np.ndarray:
    """The same resampling from scipy: normalised coordinates of voxel centres, pulled through the matrix."""
    sizes = np.array(SHAPE)[:, None, None, None]
    centres = (2 * np.indices(SHAPE) + 1) / sizes - 1
    places = np.einsum("ij,jxyz->ixyz", matrix[:3], np.concatenate([centres, np.ones((1, *SHAPE))]))
    voxels = ((places + 1) * sizes - 1) / 2
    voxels[2] = voxels[2].clip(0, SHAPE[2] - 1)
    return map_coordinates(np.asarray(volume[0], dtype=np.float64), voxels, order=1, mode="grid-constant", cval=-1.0)


def test_no_distortion_is_the_identity_exactly():
    volume = torch.rand(2, 7, 5, 3) * 2 - 1
    assert torch.equal(misalign(volume, 0.0, 0, patient="p001"), volume)
    assert torch.equal(misalign(volume, 0, 3, patient="p002"), volume)


@pytest.mark.parametrize("k", [0.01, 0.05, 0.4])
def test_a_perturbed_volume_shows_what_was_at_the_transformed_place(k):
    volume = smooth_volume()
    expected = reference(volume, random_affine(k, 0, patient="p001"))
    assert_close(misalign(volume, k, 0, patient="p001")[0].double(), torch.as_tensor(expected), atol=1e-4, rtol=0)


def test_what_comes_from_outside_is_background_in_the_plane_and_the_last_slice_across():
    moved = misalign(torch.ones(1, *SHAPE), 0.4, 0, patient="p001")
    assert moved.min() == -1  # in the plane a corner comes from outside
    assert_close(moved[0, 12, 10], torch.ones(6))  # across the slices nothing fades


def test_the_matrix_is_the_identity_plus_uniform_elements_and_an_affine_last_row():
    matrices = np.array([random_affine(0.02, 0, patient=f"p{i}") for i in range(500)])
    draws = (matrices - np.eye(4))[:, :3] / 0.02
    assert np.abs(draws).max() <= 1
    # A uniform variable on [-1, 1] has mean 0 and variance 1/3; 6000 draws are within 4 standard errors.
    assert abs(draws.mean()) < 4 * (1 / 3 / 6000) ** 0.5
    assert draws.var() == pytest.approx(1 / 3, rel=0.05)
    assert (matrices[:, 3] == [0, 0, 0, 1]).all()


def test_the_draw_depends_on_seed_and_patient_and_grows_with_k():
    first = random_affine(0.01, 0, patient="p001")
    np.testing.assert_array_equal(first, random_affine(0.01, 0, patient="p001"))
    assert not np.allclose(first, random_affine(0.01, 1, patient="p001"))
    assert not np.allclose(first, random_affine(0.01, 0, patient="p002"))
    np.testing.assert_allclose(5 * (first - np.eye(4)), random_affine(0.05, 0, patient="p001") - np.eye(4), atol=1e-15)


def test_two_images_of_a_patient_move_alike():
    volumes = [smooth_volume()] * 3
    one, other, again = misalign_patients(volumes, [{"patient": p} for p in ("a", "b", "a")], k=0.05, seed=0)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("k", [-0.01, float("nan"), float("inf")])
def test_a_wrong_degree_is_refused(k):
    with pytest.raises(ValueError, match=r"`k` must be a number >= 0, got .*; the paper has 0\.01, 0\.02 and 0\.05\."):
        misalign(smooth_volume(), k, 0, patient="p001")


def test_a_slice_is_refused():
    with pytest.raises(ValueError, match=r"`volume` must have the shape \(C, X, Y, Z\), got \(1, 4, 4\)\."):
        misalign(torch.zeros(1, 4, 4), 0.01, 0, patient="p001")


def test_entries_must_fit_and_name_their_patients():
    with pytest.raises(ValueError, match=r"`entries` must hold one for each of the 1 volumes, got 0\."):
        misalign_patients([smooth_volume()], [], k=0.01)
    with pytest.raises(ValueError, match=r"each name a `patient`.*'scan\.nii' does not: add \"patient\""):
        misalign_patients([smooth_volume()], [{"image": "scan.nii", "patient": "?"}], k=0.01)
