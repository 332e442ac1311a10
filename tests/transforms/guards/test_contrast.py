"""MR given to a CT bundle, and the reverse, by headers and by values; and a contrast agent in a header."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from common.dicom import image_readers
from common.dicom.content import to_text
from common.transforms import CheckModalityd, CheckNoContrastAgentd
from tests.helpers.shared import needs_shared, shared


def image(values: torch.Tensor | None = None, **meta: str) -> dict[str, MetaTensor]:
    voxels = torch.full((1, 4, 4, 4), 40.0) if values is None else values
    return {"image": MetaTensor(voxels, meta={"filename_or_obj": "scan.nii", **meta})}


@pytest.mark.parametrize(("modality", "other", "article"), [("CT", "MR", "a CT"), ("MR", "CT", "an MR")])
def test_a_header_of_the_other_modality_is_refused_and_the_own_one_passes(modality, other, article):
    check = CheckModalityd("image", modality)
    check(image(modality=modality))
    with pytest.raises(ValueError, match=f"'scan.nii' is {other} by its DICOM header, .* give {article} series."):
        check(image(modality=other))


def test_a_ct_in_hu_without_header_is_refused_as_mr():
    values = torch.full((1, 10, 10, 10), 40.0)
    values[:, :2] = -1000
    with pytest.raises(ValueError, match=r"'scan.nii' is a CT by its values, of which 20% lie below -500"):
        CheckModalityd("image", "MR")(image(values))
    CheckModalityd("image", "CT")(image(values))


def test_normalised_mr_passes():
    torch.manual_seed(0)
    CheckModalityd("image", "MR")(image(torch.randn(1, 16, 16, 4)))


@needs_shared("data")
def test_real_volumes_are_told_apart():
    load = LoadImage(reader=image_readers(), ensure_channel_first=True)
    brain, scan = (
        load(next(shared("data", kind).glob(name)))
        for kind, name in (("brain_mri", "*_T1.nii.gz"), ("abdomen_ct", "*noncontrast*"))
    )
    CheckModalityd("image", "MR")({"image": brain})
    with pytest.raises(ValueError, match="is a CT by its values"):
        CheckModalityd("image", "MR")({"image": scan})


def test_an_unknown_modality_is_refused():
    with pytest.raises(ValueError, match=r"`modality` must be 'CT' or 'MR', got 'PET'."):
        CheckModalityd("image", "PET")


def test_a_contrast_agent_in_the_header_is_warned_of(caplog):
    check = CheckNoContrastAgentd("image")
    check(image())
    assert caplog.text == ""
    check(image(contrast_agent="Iomeprol"))
    assert "'scan.nii': its DICOM header names the contrast agent 'Iomeprol'" in caplog.text


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"ContrastBolusAgent": "NONE", "SeriesDescription": "Abdomen nativ"}, None),
        ({"SeriesDescription": "Abdomen portal venous"}, "names no contrast agent, but its description says 'portal"),
        ({"ContrastBolusAgent": "Iomeprol"}, "names the contrast agent 'Iomeprol', but an image without"),
        ({"ContrastBolusAgent": "Gastrografin", "ContrastBolusRoute": "ORAL"}, "by the route 'ORAL'"),
    ],
)
def test_a_check_of_the_agent_knows_what_the_datalist_knows(caplog, header, words):
    CheckNoContrastAgentd("image")(image(dicom_header=to_text(header)))
    assert words in caplog.text if words else caplog.text == ""


@pytest.mark.parametrize(
    ("modality", "header", "words"),
    [
        ("MR", {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "a phase image .* give the magnitude series"),
        ("MR", {"ImageType": ["DERIVED", "PRIMARY", "ADC"]}, "a map of diffusion .* not a plain MR image"),
        ("CT", {"ImageType": ["DERIVED", "SECONDARY", "SUBTRACTION"]}, "a subtraction .* give the original series"),
    ],
)
def test_values_that_are_no_plain_image_are_refused_by_the_header(modality, header, words):
    with pytest.raises(ValueError, match=words):
        CheckModalityd("image", modality)(image(modality=modality, dicom_header=to_text(header)))


def test_a_lossy_source_is_told(caplog):
    header = to_text({"LossyImageCompression": "01", "LossyImageCompressionRatio": "10"})
    CheckModalityd("image", "CT")(image(modality="CT", dicom_header=header))
    assert "'scan.nii' was compressed with loss (ratio 10), by its DICOM header" in caplog.text
