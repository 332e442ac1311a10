"""Values and axes that cannot be right are found in real scans that were spoilt, and no real scan raises an alarm."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.transforms import CheckPlausibled
from common.transforms.guards.plausible import disorder, doubts_of, table_side
from tests.helpers.shared import require_shared

SCANS = {
    "abdomen_ct": ["acrin_flt_breast_001_abdomen_SOFT_44slices", "c4kc_kits_00072_arterial_B30s_18slices"],
    "chest_ct": ["lidc_idri_0314_native_40slices", "lungfcp_01-0001_B31f_40slices"],
}
SCANS["abdomen_ct"] += ["totalseg_example_ct_noncontrast_3mm", "totalseg_example_contrast_Br38f_20slices"]
SCANS["chest_ct"] += ["acrin_flt_breast_001_SOFT_24slices", "cmb_crc_01068_LUNG_40slices"]
SCANS["chest_ct"] += ["rider_pilot_0117_STANDARD_40slices"]
HEADS = ["philips_headphantom_UB_soft_brain_40slices", "philips_headphantom_YA_sharp_bone_40slices"]
TRUNKS = [(folder, name) for folder, names in SCANS.items() for name in names]


def image(volume: np.ndarray, affine: np.ndarray) -> MetaTensor:
    values = torch.from_numpy(np.ascontiguousarray(volume))[None]
    return MetaTensor(values, affine=torch.as_tensor(affine), meta={"filename_or_obj": "scan.nii"})


def load(folder: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    stored = nib.load(require_shared("data", folder, f"{name}.nii.gz"))
    return np.asarray(stored.dataobj), stored.affine


def shuffled(volume: np.ndarray) -> np.ndarray:
    return volume[..., np.random.default_rng(0).permutation(volume.shape[2])]


SPOILT = {
    "scaled by 1.2": (lambda volume: volume * 1.2, "is darker than air"),
    "scaled by 10": (lambda volume: volume.astype(np.float32) * 10, "is darker than air"),
    "negated": (lambda volume: -volume, "as bright as dense bone"),
    "bytes swapped": (lambda volume: volume.astype("<i2").view(">i2").astype(np.float32), "is darker than air"),
    "transposed": (lambda volume: volume.transpose(1, 0, 2), "times as wide as high"),
    "shuffled": (shuffled, "as if their order was lost"),
}


@pytest.mark.parametrize(("folder", "name"), [*TRUNKS, *(("kernel_pair_ct", name) for name in HEADS)])
def test_no_real_ct_raises_an_alarm(folder, name):
    assert doubts_of(image(*load(folder, name)), "CT") == []


def test_no_real_mr_raises_an_alarm():
    paths = sorted(require_shared("data", "brain_mri").glob("*.nii.gz"))
    assert len(paths) >= 16
    for path in paths:
        assert doubts_of(image(*load("brain_mri", path.name.removesuffix(".nii.gz"))), "MR") == []


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize(("folder", "name"), [TRUNKS[0], TRUNKS[4], TRUNKS[6]])
def test_a_spoilt_scan_is_found_out(folder, name, spoilt, caplog):
    volume, affine = load(folder, name)
    spoil, evidence = SPOILT[spoilt]
    CheckPlausibled("image", "CT")({"image": image(spoil(volume), affine)})
    assert "'scan.nii' is not what it should be" in caplog.text
    assert evidence in caplog.text


def test_the_order_of_slices_is_judged_by_their_differences():
    steps = np.arange(8.0)[None, None] * np.ones((4, 4, 1)) + np.random.default_rng(0).random((4, 4, 1))
    assert disorder(steps, range(8)) is None  # all alike up to a constant
    wave = np.sin(np.arange(12)[None, None] / 3 + np.arange(20)[:, None, None])
    assert disorder(wave, range(12)) == pytest.approx(0.5, abs=0.02)
    assert disorder(wave[..., [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]], range(12)) > 1.5
    assert disorder(wave[..., :5], range(5)) is None


def test_the_side_of_the_table_is_known():
    body = np.zeros((40, 30, 2), dtype=bool)
    body[10:30, 10:20] = True
    behind, beside = body.copy(), body.copy()
    behind[8:32, 4:6] = True
    beside[34:36, 8:22] = True
    assert table_side(body, behind) > 0.9
    assert table_side(body, beside) < 0.1
    assert table_side(body, body) is None


def test_an_unknown_modality_is_refused():
    with pytest.raises(ValueError, match=r"`modality` must be 'CT' or 'MR', got 'US'"):
        CheckPlausibled("image", "US")
