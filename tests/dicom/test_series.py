"""Volumes among files: grouped by series and by what makes one volume; what is none is skipped with its reason."""

import logging
import shutil

import numpy as np
import pytest
from pydicom.uid import EnhancedSRStorage, generate_uid

from common.dicom.files import dicom_files
from common.dicom.series import find_volumes
from tests.helpers.dicom_files import AFFINE, HU, change, change_all, series, write_enhanced


def found(folder):
    return find_volumes(dicom_files(folder))


def test_series_in_one_folder_are_told_apart(tmp_path):
    one, other = (
        series(tmp_path / "a"),
        series(tmp_path / "b", modality="MR", SeriesDescription="t1 tra", PatientID="Q"),
    )
    for file in other.iterdir():
        file.rename(one / f"x{file.name}")
    volumes = found(tmp_path).volumes
    assert [str(volume) for volume in volumes] == [
        "series 3 'source', CT, patient P1, 4 slices",
        "series 3 't1 tra', MR, patient Q, 4 slices",
    ]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, r"a localizer (ImageType LOCALIZER)"),
        ({"SeriesDescription": "AAHead_Scout"}, "a localizer (SeriesDescription has 'Scout')"),
        ({"SOPClassUID": EnhancedSRStorage}, "Enhanced SR Storage, no CT or MR image"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67"}, "X-Ray Radiation Dose SR Storage, no CT or MR image"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "Secondary Capture Image Storage, no CT or MR image"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3"}, "RT Structure Set Storage, no CT or MR image"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a picture of a screen or a dose report"),
        ({"SyntheticData": "YES"}, "synthetic: the output of a network (SyntheticData)"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "a colour image (RGB)"),
    ],
)
def test_what_is_no_volume_is_skipped_with_its_reason(tmp_path, caplog, attributes, reason):
    series(tmp_path / "S1")
    other = series(tmp_path / "S2", HU[:, :, :2])
    change_all(other, lambda *_: attributes)
    result = found(tmp_path)
    assert [len(volume.slices) for volume in result.volumes] == [4]
    with caplog.at_level(logging.INFO):
        result.log()
    assert f"Skipped 0001, 0002: {reason}" in caplog.text


@pytest.mark.parametrize(
    ("name", "values", "modality"),
    [
        ("EchoTime", ["12", "96"], "MR"),
        ("TemporalPositionIdentifier", [1, 2], "MR"),
        ("TriggerTime", ["0", "40"], "MR"),
        ("AcquisitionNumber", [1, 2], "CT"),
    ],
)
def test_slices_at_the_same_places_are_told_apart_by_what_differs(tmp_path, caplog, name, values, modality):
    uid = generate_uid()
    for number, value in enumerate(values):
        series(tmp_path / str(number), modality=modality, SeriesInstanceUID=uid, **{name: value})
    volumes = found(tmp_path).volumes
    assert [len(volume.slices) for volume in volumes] == [4, 4]
    assert [volume.apart for volume in volumes] == [f"{name} {value}" for value in values]
    assert "Series 3 holds 2 volumes, each is translated by itself" in caplog.text


def test_an_attribute_that_differs_between_places_does_not_split_a_volume(tmp_path):
    folder = series(tmp_path / "S1")
    change_all(folder, lambda index, image: {"AcquisitionNumber": index})  # step and shoot
    assert [len(volume.slices) for volume in found(folder).volumes] == [4]


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "orientation 0\\1\\0\\0\\0\\-1"),
        ({"PixelSpacing": [1.5, 1.5]}, "pixels of 1.5 x 1.5 mm"),
        ({"Rows": 3}, "6 x 3 pixels"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, "ORIGINAL/PRIMARY/P"),  # phase is no magnitude
    ],
)
def test_another_geometry_or_quantity_is_another_volume(tmp_path, caplog, attributes, named):
    folder = series(tmp_path / "S1")
    change(folder / "0002", **attributes)
    volumes = found(folder).volumes
    assert sorted(len(volume.slices) for volume in volumes) == [1, 3]
    assert named in " ".join(volume.apart for volume in volumes)
    assert "Series 3 holds 2 volumes" in caplog.text


@pytest.mark.parametrize("which", [[0], [1, 3], [0, 1], [2, 3]])
def test_slices_of_another_image_type_belong_to_the_even_stack_that_they_complete(tmp_path, which):
    """Some scanners mark the first slice, or every other one, by a fourth value."""
    folder = series(tmp_path / "S1")
    marked = ["ORIGINAL", "PRIMARY", "AXIAL", "ADD"]
    change_all(folder, lambda index, image: {"ImageType": marked} if index in which else {})
    assert [len(volume.slices) for volume in found(folder).volumes] == [4]


