"""Which files are DICOM, by content.

What says of itself that a network made it, whatever pydicom knows of the attribute.

Names of outputs never show the patient's name.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydicom import dcmread

from common.dicom import files
from common.dicom.files import (
    SYNTHETIC_DATA,
    checked_uid,
    dicom_files,
    is_dicom,
    is_synthetic,
    names_well,
    require_pydicom,
    safe_names,
    safe_patient,
)
from common.dicom.series import find_volumes
from tests.helpers.dicom_files import series


def test_names_and_extensions_tell_nothing_and_other_files_are_left_out(tmp_path):
    folder = series(tmp_path / "export" / "deep" / "S1")
    (folder / "0001").rename(folder / "scan.jpg")
    (folder / "0002").rename(folder.parent / "IM.1.2.3")
    (folder / "notes.dcm").write_text("no DICOM at all, whatever it is called")
    (folder / "empty.dcm").touch()
    (tmp_path / "export" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    found = dicom_files(tmp_path / "export")
    assert {path.name for path in found} == {"scan.jpg", "IM.1.2.3", "0003", "0004"}


@pytest.mark.parametrize("size", [0, 60, 128, 131])
def test_a_file_cut_off_at_its_start_is_not_overlooked(tmp_path, size):
    folder = series(tmp_path / "S1")
    (folder / "0001").write_bytes((folder / "0002").read_bytes()[:size])
    (folder / "notes.txt").touch()
    (folder / ".hidden").touch()
    assert len(dicom_files(folder)) == 4


@pytest.mark.parametrize("suffix", ["", ".dcm"])
@pytest.mark.parametrize("fault", ["overwritten", "link", "text"])
def test_a_damaged_or_missing_last_slice_is_not_overlooked(tmp_path, fault, suffix):
    """Its content does not say that it is DICOM any more; its name does."""
    folder = series(tmp_path / "S1")
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(f"IM{path.name}{suffix}"))
    last = folder / f"IM0004{suffix}"
    content = last.read_bytes()
    last.unlink()
    if fault == "link":
        last.symlink_to(tmp_path / "annex" / "nowhere")
    else:
        last.write_bytes(bytes(300) + content[300:] if fault == "overwritten" else b"see the other disk")
    (folder / "notes.txt").write_text("no slice")
    assert len(dicom_files(folder)) == 4
    found = find_volumes(dicom_files(folder))
    assert [path.name for path in found.damaged] == [last.name]
    assert [volume.damaged for volume in found.volumes] == [(last,)]


def test_a_file_that_cannot_be_opened_is_not_overlooked(tmp_path, monkeypatch):
    folder = series(tmp_path / "S1")
    opened = Path.open

    def refusing(self, *args, **options):
        if self.name == "0004":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *args, **options)

    monkeypatch.setattr(Path, "open", refusing)
    assert len(dicom_files(folder)) == 4


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    series(tmp_path / "S1")
    listed = os.scandir

    def refusing(path):
        if str(path).endswith("S1"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(
        ValueError, match=r"S1' cannot be listed \(Permission denied\): whatever it holds would be left"
    ):
        dicom_files(tmp_path)


def test_a_dicomdir_stands_for_the_files_of_its_folder(tmp_path):
    series(tmp_path / "IMAGES")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert len(dicom_files(tmp_path / "DICOMDIR")) == 4


def test_a_file_without_preamble_is_dicom(tmp_path):
    file = series(tmp_path / "S1") / "0001"
    image = dcmread(file)
    (tmp_path / "bare").write_bytes(file.read_bytes()[132:])  # from the file meta information on
    del image.file_meta
    image.save_as(tmp_path / "barer", implicit_vr=True, little_endian=True)
    assert is_dicom(tmp_path / "bare")
    assert is_dicom(tmp_path / "barer")


@pytest.mark.parametrize("content", [b"", b"\x08\x00", b"\x08\x00\xff\xff\xff\xff\xff\xff", b"\x89PNG\r\n\x1a\n"])
def test_other_content_is_not(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert not is_dicom(tmp_path / "file")
    assert not is_dicom(tmp_path / "absent")


def test_absent_pydicom_is_named_with_the_command_that_installs_it(monkeypatch):
    require_pydicom()
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs pydicom: `python -m pip install 'pydicom>=3'`, or give NIfTI files"):
        require_pydicom()


pydicom = pytest.importorskip("pydicom")


@pytest.mark.parametrize(
    ("representation", "value", "expected"),
    [("CS", "YES", True), ("CS", "NO", False), ("CS", "", False), ("UN", b"YES ", True), ("UN", b"NO", False)],
)
def test_the_attribute_is_read_by_its_number(representation, value, expected):
    """pydicom 2 has no name for it, and reads it as bytes (UN) where the file does not say what it is."""
    header = pydicom.Dataset()
    header.add_new(SYNTHETIC_DATA, representation, value)
    assert is_synthetic(header) is expected
    assert not is_synthetic(pydicom.Dataset())
    assert pydicom.datadict.keyword_for_tag(SYNTHETIC_DATA) in ("SyntheticData", "")


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


@pytest.mark.parametrize("uid", ["1.2.840.10008.1", "0", "2." + "9" * 62, "1.02.3"])
def test_a_uid_of_numbers_and_dots_passes(uid):
    assert checked_uid({"SeriesInstanceUID": uid}, "SeriesInstanceUID") == uid


@pytest.mark.parametrize(
    "uid",
    [
        *("../../ESCAPED/x", "/etc/passwd", "1.2/../3", "1..2", "..", ".", "", ".1", "1.", "1.2\n", "1.2\0", "1.2 "),
        *("anon", "1.\u0663", "1" * 65, "1\\2", None, ["1.2", "1.3"]),
    ],
)
def test_a_uid_that_is_none_is_refused(uid):
    with pytest.raises(ValueError, match="SeriesInstanceUID must be numbers separated by dots, of at most 64"):
        checked_uid({"SeriesInstanceUID": uid}, "SeriesInstanceUID")
