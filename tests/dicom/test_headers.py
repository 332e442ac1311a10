"""Headers are parsed once as long as their files do not change; whole ones are without bulk data."""

from __future__ import annotations

import os

import pytest
from pydicom import Dataset, dcmread

from common.dicom.headers import HeaderCache, read_header, stamp
from tests.helpers.dicom_files import change, counted_parsing, series


@pytest.fixture
def files(tmp_path):
    return sorted(series(tmp_path / "S1").iterdir())


def entry(path):
    return stamp(path), Dataset()


def test_a_header_that_is_kept_is_parsed_once_and_another_time_when_its_file_changed(files):
    with counted_parsing() as parsed:
        first = read_header(files[0], keep=True)
        assert read_header(files[0]) is first
        assert read_header(files[0].parent / ".." / "S1" / files[0].name) is first
    assert parsed == {str(files[0]): 1}
    change(files[0], SeriesNumber=4711)
    assert read_header(files[0]).SeriesNumber == 4711
    os.utime(files[1])  # not kept: parsed each time
    assert read_header(files[1]) is not read_header(files[1])


def test_a_whole_header_has_all_but_pixels_private_attributes_and_long_references(files):
    reference = Dataset()
    reference.ReferencedSOPInstanceUID = "1.2.3"
    change(files[0], SourceImageSequence=[reference])
    header, image = read_header(files[0], whole=True), dcmread(files[0])
    dropped = {"PixelData", "SourceImageSequence"}
    assert set(header.dir()) == set(image.dir()) - dropped
    assert not any(tag.is_private for tag in header.keys())  # noqa: SIM118, of a data set, not a dictionary
    assert "StudyDate" not in read_header(files[0])


def test_whole_headers_serve_those_who_need_less_and_not_the_other_way_round(files):
    cache = HeaderCache()
    cache.keep_found(files[0], *entry(files[0]))
    assert cache.get(files[0]) is not None
    assert cache.get(files[0], whole=True) is None
    cache.keep_series({files[0]: entry(files[0])})
    assert cache.get(files[0]) is cache.get(files[0], whole=True) is not None


def test_an_older_header_of_a_series_does_not_hide_the_newer_one_that_was_found(files):
    cache = HeaderCache()
    cache.keep_series({files[0]: entry(files[0])})
    change(files[0], SeriesDescription="another")
    assert cache.get(files[0]) is None
    cache.keep_found(files[0], *entry(files[0]))
    assert cache.get(files[0]) is not None


def test_what_is_kept_is_bounded(files):
    cache = HeaderCache(most=2, series=2)
    for path in files:
        cache.keep_found(path, *entry(path))
    assert [cache.get(path) is None for path in files] == [False, False, True, True]
    cache.keep_series({files[0]: entry(files[0])})
    cache.keep_found(files[2], *entry(files[2]))  # there is room again
    assert cache.get(files[2]) is not None
    for path in (files[1], files[1], files[3]):
        cache.keep_series({path: entry(path)})
    assert [cache.get(path, whole=True) is None for path in files] == [True, False, True, False]


def test_absent_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="absent' cannot be read as DICOM"):
        read_header(tmp_path / "absent")
    assert HeaderCache().get(tmp_path / "absent") is None
