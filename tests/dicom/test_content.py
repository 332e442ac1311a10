"""What a header says, asked in one place."""

from __future__ import annotations

import json

import pytest

from common.dicom.content import agent_of, contrast_of, kernel_of, lossy, not_of_sequence, quantity, said, to_text

T1 = {"SeriesDescription": "t1_se_tra", "RepetitionTime": 500, "EchoTime": 12, "ScanningSequence": "SE"}


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (T1, None),
        ({}, None),
        ({"SeriesDescription": "head"}, None),
        ({"SeriesDescription": "t1_mprage_sag", "InversionTime": 900, "ScanningSequence": ["GR", "IR"]}, None),
        ({"SeriesDescription": "t1_flair"}, None),  # two words that do not decide
        ({"SeriesDescription": "t2_flair_tra", "InversionTime": 2500, "ScanningSequence": "IR"}, "FLAIR"),
        ({"SeriesDescription": "t2_tse"}, "T2"),
        ({"RepetitionTime": 4500, "EchoTime": 96, "ScanningSequence": "SE"}, "T2"),
        ({"AcquisitionContrast": "FLUID_ATTENUATED"}, "FLAIR"),
        ({"AcquisitionContrast": "T1"}, None),
        ({"AcquisitionContrast": "UNKNOWN"}, None),
        ({"AcquisitionContrast": "DIFFUSION"}, "'DIFFUSION' by its AcquisitionContrast is none of T1"),
        ({**T1, "ContrastBolusAgent": "Gadovist"}, "after contrast agent, by its header or description (Gadovist)"),
        ({**T1, "ContrastBolusAgent": "NONE"}, None),
        ({**T1, "SeriesDescription": "t1_se_tra_gd"}, "after contrast agent"),
        ({**T1, "ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "a phase image (ImageType P)"),
        ({**T1, "ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]}, "(ImageType DIFFUSION)"),
        ({**T1, "ImageType": ["DERIVED", "PRIMARY", "T1 MAP"]}, "a parametric map (ImageType T1 MAP)"),
        ({**T1, "ComplexImageComponent": "PHASE"}, "a phase image (ComplexImageComponent PHASE)"),
        ({**T1, "ImageType": ["ORIGINAL", "PRIMARY", "M", "SE"], "ComplexImageComponent": "MAGNITUDE"}, None),
        ({"SeriesDescription": "ep2d_diff_adc"}, "'diff' in its description"),
    ],
)
def test_what_certainly_is_no_plain_t1_has_its_reason(header, why):
    found = not_of_sequence(header, "T1")
    assert found is None if why is None else why in str(found)
    assert (not_of_sequence(said({"dicom_header": to_text(header)}), "T1") is None) is (why is None)


def test_a_text_carries_what_is_asked_for_and_nothing_else():
    header = {
        "PatientName": "Doe^Jane",
        "ConvolutionKernel": ["Br40d", "3"],
        "EchoTime": 12.0,
        "ContrastBolusAgent": "",
    }
    assert json.loads(to_text(header)) == {"ConvolutionKernel": ["Br40d", "3"], "EchoTime": "12.0"}
    assert kernel_of(said({"dicom_header": [to_text(header)]})) == ("Br40d", "")
    assert said({}) == {}


def test_an_agent_is_one_in_every_spelling():
    item = {"CodeMeaning": "Gadobutrol"}
    assert agent_of({"ContrastBolusAgentSequence": [item]}) == "Gadobutrol"
    assert agent_of({"ContrastBolusAgentSequence": [{}]}) == "unnamed"
    assert contrast_of({"ContrastBolusAgentSequence": [item]}) == ("CECT", "")
    assert {agent_of({"ContrastBolusAgent": text}) for text in ("", "none", "W/O", "nein", "N/A", None)} == {""}


def test_a_loss_is_told_with_its_ratio():
    assert lossy({"LossyImageCompression": "01", "LossyImageCompressionRatio": ["8", "12"]}).endswith("(ratio 8, 12)")
    assert lossy({"LossyImageCompression": "01"}) == "compressed with loss"
    assert lossy({"LossyImageCompression": "00"}) == lossy({}) == ""


def test_the_first_two_values_of_the_image_type_are_no_quantity():
    assert quantity({"ImageType": ["R", "P"]}) == ""
    assert quantity({"ImageType": "ORIGINAL"}) == ""
