"""Pixels that resampling cannot mend, and a CT whose air is not at -1000 HU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from common.transforms import CheckAird, CheckResampledd

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="real data (../shared/data) are not there")


def image(values: torch.Tensor, pixel_mm: float = 1.0) -> dict[str, MetaTensor]:
    affine = torch.diag(torch.tensor([pixel_mm, pixel_mm, 5.0, 1.0], dtype=torch.float64))
    return {"image": MetaTensor(values, affine=affine, meta={"filename_or_obj": "scan.nii"})}


@pytest.mark.parametrize(("pixel_mm", "alarm"), [(0.2, False), (1.0, False), (2.4, False), (2.6, True), (0.05, True)])
def test_pixels_far_from_those_in_training_are_warned_of(pixel_mm, alarm, caplog):
    CheckResampledd("image", [1.0, 1.0])(image(torch.zeros(1, 4, 4, 2), pixel_mm))
    assert (f"'scan.nii' has axial pixels of {pixel_mm:.3g} x {pixel_mm:.3g} mm" in caplog.text) is alarm
    assert bool(caplog.text) is alarm


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"`pixel_mm` must be 2 positive numbers in mm, got"):
        CheckResampledd("image", [1.0])
    with pytest.raises(ValueError, match=r"`finest` must be < 1 and `coarsest` > 1, got 0.1 and 0.5."):
        CheckResampledd("image", [1.0, 1.0], coarsest=0.5)


def test_a_lost_offset_is_warned_of_and_padding_does_not_hide_it(caplog):
    torch.manual_seed(0)
    scan = torch.where(torch.rand(1, 20, 20, 5) < 0.3, -1000.0, 40.0)
    CheckAird("image")(image(scan))
    assert caplog.text == ""
    shifted = scan + 300  # air at -700
    shifted[:, :3] = -2000
    CheckAird("image")(image(shifted))
    assert "'scan.nii': nothing in it is darker than -700 HU, but air has -1000 HU." in caplog.text


@needs_data
@pytest.mark.parametrize("kind", ["abdomen_ct", "chest_ct", "kernel_pair_ct"])
def test_real_ct_raises_no_alarm(kind, caplog):
    for path in sorted(p for p in (SHARED / kind).glob("*.nii.gz") if "_seg_" not in p.name):
        volume = LoadImage(reader="NibabelReader", ensure_channel_first=True)(path)
        caplog.clear()  # of what MONAI says in loading
        CheckAird("image")({"image": volume})
        CheckResampledd("image", [1.3333, 1.3333])({"image": volume})
        assert caplog.text == ""
