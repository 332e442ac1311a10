"""Volumes written slice after slice: as nibabel reads them, whole or not at all.

Translated volumes on disk: as MONAI writes them, whole or absent, with a reason where they are absent.
"""

from __future__ import annotations

import errno
import resource
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, NibabelWriter
from monai.transforms import Compose

from common.errors import DiskFullError
from common.images import NiftiSliceWriter, nifti_bytes, save_volume
from tests.helpers.limits import file_size_limit

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
    with pytest.raises(ValueError, match="inside the writer's `with` block"):
        NiftiSliceWriter(tmp_path / "volume.nii", VOLUME.shape, AFFINE).write(VOLUME)
    assert list(tmp_path.iterdir()) == []


OBLIQUE = np.array([[-1.5, 0.1, 0, 30], [0.1, 1.5, 0, -20], [0, 0, 4, -300], [0, 0, 0, 1.0]])


def image(shape: tuple[int, ...] = (1, 9, 8, 7)) -> MetaTensor:
    values = torch.from_numpy(np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.float32))
    return MetaTensor(values, affine=OBLIQUE, meta={"filename_or_obj": "/scans/case.nii.gz"})


def test_it_is_the_file_that_monai_writes(tmp_path):
    save_volume(str(tmp_path), "B70f", data_root_dir="/scans", dtype="int16")({"pred": image()})
    writer = NibabelWriter(output_dtype=np.int16)
    writer.set_data_array(image(), channel_dim=0)
    writer.set_metadata({"affine": OBLIQUE}, resample=False)
    writer.write(tmp_path / "monai.nii.gz")
    ours, monai = (nib.load(tmp_path / name) for name in ("case_synthetic_B70f.nii.gz", "monai.nii.gz"))
    monai.header.set_xyzt_units("mm")  # which MONAI leaves open
    assert ours.header == monai.header
    np.testing.assert_array_equal(ours.dataobj, monai.dataobj)
    assert len(list(tmp_path.iterdir())) == 2


def test_one_slice_stays_a_volume_and_the_same_volume_is_the_same_file(tmp_path):
    for folder in ("a", "b"):
        save_volume(str(tmp_path / folder), "T2", data_root_dir="/scans")({"pred": image((1, 9, 8, 1))})
    first, second = (tmp_path / folder / "case_synthetic_T2.nii.gz" for folder in ("a", "b"))
    assert nib.load(first).shape == (9, 8, 1)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 0, 1), (0, 2, 1)])
def test_sagittal_and_coronal_volumes_keep_their_affine(order, tmp_path):
    """The first two rows and columns alone of such an affine are singular."""
    affine = np.eye(4)
    affine[:3] = np.array([[-1.5, 0, 0, 30], [0, 1.25, 0, -20], [0, 0, 4, -300]])[list(order)]
    volume = MetaTensor(torch.rand(1, 9, 8, 7), affine=affine, meta={"filename_or_obj": "/scans/case.nii.gz"})
    save_volume(str(tmp_path), "T2", data_root_dir="/scans")({"pred": volume})
    saved = nib.load(tmp_path / "case_synthetic_T2.nii.gz")
    np.testing.assert_allclose(saved.affine, affine, atol=1e-4)
    np.testing.assert_array_equal(saved.dataobj, volume[0].numpy())


def test_a_full_disk_is_the_cause_that_is_named(tmp_path):
    save = Compose([save_volume(str(tmp_path), "T2", data_root_dir="/scans")])
    with file_size_limit(1000), pytest.raises(RuntimeError, match="applying transform") as raised:
        save({"pred": image((1, 40, 40, 9))})
    cause = raised.value.__cause__
    assert isinstance(cause, DiskFullError)
    assert "case_synthetic_T2.nii.gz' (0.0576 MB) could not be written: File too large" in str(cause)
    assert not list(tmp_path.iterdir())
