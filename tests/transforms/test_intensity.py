"""A change is translated, not an image: what lies outside of the encoded range survives.

Grey values of micro CT on the scale of HU: both modalities are encoded alike.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, ScaleIntensityRanged
from scipy.ndimage import gaussian_filter

from common.images import save_volume, target_name
from common.transforms import AddSourced, CheckHUd, GreyToHUd, ToChangeInHUd, grey_levels
from tests.helpers.shared import needs_shared, shared

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


@pytest.mark.parametrize(
    ("low", "high", "cure"),
    [
        (0, 1100, "the offset is most likely missing: water is then near 1024 or 1000 .* Apply the rescale slope"),
        (24, 4095, "Apply the rescale slope and intercept of its DICOM header"),
        (0, 1, "scaled to a range such as .* the HU cannot be restored: give the original series"),
        (0, 0.434921, "scaled to a range"),
        (0, 255, "grey values, as for a network or a display"),
        (-1, 1, "no rescaling restores them"),
        (-175, 250, "clipped to a window, in which air and lung are lost, .* give the original series"),
        (-1000, 65000, "do not fit 16 bits: padding that was read as unsigned"),
    ],
)
def test_what_is_not_in_hu_is_refused_with_the_file_and_the_cure_that_fits(low, high, cure):
    volume = MetaTensor(torch.tensor([[[[float(low), float(high)]]]]), meta={"filename_or_obj": "scan.nii"})
    with pytest.raises(ValueError, match=rf"'scan.nii' is not a CT in HU: its values run from .*{cure}"):
        CheckHUd("image")({"image": volume})


def test_an_mr_from_dicom_is_called_so():
    volume = MetaTensor(torch.tensor([[[[0.0, 900.0]]]]), meta={"modality": "MR"})
    with pytest.raises(ValueError, match=r"but air is near -1000\. It is MR by its DICOM header: give a CT series\."):
        CheckHUd("image")({"image": volume})


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


ENCODE = ScaleIntensityRanged("image", -1200.0, 400.0, -1.0, 1.0, clip=True)


def occupancy(seed, shape=(96, 96, 8), tissue=0.35):
    """Share of tissue in each voxel: thin walls and some full vessels, as in lung."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    return np.clip(gaussian_filter((noise > np.quantile(noise, 1 - tissue)).astype(float), 1), 0, 1)


def test_air_and_tissue_are_encoded_alike_in_both_modalities():
    share = torch.tensor(occupancy(0)[None])
    clinical = ENCODE({"image": -1000 + 1045 * share})["image"]
    micro = Compose([GreyToHUd("image", grey_levels=(9000, 26000)), ENCODE])({"image": 9000 + 17000 * share})["image"]
    torch.testing.assert_close(micro, clinical, rtol=0, atol=1e-5, check_dtype=False)
    ends = ENCODE({"image": torch.tensor([-1000.0, 45.0])})["image"]
    torch.testing.assert_close(torch.as_tensor(ends), torch.tensor([-0.75, 0.55625]))  # as the docstring says


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_come_close_to_the_grey_values_of_air_and_tissue(seed):
    rng = np.random.default_rng(seed)
    volume = 9000 + 17000 * occupancy(seed) + 900 * rng.normal(size=(96, 96, 8))
    air, tissue = grey_levels(volume)
    assert abs(air - 9000) < 0.1 * 17000
    assert abs(tissue - 26000) < 0.1 * 17000


def test_the_scale_does_not_matter_without_given_levels():
    volume = torch.tensor(occupancy(1)[None])
    first, second = (GreyToHUd("image")({"image": a * volume + b})["image"] for a, b in ((1.0, 0.0), (300.0, -70.0)))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


def test_meta_data_stay():
    affine = torch.diag(torch.tensor([0.078, 0.078, 0.078, 1.0]))
    image = MetaTensor(torch.rand(1, 8, 8, 4), affine=affine)
    output = GreyToHUd("image", grey_levels=(0, 1))({"image": image})["image"]
    torch.testing.assert_close(output.affine, image.affine)
    torch.testing.assert_close(output.as_tensor(), -1000 + 1045 * image.as_tensor())


def test_errors():
    with pytest.raises(ValueError, match=r"`grey_levels` must be the grey values of air and of tissue, .* \[5, 5\]\."):
        GreyToHUd("image", grey_levels=(5, 5))
    image = MetaTensor(torch.full((1, 8, 8, 4), 7.0), meta={"filename_or_obj": "/data/micro.nii"})
    message = r"'/data/micro\.nii' shows no difference .* 5th and 99th percentile are both 7\. Give their grey values"
    with pytest.raises(ValueError, match=message):
        GreyToHUd("image")({"image": image})


@needs_shared("data", "microct")
def test_a_real_micro_ct_without_hu():
    item = {"image": shared("data", "microct", "seg3d_tooth.nii.gz")}
    load = Compose([LoadImaged("image", image_only=True, ensure_channel_first=True), GreyToHUd("image"), ENCODE])
    encoded = load(item)["image"]
    assert encoded.shape == (1, 103, 94, 161)
    assert encoded.isfinite().all()
    assert float(encoded.min()) >= -1
    assert float((encoded > 0.5).float().mean()) > 0.01


def test_padding_is_no_air_that_proves_a_volume_to_be_in_hu():
    raw = torch.full((1, 8, 8, 2), 1024.0)  # water without its offset
    raw[:, :2] = -3024
    with pytest.raises(ValueError, match=r"is not a CT in HU: its values run from 1024 to 1024"):
        CheckHUd("image")({"image": raw})
    raw[0, 4, 4, 0] = -900
    CheckHUd("image")({"image": raw})
