"""A change is translated, not an image: what lies outside of the encoded range survives."""

from __future__ import annotations

import nibabel as nib
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ScaleIntensityRanged

from common.images import save_volume, target_name
from common.transforms import AddSourced, CheckHUd, ToChangeInHUd

RANGE = (-1024, 3071)


def converted(source: torch.Tensor, network) -> torch.Tensor:
    scale = ScaleIntensityRanged("image", *RANGE, -1.0, 1.0, clip=True)
    item = scale({"image": source.clone()}) | {"original": source}
    item["pred"] = network(item["image"])
    item = ToChangeInHUd("pred", "image", RANGE)(item)
    return AddSourced("pred", "original")(item)["pred"]


def test_an_identity_network_returns_its_source_exactly_even_metal_and_padding():
    source = torch.tensor([[[[-3024.0, -1024.0, -1000.0, 0.0, 57.0, 3071.0, 9000.0]]]])
    assert torch.equal(converted(source, lambda x: x), source)


def test_within_the_range_the_result_is_the_decoded_output_in_whole_hu():
    source = torch.tensor([[[[-1000.0, 0.0, 100.0]]]])
    output = torch.tensor([[[[-1.0, 0.1, 0.5]]]])
    expected = torch.tensor([[[[-1024.0, 1228.0, 2047.0]]]])  # -1024 + (x + 1) / 2 * 4095 = 1228.25, 2047.25
    assert torch.equal(converted(source, lambda _: output), expected)


def test_outputs_beyond_the_range_are_clipped_to_it():
    assert converted(torch.tensor([[[[0.0]]]]), lambda x: x + 7).item() == 3071


@pytest.mark.parametrize(("low", "high"), [(0, 1100), (-150, 900), (-1000, 65000)])
def test_what_is_not_in_hu_is_refused_with_the_file_and_the_cure(low, high):
    volume = MetaTensor(torch.tensor([[[[float(low), float(high)]]]]), meta={"filename_or_obj": "scan.nii"})
    with pytest.raises(ValueError, match=r"'scan.nii' is not a CT in HU.*Apply the rescale slope"):
        CheckHUd("image")({"image": volume})


def test_a_missing_offset_is_named_as_the_likely_cause_where_nothing_is_negative():
    with pytest.raises(ValueError, match="Without negative values the offset is most likely missing: water is then"):
        CheckHUd("image")({"image": torch.tensor([[[[0.0, 1024.0, 4095.0]]]])})
    with pytest.raises(ValueError, match="-1000\\. Apply the rescale"):
        CheckHUd("image")({"image": torch.tensor([[[[-150.0, 900.0]]]])})


def test_a_ct_passes():
    volume = torch.tensor([[[[-1000.0, 1500.0]]]])
    assert CheckHUd("image")({"image": volume})["image"] is volume


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 1), (1, 1, 1)])
def test_outputs_are_int16_volumes_that_name_their_target(tmp_path, shape):
    meta = {"filename_or_obj": str(tmp_path / "in" / "a.nii.gz"), "affine": torch.eye(4)}
    blend = {"B30f": 0.5, "B70f": 0.5}
    saver = save_volume(str(tmp_path / "out"), blend, data_root_dir=str(tmp_path / "in"), dtype="int16")
    saved = saver({"pred": MetaTensor(torch.full((1, *shape), -1000.0), meta=meta)})["pred"].meta["saved_to"]
    assert saved == str(tmp_path / "out" / "a_synthetic_0.5B30f+0.5B70f.nii.gz")
    image = nib.load(saved)
    assert image.get_data_dtype() == "int16"
    assert image.shape == shape
    assert (image.get_fdata() == -1000).all()
    assert target_name("B70f") == "B70f"
