"""From uploads to images."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from common.deploy.monailabel.images import check_cost, one_image, series_folders, unpack
from common.deploy.monailabel.limits import Limits

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


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path):
    small = Limits(max_unpacked_gb=999e-9, max_files=2)
    with pytest.raises(ValueError, match=r"The zip unpacks to 1e-06 GB"):
        unpack(archive(tmp_path / "a.zip", zeros=bytes(1000)), tmp_path / "in", small)
    with pytest.raises(ValueError, match="The zip has 3 files: give one series, at most 2"):
        unpack(archive(tmp_path / "b.zip", a=b"", b=b"", c=b""), tmp_path / "in", small)
    assert not (tmp_path / "in").exists()


def test_a_link_in_a_zip_becomes_a_file(tmp_path):
    member = zipfile.ZipInfo("link")
    member.external_attr = 0o120777 << 16  # a symbolic link, of Unix
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(member, "/etc")
    unpack(tmp_path / "a.zip", tmp_path / "in")
    assert (tmp_path / "in" / "link").is_file()
    assert not (tmp_path / "in" / "link").is_symlink()


def nifti(path: Path, shape: tuple[int, ...], *, offset: float = 352, content: bytes = b"", kind=nib.Nifti1Header):
    """A file whose header promises a shape, whatever its content."""
    header = kind()
    header.set_data_dtype(np.int16)
    header["dim"][: len(shape) + 1] = [len(shape), *shape]
    header["vox_offset"] = offset
    data = header.binaryblock + bytes(12) + content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_the_voxels_of_a_header_have_a_limit(tmp_path, name, kind):
    check_cost(nifti(tmp_path / name, (1000, 1000, 1000), kind=kind))
    with pytest.raises(ValueError, match=r"has 2e\+09 voxels by its header, this server reads at most 1e\+09"):
        check_cost(nifti(tmp_path / name, (1000, 1000, 1000, 1, 2), kind=kind))
    if kind is nib.Nifti1Header:
        with pytest.raises(ValueError, match="has its voxels at byte 1e"):
            check_cost(nifti(tmp_path / name, (4, 4, 4), offset=1e9))


def test_a_gzip_that_unpacks_to_more_than_the_limit_is_refused(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", (4, 4, 4), content=bytes(5_000_000))
    assert path.stat().st_size < 10_000
    check_cost(path, Limits(max_unpacked_gb=0.006))
    with pytest.raises(ValueError, match=r"'a.nii.gz' unpacks to more than 0.004 GB"):
        one_image(path, tmp_path, Limits(max_unpacked_gb=0.004))


def test_the_voxels_of_a_series_are_those_of_its_files_together(tmp_path):
    for number in range(3):
        slice_ = Dataset()
        slice_.Rows, slice_.Columns, slice_.NumberOfFrames = 100, 50, 2
        save(slice_, tmp_path / f"{number}.dcm", ExplicitVRLittleEndian)
    check_cost(tmp_path, Limits(max_voxels=30_000))
    check_cost(tmp_path / "0.dcm", Limits(max_voxels=10_000))
    with pytest.raises(ValueError, match=r"has 3e\+04 voxels by its header"):
        check_cost(tmp_path, Limits(max_voxels=29_999))
    with pytest.raises(ValueError, match=r"'0.dcm' has 1e\+04 voxels"):
        one_image(tmp_path / "0.dcm", tmp_path, Limits(max_voxels=9_999))


def test_a_deflated_dicom_file_has_a_limit(tmp_path):
    """pydicom unpacks all of it to read its first element."""
    bomb = Dataset()
    bomb.Rows = bomb.Columns = 4
    bomb.add_new(0x7FE00010, "OW", bytes(5_000_000))
    path = save(bomb, tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 10_000
    check_cost(path, Limits(max_unpacked_gb=0.007))
    with pytest.raises(ValueError, match=r"'a.dcm' unpacks to more than 0.004 GB"):
        check_cost(path, Limits(max_unpacked_gb=0.004))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.dcm"])
def test_what_is_damaged_is_left_to_its_reader(tmp_path, name):
    (tmp_path / name).write_bytes(MAGIC if name == "a.dcm" else b"words")
    check_cost(tmp_path / name)


def save(dataset: Dataset, path: Path, syntax: str) -> Path:
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


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
