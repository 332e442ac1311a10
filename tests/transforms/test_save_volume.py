"""Translated volumes on disk: as MONAI writes them, whole or absent, with a reason where they are absent."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, NibabelWriter
from monai.transforms import Compose

from common.errors import DiskFullError
from common.images import save_volume
from tests.limits import file_size_limit

AFFINE = np.array([[-1.5, 0.1, 0, 30], [0.1, 1.5, 0, -20], [0, 0, 4, -300], [0, 0, 0, 1.0]])


def image(shape: tuple[int, ...] = (1, 9, 8, 7)) -> MetaTensor:
    values = torch.from_numpy(np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.float32))
    return MetaTensor(values, affine=AFFINE, meta={"filename_or_obj": "/scans/case.nii.gz"})


def test_it_is_the_file_that_monai_writes(tmp_path):
    save_volume(str(tmp_path), "B70f", data_root_dir="/scans", dtype="int16")({"pred": image()})
    writer = NibabelWriter(output_dtype=np.int16)
    writer.set_data_array(image(), channel_dim=0)
    writer.set_metadata({"affine": AFFINE}, resample=False)
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


def test_a_full_disk_is_the_cause_that_is_named(tmp_path):
    save = Compose([save_volume(str(tmp_path), "T2", data_root_dir="/scans")])
    with file_size_limit(1000), pytest.raises(RuntimeError, match="applying transform") as raised:
        save({"pred": image((1, 40, 40, 9))})
    cause = raised.value.__cause__
    assert isinstance(cause, DiskFullError)
    assert "case_synthetic_T2.nii.gz' (0.0576 MB) could not be written: File too large" in str(cause)
    assert not list(tmp_path.iterdir())
