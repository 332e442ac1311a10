"""Names of outputs never show the patient's name."""

from pathlib import Path

import pytest

from common.dicom.files import names_well, safe_names, safe_patient

DOE = {"PatientID": "P7", "PatientName": "Doe^Jane", "SeriesNumber": 0}


@pytest.mark.parametrize("patient", ["Doe^Jane", "JANE70", "1970-doe"])
def test_an_id_with_a_part_of_the_name_becomes_a_number(patient):
    name = safe_patient({**DOE, "PatientID": patient})
    assert name.startswith("patient-")
    assert "doe" not in name.lower()
    assert "jane" not in name.lower()


@pytest.mark.parametrize(
    ("patient", "name"), [("../../etc", "etc"), ("a b\\c:d", "a-b-c-d"), ("", "anonymous"), ("Ä*?", "anonymous")]
)
def test_only_letters_digits_and_lines_remain(patient, name):
    assert safe_patient({**DOE, "PatientID": patient}) == name


def test_a_pseudonym_that_is_both_name_and_id_is_kept():
    assert safe_patient({"PatientID": "STS_019", "PatientName": "STS_019"}) == "STS_019"


def test_series_number_zero_is_a_number():
    assert safe_names([DOE]) == ["P7_0"]


@pytest.mark.parametrize(
    ("name", "well"), [("case7", True), ("1.2.840.1", False), ("DOE_JANE", False), ("a b", False), ("S1_T2-w", True)]
)
def test_folder_names_with_dots_blanks_or_the_patient_are_no_names_for_outputs(name, well):
    assert names_well(Path(name), DOE) is well
