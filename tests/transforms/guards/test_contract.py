from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacingd

from common.transforms import EnsurePredictiond, EnsureVolumed, Guards, check_encoded

AFFINE = np.diag([0.7, 0.7, 5.0, 1.0])


def scan(*shape: int) -> torch.Tensor:
    return torch.randint(-1000, 500, shape, generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize(
    ("shape", "channel"),
    [((6, 5, 4), None), ((6, 5, 4), "no_channel"), ((6, 5, 4), float("nan")), ((1, 6, 5, 4), 0), ((6, 5, 4, 1), -1)],
)
def test_the_channel_comes_first_wherever_it_was(shape, channel):
    values = scan(6, 5, 4)
    volume = MetaTensor(values.reshape(shape), affine=AFFINE, meta={"original_channel_dim": channel})
    found = EnsureVolumed("image", hu=True)({"image": volume})["image"]
    assert torch.equal(found.as_tensor(), values[None])
    np.testing.assert_array_equal(found.affine, AFFINE)
    np.testing.assert_array_equal(found.meta["original_affine"], AFFINE)
    assert found.meta["spatial_shape"].tolist() == [6, 5, 4]
    assert found.meta["original_channel_dim"] == 0
    assert "spatial_shape" not in volume.meta


def test_what_the_meta_data_say_is_kept():
    meta = {"original_affine": np.eye(4), "filename_or_obj": "a.nii", "spatial_shape": np.array([6, 5, 4])}
    volume = MetaTensor(scan(1, 6, 5, 4).short(), affine=np.eye(4), meta=meta)
    found = EnsureVolumed("image", hu=True)({"image": volume})["image"]
    assert found.dtype == torch.int16
    assert found.meta["filename_or_obj"] == "a.nii"
    assert found.data_ptr() == volume.data_ptr()  # a view of the disk stays one


@pytest.mark.parametrize("hu", [True, False])
@pytest.mark.parametrize(
    "value",
    [scan(6, 5, 4), scan(6, 5, 4).numpy(), MetaTensor(scan(6, 5, 4)), MetaTensor(scan(6, 5, 4), affine=np.eye(4))],
)
def test_a_volume_without_a_place_is_refused(value, hu):
    with pytest.raises(ValueError, match=r"`image` must say where its voxels lie, got a \w+ of shape \[6, 5, 4\]"):
        EnsureVolumed("image", hu=hu)({"image": value})


@pytest.mark.parametrize(
    ("values", "hu", "words"),
    [
        (scan(6, 5, 4) / 1000, True, "is not a CT in HU"),
        (scan(6, 5, 4) + 1024, True, "offset is most likely missing"),
        (scan(2, 6, 5, 4), False, "has 2 channels"),
        (scan(6, 5), False, "has 1 dimensions"),
        (torch.full((6, 5, 4), float("nan")), False, "NaN or infinite"),
    ],
)
def test_what_the_loader_refuses_in_a_file_is_refused_in_memory(values, hu, words):
    with pytest.raises(ValueError, match=words):
        EnsureVolumed("image", hu=hu)({"image": MetaTensor(values, affine=AFFINE)})


def test_unsigned_numbers_as_of_dicom_are_taken():
    volume = MetaTensor(torch.arange(120).reshape(6, 5, 4).to(torch.uint16), affine=AFFINE)
    assert EnsureVolumed("image", hu=False)({"image": volume})["image"].max() == 119


def test_a_request_cannot_ask_for_what_the_config_does_not_do():
    ensure = EnsureVolumed("image", hu=True, settings={"target": "B30f", "source": None})
    volume = MetaTensor(scan(6, 5, 4), affine=AFFINE)
    assert ensure({"image": volume, "target": "B30f", "device": "cpu"})["image"].dim() == 4
    with pytest.raises(ValueError, match=r"`target` is 'B30f' by the bundle's config.* got 'B70f'"):
        ensure({"image": volume, "target": "B70f"})


def test_texts_beside_an_image_survive_resampling():
    """MONAI Label's `image_path`, which MONAI 1.6 takes for the image's meta data."""
    meta = {"filename_or_obj": "a.nii.gz"}
    item = {"image": MetaTensor(scan(6, 5, 4), affine=AFFINE, meta=meta), "image_path": "a.nii.gz"}
    spaced = Spacingd("image", [1.4, 1.4, -1])(EnsureVolumed("image", hu=True)(item))
    assert spaced["image"].shape[1:3] != (6, 5)
    assert spaced["image_path"] == "a.nii.gz"


def test_an_affine_in_metres_is_refused():
    with pytest.raises(ValueError, match="mm large by its header"):
        EnsureVolumed("image", hu=True)({"image": MetaTensor(scan(6, 5, 4), affine=np.diag([700, 700, 5000, 1.0]))})


def test_a_decoded_prediction_is_refused_and_an_overshooting_one_is_not():
    image = MetaTensor(scan(1, 6, 5, 4) / 1000, affine=AFFINE)
    image.applied_operations.append({"class": "Orientation"})
    ensure = EnsurePredictiond("pred", "image")
    assert ensure({"pred": image * 1.5, "image": image})["pred"].device.type == "cpu"
    for wrong in (image * 1000, torch.full_like(image, float("nan"))):
        with pytest.raises(ValueError, match=r"must be a network's output near \[-1, 1\]"):
            ensure({"pred": wrong, "image": image})


def test_an_image_that_the_guards_have_seen_needs_no_spatial_step():
    """As of an overlay whose `encode` only scales."""
    image = MetaTensor(scan(1, 6, 5, 4) / 1000, affine=AFFINE)
    ensure = EnsurePredictiond("pred", "image")
    with pytest.raises(ValueError, match="must be what `preprocessing` returned"):
        ensure({"pred": image, "image": image})
    seen = Guards({"nothing": lambda item: item})({"image": image})["image"]
    assert ensure({"pred": seen, "image": seen})["pred"] is not None


def test_rounding_passes_as_encoded():
    check_encoded(torch.tensor([-1.0000001, 1.0000001]))
    with pytest.raises(ValueError, match="got values from nan to nan"):
        check_encoded(torch.tensor([0.0, float("nan")]))
