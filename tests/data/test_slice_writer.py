"""Volumes written slice after slice: as nibabel reads them, whole or not at all."""

from __future__ import annotations

import errno
import resource
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from common.images import NiftiSliceWriter, nifti_bytes

AFFINE = np.array([[-0.1, 0.02, 0, 30], [0.01, -0.1, 0, 20], [0, 0, 1.5, -300], [0, 0, 0, 1.0]])
VOLUME = np.random.default_rng(0).integers(-1200, 400, (13, 9, 7)).astype(np.int16)


def write(path, volume=VOLUME, step=2):
    with NiftiSliceWriter(path, volume.shape, AFFINE) as writer:
        for z in range(0, volume.shape[2], step):
            writer.write(volume[..., z : z + step])


def interrupted(path):
    with NiftiSliceWriter(path, VOLUME.shape, AFFINE) as writer:
        writer.write(VOLUME[..., :3])
        assert len(list(path.parent.iterdir())) == 2
        raise KeyboardInterrupt


def nothing_written(path):
    with NiftiSliceWriter(path, VOLUME.shape, AFFINE):
        pass


@pytest.mark.parametrize("name", ["volume.nii", "volume.nii.gz"])
def test_what_is_written_is_read_again(tmp_path, name):
    write(tmp_path / "new" / name)
    image = nib.load(tmp_path / "new" / name)
    assert image.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(image.dataobj), VOLUME)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_the_size_is_known_before(tmp_path):
    write(tmp_path / "volume.nii")
    assert (tmp_path / "volume.nii").stat().st_size == nifti_bytes(VOLUME.shape)


def test_memory_holds_a_slice_only(tmp_path):
    """50 slices of 0.5 MB; at most a few of them at a time."""
    plane = np.zeros((500, 500, 1), np.int16)
    tracemalloc.start()
    with NiftiSliceWriter(tmp_path / "volume.nii", (500, 500, 50), AFFINE) as writer:
        for _ in range(50):
            writer.write(plane)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * plane.nbytes


@pytest.mark.parametrize("name", ["volume.nii", "volume.nii.gz"])
def test_an_error_leaves_nothing_behind_and_an_older_file_as_it_was(tmp_path, name):
    (tmp_path / name).write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"older"


@pytest.mark.parametrize("name", ["volume.nii", "volume.nii.gz"])
def test_a_write_that_the_system_refuses_leaves_nothing_behind(tmp_path, name):
    """The system's limit on the size of a file stands for a full disk."""
    noise = np.random.default_rng(0).integers(-1200, 400, (200, 200, 8)).astype(np.int16)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError) as error:  # noqa: PT011 - the message is the system's
            write(tmp_path / name, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`path` must end in \.nii or \.nii\.gz, got 'volume\.mha'\."):
        NiftiSliceWriter(tmp_path / "volume.mha", VOLUME.shape, AFFINE)
    with pytest.raises(ValueError, match=r"`shape` must be three sizes of 1 to 32767, got \(40000, 2, 2\)\."):
        NiftiSliceWriter(tmp_path / "volume.nii", (40000, 2, 2), AFFINE)
    cases = {
        r"slices must be of 13 x 9 pixels and at most 7 more, got shape \(9, 13, 2\)": VOLUME[..., :2].swapaxes(0, 1),
        r"at most 7 more, got shape \(13, 9, 14\)": np.concatenate([VOLUME, VOLUME], axis=2),
        r"slices must be of type int16, got float64: round and convert": VOLUME.astype(float),
    }
    for message, slab in cases.items():
        writer = NiftiSliceWriter(tmp_path / "volume.nii", VOLUME.shape, AFFINE)
        with pytest.raises(ValueError, match=message), writer:
            writer.write(slab)
    with pytest.raises(ValueError, match=r"'volume\.nii' must have 7 slices, but 0 were written\."):
        nothing_written(tmp_path / "volume.nii")
    with pytest.raises(ValueError, match="inside of the writer's `with` block"):
        NiftiSliceWriter(tmp_path / "volume.nii", VOLUME.shape, AFFINE).write(VOLUME)
    assert list(tmp_path.iterdir()) == []