def test_image_types_at_the_same_places_or_between_them_are_volumes_of_their_own(tmp_path):
    series(tmp_path / "a", SeriesInstanceUID="1.2.3")
    derived = {"SeriesInstanceUID": "1.2.3", "ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}
    series(tmp_path / "b", **derived)  # e.g. averaged, at the same places
    assert [len(volume.slices) for volume in found(tmp_path).volumes] == [4, 4]
    shutil.rmtree(tmp_path / "b")
    between = AFFINE.copy()
    between[2, 3] += 1.0  # of 2.5 mm
    series(tmp_path / "b", affine=between, **derived)
    assert [len(volume.slices) for volume in found(tmp_path).volumes] == [4, 4]


@pytest.mark.parametrize("of_its_own", [False, True])
def test_few_slices_across_the_volume_of_their_study_are_a_localizer_whatever_they_say(tmp_path, caplog, of_its_own):
    folder = series(tmp_path / "S1", study="1.2.3", SeriesInstanceUID="1.2.4")
    uid = "1.2.5" if of_its_own else "1.2.4"
    scout = series(tmp_path / "scout", HU[:, :, :2], study="1.2.3", SeriesInstanceUID=uid)
    change_all(scout, lambda *_: {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]})
    result = found(tmp_path)
    assert [volume.files[0].parent for volume in result.volumes] == [folder]
    assert "0001, 0002: a localizer by its geometry, which lies across the 4 slices of its study" in caplog.text
    change_all(scout, lambda *_: {"StudyInstanceUID": "1.2.9", "SeriesInstanceUID": "1.2.6"})
    assert len(found(tmp_path).volumes) == 2  # of another study: it may be what is wanted


def test_slices_without_a_place_stay_with_their_series_to_be_refused(tmp_path):
    folder = series(tmp_path / "S1")
    change(folder / "0001", PixelSpacing=None)
    change(folder / "0002", ImagePositionPatient=None)
    assert [len(volume.slices) for volume in found(folder).volumes] == [4]


def test_an_image_that_was_exported_twice_is_one(tmp_path, caplog):
    folder = series(tmp_path / "S1")
    shutil.copy(folder / "0001", folder / "copy")
    with caplog.at_level(logging.INFO):
        (volume,) = found(folder).volumes
    assert len(volume.slices) == 4
    assert "Skipped copy: a copy of 0001 (the same SOPInstanceUID)" in caplog.text


def test_a_damaged_file_goes_with_the_volumes_of_its_folder(tmp_path):
    folder, other = series(tmp_path / "S1"), series(tmp_path / "S2")
    (folder / "0002").write_bytes((folder / "0002").read_bytes()[:300])
    (folder / "0003").write_bytes(bytes(128) + b"DICM" + b"\xff" * 100)
    result = found(tmp_path)
    assert {path.name for path in result.damaged} == {"0002", "0003"}
    assert "0002' cannot be read as DICOM (it lacks S" in str(result.damaged)
    damaged = {volume.files[0].parent: len(volume.damaged) for volume in result.volumes}
    assert damaged == {folder: 2, other: 0}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"Rows": None}, "it lacks Rows or Columns"),
        ({"ImagePositionPatient": [1, 2]}, "ImagePositionPatient must be 3 finite numbers"),
        ({"NumberOfFrames": 4}, "it has 4 frames, but no functional groups that place them"),
    ],
)
def test_attributes_that_cannot_be_read_are_damage(tmp_path, attributes, message):
    folder = series(tmp_path / "S1")
    change(folder / "0002", **attributes)
    assert message in str(found(folder).damaged)


def test_an_enhanced_object_with_frames_but_too_few_groups_is_damaged(tmp_path):
    path = write_enhanced(tmp_path / "multi", NumberOfFrames=5)
    assert "it has 5 frames, and functional groups of 4" in str(found(path).damaged)


def test_two_times_in_one_enhanced_object_are_two_volumes(tmp_path):
    def at_time(index, frame):
        frame.PlanePositionSequence[0].ImagePositionPatient[2] = 2.5 * (index % 2)
        frame.FrameContentSequence = [type(frame)()]
        frame.FrameContentSequence[0].TemporalPositionIndex = index // 2 + 1

    path = write_enhanced(tmp_path / "multi", np.asarray(HU), per_frame=at_time)
    volumes = found(path).volumes
    assert {volume.apart: [image.frame for image in volume.slices] for volume in volumes} == {
        "TemporalPositionIndex 1": [0, 1],
        "TemporalPositionIndex 2": [2, 3],
    }
