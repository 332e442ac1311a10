"""A header that places voxels nowhere is refused before memory is asked for."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from common.transforms import CheckHeaderd


def save(folder: Path, affine: np.ndarray, unit: str = "mm") -> dict[str, str]:
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), None)
    image.header.set_xyzt_units(unit)
    image.header.set_sform(affine, code=1)
    image.header["pixdim"][1:4] = 1
    nib.save(image, folder / "scan.nii")
    return {"image": str(folder / "scan.nii")}


def flat() -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 1] = affine[:3, 0]
    return affine


@pytest.mark.parametrize(
    ("affine", "unit", "rule"),
    [
        (np.eye(4), "micron", "voxel sizes in micrometres, they must be in mm"),
        (np.eye(4), "meter", "voxel sizes in metres"),
        (np.diag([1, 1, np.nan, 1]), "mm", "not finite"),
        (np.diag([1, 1, 1e4, 1]), "mm", "3 x 4 x 50000 mm large"),
        (np.diag([1, 0, 1, 1]), "mm", "3 x 0 x 5 mm large"),
        (flat(), "mm", "axes that lie in one plane"),
    ],
)
def test_an_impossible_grid_is_refused_with_file_rule_and_cure(affine, unit, rule, tmp_path):
    with pytest.raises(ValueError, match=rule) as error:
        CheckHeaderd("image")(save(tmp_path, affine, unit))
    assert "scan.nii" in str(error.value)
    assert "Correct its header" in str(error.value)


@pytest.mark.parametrize("unit", ["mm", "unknown"])
def test_a_sound_grid_passes(unit, tmp_path):
    item = save(tmp_path, np.diag([0.05, 0.05, 10.0, 1.0]), unit)
    assert CheckHeaderd("image")(item) == item
