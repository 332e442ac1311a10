"""The series that a derived one refers to: its order, its grid, and what is refused."""

from __future__ import annotations

import logging
import re

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from common.bundles import KERNEL_CONVERSION
from common.dicom import image_readers, source_files
from common.dicom.derived.headers import Derivation
from common.dicom.derived.rules import RULES
from common.dicom.derived.series import write_derived_series
from common.dicom.derived.source import read_source_series
from tests.helpers.dicom_files import change, change_all, counted_parsing
from tests.helpers.dicom_series import write_source_series

SHAPE = (7, 5, 4)  # columns, rows, slices
HU = np.random.default_rng(0).integers(-1024, 3071, SHAPE).astype(np.int16)
AFFINE = np.eye(4)
AFFINE[:3, :3] = nib.eulerangles.euler2mat(0.3, -0.2, 0.1) @ np.diag([-0.7, -0.9, 2.5])  # oblique, anisotropic
AFFINE[:3, 3] = [11.25, -32.5, 101.75]
TURNED_OVER = AFFINE @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, SHAPE[2] - 1], [0, 0, 0, 1]]


@pytest.fixture
def folder(tmp_path):
    """Four slices in the files `0004` (the lowest, InstanceNumber 1) to `0001`."""
    return write_source_series(tmp_path / "source", HU, AFFINE)


def number(folder, numbers):
    """Give the slices, from the lowest on, other InstanceNumbers."""
    change_all(folder, lambda index, _: {"InstanceNumber": numbers[index]})


@pytest.mark.parametrize(
    ("numbers", "affine", "order"),
    [
        ([1, 2, 3, 4], AFFINE, [1, 2, 3, 4]),
        ([8, 6, 3, 1], TURNED_OVER, [1, 3, 6, 8]),  # numbered from the head down: written in this order
        ([7, 2, 9, 4], AFFINE, [7, 2, 9, 4]),  # in the order of acquisition, say: the order in space counts
        ([5, 5, 5, 5], AFFINE, [5, 5, 5, 5]),
    ],
)
def test_slices_stand_in_the_order_of_their_numbers_if_that_is_one_in_space(folder, numbers, affine, order):
    number(folder, numbers)
    source = read_source_series(folder)
    assert [int(header.InstanceNumber) for header in source.headers] == order
    np.testing.assert_allclose(source.affine, affine, atol=1e-6)
    assert (source.shape, source.modality) == (SHAPE, "CT")


@pytest.mark.parametrize("numbers", [[1, 2, 3, 4], [8, 6, 3, 1], [7, 2, 9, 4]])
def test_values_come_to_the_slices_where_they_belong_whatever_the_numbers(folder, tmp_path, numbers):
    number(folder, numbers)
    derivation = Derivation("ggcl", "0.1.0", "ab" * 32, "B70f")
    source = read_source_series(folder)
    made = {"source": source, "derivation": derivation, "rule": RULES[KERNEL_CONVERSION]}
    paths = write_derived_series(HU, AFFINE, output_dir=tmp_path / "out", **made)
    images = [dcmread(path) for path in paths]
    assert [image.InstanceNumber for image in images] == [header.InstanceNumber for header in source.headers]
    assert {int(image.InstanceNumber) for image in images} == set(numbers)
    for image in images:
        index = numbers.index(int(image.InstanceNumber))
        np.testing.assert_array_equal(image.pixel_array, HU[:, :, index].T)


def test_headers_that_were_read_with_the_pixels_are_not_parsed_again(folder):
    reader = image_readers()[0]
    with counted_parsing() as parsed:
        _, meta = reader.get_data(reader.read(folder))
        for _ in range(2):
            source = read_source_series(source_files(meta))
    assert parsed == dict.fromkeys(map(str, folder.iterdir()), 2)
    assert source.headers[0].StudyDate == "20200102"  # which the reader has no use for
    np.testing.assert_allclose(source.affine, meta["affine"], atol=1e-9)
    change(folder / "0003", StudyDate="20210102")
    with counted_parsing() as parsed:
        assert read_source_series(source_files(meta)).headers[1].StudyDate == "20210102"
    assert parsed == {str(folder / "0003"): 1}


