"""Loading and checking a volume is one transform, which gives what its steps give."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from common.errors import own_error
from common.transforms import LoadImageAndCheckd, LoadMappedd
from tests.helpers.dicom_series import write_source_series

AFFINE = np.array([[-0.7, 0.02, 0, 30], [0.01, 0, -0.7, 20], [0, 1.5, 0, -300], [0, 0, 0, 1.0]])


def save(folder: Path, low: int = -1000) -> dict[str, str]:
    values = np.random.default_rng(0).integers(low, 400, (7, 5, 6)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, AFFINE), folder / "scan.nii")
    return {"image": str(folder / "scan.nii")}


def test_it_gives_what_monais_transforms_give(tmp_path):
    item = save(tmp_path)
    found = LoadImageAndCheckd("image", hu=True)(item)["image"]
    expected = Compose([LoadImaged("image", reader="NibabelReader"), EnsureChannelFirstd("image")])(item)["image"]
    torch.testing.assert_close(found.as_tensor(), expected.as_tensor(), rtol=0, atol=0)
    torch.testing.assert_close(found.affine, expected.affine, rtol=0, atol=0)
    assert found.meta.keys() == expected.meta.keys()


def test_another_transform_may_read(tmp_path):
    found = LoadImageAndCheckd("image", hu=True, read=LoadMappedd("image"))(save(tmp_path))["image"]
    assert found.dtype == torch.int16
    assert found.shape == (1, 7, 5, 6)


@pytest.mark.parametrize("hu", [True, False])
def test_hu_are_asked_for_where_the_images_are_ct(tmp_path, hu):
    load, item = LoadImageAndCheckd("image", hu=hu), save(tmp_path, low=0)
    if not hu:
        assert load(item)["image"].shape == (1, 7, 5, 6)
        return
    with pytest.raises(RuntimeError) as caught:
        load(item)
    assert "is not a CT in HU" in str(caught.value.__cause__)


def test_what_is_no_volume_is_refused_before_it_is_loaded(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.complex64), AFFINE), tmp_path / "scan.nii")
    with pytest.raises(RuntimeError) as caught:
        LoadImageAndCheckd("image", hu=False)({"image": str(tmp_path / "scan.nii")})
    assert "is complex" in str(caught.value.__cause__)


def test_monai_deploy_leaves_it_out_by_its_name():
    """Its operator drops what has `LoadImage` in its name, after it has inlined plain compositions."""
    steps = Compose([LoadImageAndCheckd("image", hu=False), EnsureChannelFirstd("image")]).flatten().transforms
    assert [type(step).__name__ for step in steps if "LoadImage" not in type(step).__name__] == ["EnsureChannelFirstd"]


def test_an_mr_from_dicom_is_called_mr_and_not_a_ct_without_its_offset(tmp_path):
    volume = np.random.default_rng(0).integers(0, 900, (6, 5, 4))
    folder = write_source_series(tmp_path / "mr", volume, np.diag([-1.0, -1.0, 2.0, 1.0]), "MR")
    with pytest.raises(RuntimeError) as error:
        LoadImageAndCheckd("image", hu=True)({"image": str(folder)})
    assert "mr' is not a CT in HU" in str(own_error(error.value))
    assert "It is MR by its DICOM header: give a CT series." in str(own_error(error.value))
