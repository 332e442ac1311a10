"""Which files are DICOM, by content."""

import pytest
from pydicom import dcmread

from common.dicom import files
from common.dicom.files import dicom_files, is_dicom, require_pydicom

from .dicom_files import series


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