def test_files_without_a_preamble_belong_to_the_series(folder):
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])  # from the file meta information on
    assert read_source_series(folder).shape == SHAPE


def test_a_leaning_stack_can_be_derived_from(folder):
    lean = np.array([0, 0.5, 0])

    def shifted(index, image):
        return {"ImagePositionPatient": [float(f"{mm:.9g}") for mm in image.ImagePositionPatient + index * lean]}

    change_all(folder, shifted)
    source = read_source_series(folder)
    expected = AFFINE.copy()
    expected[:3, 2] += lean * [-1, -1, 1]
    np.testing.assert_allclose(source.affine, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"SeriesInstanceUID": "1.2.3"}, "0003 and 0001 differ in SeriesInstanceUID: give the files of one series"),
        ({"PixelSpacing": [1, 1]}, r"0003 and 0001 differ in pixel spacing \(1\\1 mm, 0.9\\0.7 mm\)"),
        ({"ImagePositionPatient": [0, 0, 0]}, "The source series 3 lacks 40 of its 44 slices"),
        ({"FrameOfReferenceUID": ""}, "0003 lacks FrameOfReferenceUID: it cannot be placed in space"),
        ({"InstanceNumber": ""}, "0003 lacks InstanceNumber"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}, "got the SOP class 'Enhanced CT Image Storage'"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "The source series 3 lacks 1 of its 4 slices"),
    ],
)
def test_a_source_that_is_no_even_series_is_refused(folder, attributes, message):
    change(folder / "0003", **attributes)
    with pytest.raises(ValueError, match=message):
        read_source_series(folder)


def test_a_missing_slice_is_noticed(folder):
    (folder / "0002").unlink()
    with pytest.raises(ValueError, match="The source series 3 lacks 1 of its 4 slices"):
        read_source_series(folder)


@pytest.mark.parametrize("name", ["0001", "0002", "0004"])
@pytest.mark.parametrize("content", [b"", bytes(128) + b"DICM", b"no DICOM"])
def test_a_damaged_slice_is_named_wherever_it_lies(folder, name, content):
    (folder / name).write_bytes(content)
    for source in (folder, sorted(folder.iterdir())):
        with pytest.raises(ValueError, match=f"{name}' cannot be read as DICOM"):
            read_source_series(source)


def test_other_files_in_the_folder_are_passed_over(folder):
    (folder / "notes.txt").write_text("none of DICOM")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert read_source_series(folder).shape == SHAPE


def scout(folder, name="0000", **more):
    """A localizer that bears the series' own UID, as some scanners export it."""
    (folder / name).write_bytes((folder / "0001").read_bytes())
    given = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SOPInstanceUID": generate_uid(), **more}
    change(folder / name, **given)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, r"a localizer \(ImageType LOCALIZER\)"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "Secondary Capture Image Storage, no CT or MR image"),
        (
            {"ImageType": ["DERIVED"], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
            "a localizer by its geometry, which lies across the 4 slices of its study",
        ),
    ],
)
def test_what_is_no_part_of_the_volume_is_left_out_and_told(folder, caplog, attributes, reason):
    caplog.set_level(logging.INFO)
    expected = read_source_series(folder)
    scout(folder, **attributes)
    source = read_source_series(folder)
    assert [header.SOPInstanceUID for header in source.headers] == [
        header.SOPInstanceUID for header in expected.headers
    ]
    np.testing.assert_array_equal(source.affine, expected.affine)
    assert re.search(f"Skipped 0000: {reason}.", caplog.text)


def test_a_series_of_localizers_is_refused_with_the_reason(folder):
    change_all(folder, lambda *_: {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    reason = r"holds no volume to translate: 4 of its files: a localizer \(ImageType LOCALIZER\)\."
    with pytest.raises(ValueError, match=reason):
        read_source_series(folder)


def test_a_folder_without_dicom_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`source` .* holds no DICOM file"):
        read_source_series(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"`source` \(a list\) holds no DICOM file"):
        read_source_series([])
