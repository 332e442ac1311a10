"""The finer grid: every coarse voxel is where its fine voxels are, however the volume is stored."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.images import SliceStorage, finer_affine
from common.images.grids import coarse_volume, reduced
from common.phantoms.lung.imaging import coarser_affine

RNG = np.random.default_rng(0)
SHEARED = np.vstack([np.c_[RNG.normal(size=(3, 3)) + 2 * np.eye(3), [11.0, -7.0, 300.0]], [0, 0, 0, 1]])


def at(affine, index):
    return affine[:3, :3] @ np.asarray(index, dtype=float) + affine[:3, 3]


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_fine_voxels_fill_their_coarse_voxel(factor):
    """Closed form: the mean of their centres is its centre, and the first corners agree."""
    start = (5, 3, 2)
    fine = finer_affine(SHEARED, factor, start)
    places = np.stack(np.meshgrid(np.arange(factor), np.arange(factor), [1], indexing="ij"), -1).reshape(-1, 3)
    offset = factor * np.array([4, 6, 0])
    centre = np.mean([at(fine, place + offset) for place in places], axis=0)
    np.testing.assert_allclose(centre, at(SHEARED, (9, 9, 3)), atol=1e-9)
    np.testing.assert_allclose(at(fine, (-0.5, -0.5, -0.5)), at(SHEARED, np.subtract(start, 0.5)), atol=1e-9)


def test_it_undoes_the_phantoms_coarser_grid_in_plane():
    coarse = coarser_affine(SHEARED, 8)
    back = finer_affine(coarse, 8)
    np.testing.assert_allclose(back[:3, :2], SHEARED[:3, :2], atol=1e-12)
    np.testing.assert_allclose(at(back, (3, 4, 0)), at(SHEARED, (3, 4, 3.5)), atol=1e-12)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAI", "ARS", "PSR", "SLA", "IPR"])
def test_a_volume_is_stored_along_the_axes_of_another_with_axial_slices_last(axes):
    volume = RNG.integers(0, 1000, (5, 4, 6)).astype(np.int16)
    ras = np.array([[0.9, 0.1, 0, 3], [-0.1, 0.9, 0.05, 1], [0, 0, 2, -40], [0, 0, 0, 1.0]])
    change = nib.orientations.ornt_transform(nib.io_orientation(ras), nib.orientations.axcodes2ornt(axes))
    other = nib.Nifti1Image(volume, ras).as_reoriented(change)
    storage = SliceStorage(ras, volume.shape, like=other.affine)
    levels = range(6)
    slabs = [volume[..., z : z + 2] for z in levels[::2]]
    stored = np.concatenate([storage.slices(slab) for slab in (slabs[::-1] if storage.downwards else slabs)], axis=-1)
    assert stored.shape == storage.shape
    kept = [code for code in axes if code not in "SI"] + [code for code in axes if code in "SI"]
    assert list(nib.aff2axcodes(storage.affine)) == kept
    for index in np.ndindex(*volume.shape):  # the same value at the same place
        place = np.linalg.solve(storage.affine, [*at(ras, index), 1])[:3]
        np.testing.assert_allclose(place, place.round(), atol=1e-9)
        assert stored[tuple(place.round().astype(int))] == volume[index]


def image(shape: tuple[int, ...]) -> MetaTensor:
    """A coronal volume, whose axial slices lie along its second axis, in voxels of 1 x 3 x 1 mm along them."""
    affine = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, 3.0, 0, 0], [0, 0, 0, 1]])
    return MetaTensor(torch.from_numpy(RNG.normal(size=(1, *shape)).astype(np.float32)), affine=torch.as_tensor(affine))


def test_a_volume_is_averaged_slab_by_slab_as_at_once():
    volume = image((20, 70, 16))
    found, sizes = coarse_volume(volume, pixel_mm=4.0, slice_mm=6.0)
    expected = volume[0].numpy().swapaxes(1, 2).reshape(5, 4, 4, 4, 35, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert sizes == [4.0, 4.0, 6.0]


def test_a_long_volume_is_averaged_over_more_slices():
    found, sizes = coarse_volume(image((20, 70, 16)), pixel_mm=4.0, slice_mm=6.0, most=300)
    assert found.shape == (5, 4, 11)
    assert sizes == [4.0, 4.0, 18.0]


def test_a_volume_is_reduced_only_if_it_is_large():
    volume = image((20, 70, 16))
    same, sizes = reduced(volume)
    assert np.shares_memory(same, volume.numpy())
    assert sizes == [1.0, 3.0, 1.0]
    smaller, sizes = reduced(volume, most=3000)
    assert 200 < smaller.size <= 750
    assert max(sizes) / min(sizes) <= 2  # about cubes
    assert smaller.mean() == pytest.approx(float(volume.mean()), abs=0.05)
