"""Zips are unpacked below their folder and within their limits, or refused with the member's name."""

import stat
import zipfile

import pytest

from common.dicom.zip_files import unpack, unpacked


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_folders_and_files_come_out_as_they_went_in(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"P1/S1/IM1": b"one", "P1\\S2\\IM1": b"two", "P1/empty/": b""})
    folder = unpacked(archive)
    assert (folder / "P1" / "S1" / "IM1").read_bytes() == b"one"
    assert (folder / "P1" / "S2" / "IM1").read_bytes() == b"two"  # as Windows programs write paths


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "..\\evil", "/etc/evil", "C:/evil"])
def test_paths_out_of_the_folder_are_refused_and_nothing_is_written(tmp_path, name):
    archive = zipped(tmp_path / "a.zip", {"good": b"1", name: b"2"})
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"a\.zip' has a member (that leads out of its folder|with an absolute path)"):
        unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert not list(tmp_path.glob("evil*"))


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(ValueError, match="has a link, 'link': pack the files themselves"):
        unpacked(zipped(tmp_path / "a.zip", {link: b"/etc/passwd"}))


def test_too_much_is_refused_by_what_the_zip_says_and_by_what_comes_out(tmp_path):
    archive = zipped(tmp_path / "bomb.zip", {"zeros": bytes(100_000)})
    with pytest.raises(ValueError, match=r"unpacks to 0\.0001 GB, 1e-05 GB are allowed"):
        unpacked(archive, max_bytes=10_000)
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="has 2 files, at most 1 are unpacked"):
        unpack(zipped(tmp_path / "two.zip", {"a": b"", "b": b""}), tmp_path / "out", max_files=1)
    lying = archive.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (tmp_path / "lying.zip").write_bytes(lying)
    with pytest.raises(ValueError, match=r"lying\.zip"):
        unpacked(tmp_path / "lying.zip", max_bytes=10_000)


@pytest.mark.parametrize("content", [b"no zip", b"PK\x03\x04 broken"])
def test_a_damaged_zip_is_named(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip' cannot be unpacked \(.*\): pack it again, without encryption"):
        unpacked(tmp_path / "a.zip")


def test_a_damaged_member_and_doubled_names_are_refused(tmp_path):
    content = bytearray(zipped(tmp_path / "a.zip", {"member": b"some text " * 50}).read_bytes())
    content[40] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpacked(tmp_path / "a.zip")
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpacked(zipped(tmp_path / "b.zip", {"a": b"1", "a/b": b"2"}))
