"""From uploads to images."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from common.deploy.monailabel.images import one_image, series_folders, unpack

MAGIC = bytes(128) + b"DICM"  # PS3.10, section 7.1


def dicom(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(MAGIC)
    return path


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_nifti_and_dicom_files_are_images_as_they_are(tmp_path):
    assert one_image(tmp_path / "a.NII.gz", tmp_path) == tmp_path / "a.NII.gz"
    assert one_image(dicom(tmp_path / "IM0001"), tmp_path) == tmp_path / "IM0001"


def test_a_folder_stands_for_the_one_series_in_it(tmp_path):
    series = dicom(tmp_path / "study" / "series" / "1.dcm").parent
    assert one_image(tmp_path, tmp_path) == series
    dicom(tmp_path / "study" / "scout" / "1.dcm")
    with pytest.raises(ValueError, match=r"must hold one DICOM series, it has 2 \(scout, series\)"):
        one_image(tmp_path, tmp_path)


def test_a_zip_stands_for_the_one_series_in_it(tmp_path):
    upload = archive(tmp_path / "upload.zip", **{"study/1.dcm": MAGIC, "study/readme.txt": b"words"})
    assert one_image(upload, tmp_path / "scratch") == tmp_path / "scratch" / "study"
    with pytest.raises(ValueError, match="must hold one DICOM series, it has 0"):
        one_image(archive(tmp_path / "words.zip", words=b"words"), tmp_path / "other")


@pytest.mark.parametrize("name", ["words.txt", "picture.png", "words.zip", "absent.dcm"])
def test_what_is_no_image_is_refused(tmp_path, name):
    if name != "absent.dcm":
        (tmp_path / name).write_bytes(b"words")
    with pytest.raises(ValueError, match="is not an image that a bundle reads: give NIfTI"):
        one_image(tmp_path / name, tmp_path)


def test_a_zip_stays_below_its_folder(tmp_path):
    unpack(archive(tmp_path / "a.zip", **{"../../out.dcm": MAGIC, "/root.dcm": MAGIC}), tmp_path / "in" / "deep")
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.dcm")}
    assert found == {"in/deep/out.dcm", "in/deep/root.dcm"}


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("common.deploy.monailabel.images.MAX_UNPACKED_BYTES", 999)
    with pytest.raises(ValueError, match=r"The zip unpacks to 1e-06 GB"):
        unpack(archive(tmp_path / "a.zip", zeros=bytes(1000)), tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_a_damaged_zip_is_refused(tmp_path):
    path = archive(tmp_path / "a.zip", **{"1.dcm": MAGIC})
    path.write_bytes(path.read_bytes().replace(b"DICM", b"XXXX"))  # the checksum is of the original
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpack(path, tmp_path / "in")


def test_series_folders_are_found_at_any_depth_but_where_they_are_left_out(tmp_path):
    for name in ("a", "b/c", "labels/d"):
        dicom(tmp_path / name / "1.dcm")
    found = series_folders(tmp_path, leave_out=[tmp_path / "labels"])
    assert found == [tmp_path / "a", tmp_path / "b" / "c"]
