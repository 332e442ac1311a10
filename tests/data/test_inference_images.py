"""The images of an inference, from whatever `--dataset_dir` may be.

Which images of a datalist are converted, and which kernel they are said to have.
"""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImaged

from common.data import common_folder, find_conversions, find_images
from common.dicom import image_readers
from tests.helpers.dicom_files import HU, change_all, series, write_enhanced

load = LoadImaged(keys="image", reader=image_readers())


@pytest.fixture
def scans(tmp_path):
    """A datalist and six empty NIfTI files."""
    names = [f"{patient}_{domain}.nii.gz" for patient in "acd" for domain in ("T1", "T2")]
    for name in names:
        (tmp_path / name).touch()
    test = [{"patient": "d", "T1": "d_T1.nii.gz", "T2": "d_T2.nii.gz"}]
    (tmp_path / "datalist.json").write_text(json.dumps({"test": test}))
    return tmp_path


def test_nifti_is_found_as_a_file_a_pattern_a_datalist_or_a_folder(scans, tmp_path_factory):
    one = scans / "a_T1.nii.gz"
    assert find_images(one) == [{"image": str(one)}]
    assert find_images(str(scans / "*_T1*")) == [{"image": str(scans / f"{n}_T1.nii.gz")} for n in "acd"]
    assert find_images(scans, domain="T1") == [{"image": str(scans / "d_T1.nii.gz")}]  # the datalist's test list
    with pytest.raises(ValueError, match=r"patient 'd' has no image of the source domain 'PD'; it has \['T1', 'T2'"):
        find_images(scans / "datalist.json", domain="PD")
    (scans / "datalist.json").unlink()
    assert len(find_images(scans)) == 6
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(FileNotFoundError, match=r"holds no image: expected files ending in \.nii, \.nii\.gz, or"):
        find_images(empty)
    with pytest.raises(FileNotFoundError, match="matches none"):
        find_images(str(empty / "*.nii"))


def test_a_series_folder_is_one_image_under_its_own_name(tmp_path):
    folder = series(tmp_path / "case7")
    (folder / "README.txt").write_text("no image")
    assert find_images(folder) == [{"image": str(folder)}]
    assert find_images(folder / "0001") == [{"image": str(folder / "0001")}]


def test_folders_named_by_uid_or_patient_are_renamed_in_outputs(tmp_path):
    for name in ("1.2.840.113", "Phantom_Digital"):
        (item,) = find_images(series(tmp_path / name))
        assert item["image"][0] == str(tmp_path / name / "P1_3")
        np.testing.assert_array_equal(load(item)["image"].numpy(), HU)
        assert load(item)["image"].meta["filename_or_obj"] == str(tmp_path / name / "P1_3")


def mixed(folder):
    """A CT, an MR and a localizer in one folder, deep down, with foreign files."""
    place = folder / "DICOM" / "ST0"
    ct, mr = series(folder / "ct"), series(folder / "mr", HU // 2, modality="MR", SeriesNumber=8)
    localizer = series(folder / "loc", HU[:, :, :1], SeriesNumber=1)
    change_all(localizer, lambda *_: {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    place.mkdir(parents=True)
    for source in (ct, mr, localizer):
        for file in source.iterdir():
            file.rename(place / f"{source.name}{file.name}.ima")
        source.rmdir()
    (place / "thumbs.db").write_bytes(b"foreign")
    return folder


def test_series_of_a_mixed_folder_are_items_of_their_own(tmp_path, caplog):
    folder = mixed(tmp_path)
    with caplog.at_level(logging.INFO):
        items = find_images(folder)
    assert [item["image"][0] for item in items] == [str(folder / "P1_3"), str(folder / "P1_8")]
    assert common_folder(items) == str(folder)
    np.testing.assert_array_equal(load(items[0])["image"].numpy(), HU)
    np.testing.assert_array_equal(load(items[1])["image"].numpy(), HU // 2)
    assert "Skipped loc0001.ima: a localizer (ImageType LOCALIZER)" in caplog.text


def test_series_of_the_wrong_modality_are_skipped_with_a_note(tmp_path, caplog):
    folder = mixed(tmp_path)
    with caplog.at_level(logging.INFO):
        (item,) = find_images(folder, modality="MR")
    assert item["image"][0] == str(folder / "P1_8")
    assert "Skipped series 3 'source', CT, patient P1, 4 slices: the bundle is for MR" in caplog.text
    with pytest.raises(ValueError, match="holds no PT volume to translate: 1 of its files: a localizer"):
        find_images(folder, modality="PT")


def test_a_zip_is_what_it_holds(tmp_path):
    mixed(tmp_path / "study")
    archive = tmp_path / "study.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in (tmp_path / "study").rglob("*.*"):
            file.write(path, path.relative_to(tmp_path))
    items = find_images(archive, modality="CT")
    assert common_folder(items) == str(archive)
    image = load(items[0])["image"]
    np.testing.assert_array_equal(image.numpy(), HU)
    assert image.meta["filename_or_obj"] == str(archive / "P1_3")
    shutil.copy(archive, tmp_path / "cut.zip")
    with (tmp_path / "cut.zip").open("r+b") as file:
        file.truncate(2000)
    with pytest.raises(ValueError, match=r"cut\.zip' cannot be unpacked"):
        find_images(tmp_path / "cut.zip")


def test_a_pattern_of_slices_is_their_series(tmp_path):
    folder = series(tmp_path / "S.1")
    (item,) = find_images(str(folder / "000*"))
    np.testing.assert_array_equal(load(item)["image"].numpy(), HU)


def test_equal_names_are_numbered(tmp_path):
    series(tmp_path / "a")
    series(tmp_path / "b")
    assert [item["image"][0] for item in find_images(tmp_path)] == [str(tmp_path / "P1_3_1"), str(tmp_path / "P1_3_2")]


def test_an_enhanced_object_is_one_image_and_never_named_after_the_patient(tmp_path):
    path = write_enhanced(tmp_path / "multi.dcm")
    assert find_images(path) == [{"image": str(path)}]
    (item,) = find_images(write_enhanced(tmp_path / "Jane.Doe"))
    assert item["image"] == [str(tmp_path / "E7_5"), str(tmp_path / "Jane.Doe")]


def test_a_damaged_slice_spoils_its_own_series_alone(tmp_path, caplog):
    good, bad = series(tmp_path / "good"), series(tmp_path / "bad", SeriesNumber=4)
    (bad / "0002").write_bytes((bad / "0002").read_bytes()[:300])
    spoiled, whole = find_images(tmp_path)
    assert "0002' cannot be read as DICOM" in caplog.text
    np.testing.assert_array_equal(load(whole)["image"].numpy(), HU)
    with pytest.raises(ValueError, match="0002' cannot be read as DICOM"):
        load(spoiled)
    assert whole["image"][1].startswith(str(good))


def test_nifti_beside_dicom_is_taken_with_a_warning(scans, caplog):
    (scans / "datalist.json").unlink()
    series(scans / "S1")
    assert len(find_images(scans)) == 6
    assert "has NIfTI and 4 DICOM files: only the NIfTI files are taken" in caplog.text


def test_reports_alone_are_no_images(tmp_path):
    folder = series(tmp_path / "SR")
    change_all(folder, lambda *_: {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67"})
    with pytest.raises(ValueError, match="4 of its files: X-Ray Radiation Dose SR Storage, no CT or MR image"):
        find_images(folder)


def test_outputs_keep_the_path_below_the_common_folder(tmp_path):
    assert common_folder([{"image": str(tmp_path / "a" / "x.nii")}]) == str(tmp_path / "a")
    two = [{"image": str(tmp_path / "a" / "x.nii")}, {"image": [str(tmp_path / "b" / "P1_3"), "IM1"]}]
    assert common_folder(two) == str(tmp_path)


KERNELS = ["B30f", "B50f", "B70f"]


def folder(path: Path, *entries: dict[str, str]) -> Path:
    for entry in entries:
        for name, value in entry.items():
            if name not in ("patient", "domain"):
                (path / value).touch()
    (path / "datalist.json").write_text(json.dumps({"test": list(entries)}))
    return path


def found(path: Path, target: object = "B70f", **options) -> list[tuple[str, str | None]]:
    return [(Path(i["image"]).name, i.get("domain")) for i in find_conversions(path, KERNELS, target, **options)]


PAIRED = {"patient": "p", "B30f": "p30.nii", "B50f": "p50.nii", "B70f": "p70.nii", "truth": "t.nii", "label": "l.nii"}
SINGLE = {"patient": "q", "image": "q.nii", "domain": "B50f"}


def test_of_a_patient_with_all_kernels_those_other_than_the_target_are_converted_and_it_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    data = folder(tmp_path, PAIRED)
    assert found(data) == [("p30.nii", "B30f"), ("p50.nii", "B50f")]
    assert "all of its test images with the kernels B30f, B50f are converted. Give `--source`" in caplog.text
    assert found(data / "datalist.json", "B30f") == [("p50.nii", "B50f"), ("p70.nii", "B70f")]
    assert len(found(data, {"B30f": 0.5, "B70f": 0.5})) == 3  # none of them is a blend


def test_a_given_source_is_the_only_one(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert found(folder(tmp_path, PAIRED), source="B50f") == [("p50.nii", "B50f")]
    assert "Give `--source`" not in caplog.text


def test_the_domain_of_a_single_image_is_its_kernel_even_if_it_is_the_target_or_unknown(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    entries = [SINGLE, {"patient": "r", "image": "r.nii", "domain": "B31f"}, {"patient": "s", "image": "s.nii"}]
    assert found(folder(tmp_path, *entries), "B50f") == [("q.nii", "B50f"), ("r.nii", "B31f"), ("s.nii", None)]
    assert caplog.text == ""


def test_what_has_no_datalist_has_no_domain(tmp_path):
    (tmp_path / "scan.nii").touch()
    assert found(tmp_path) == found(tmp_path / "scan.nii") == found(tmp_path / "*.nii") == [("scan.nii", None)]


def test_a_patient_without_an_image_to_convert_is_left_out_with_a_warning(tmp_path, caplog):
    data = folder(tmp_path, {"patient": "t", "B70f": "t70.nii"}, SINGLE)
    assert found(data) == [("q.nii", "B50f")]
    assert "Patient 't' has no image of the kernels ['B30f', 'B50f']: left out." in caplog.text


@pytest.mark.parametrize(
    ("entry", "options", "message"),
    [
        (
            {"patient": "t", "B70f": "t.nii"},
            {},
            r"no image of the kernels \['B30f', 'B50f'\] to convert to 'B70f'\. Choose",
        ),
        (PAIRED, {"source": "B31f"}, r"no image of the kernels \['B31f'\] to convert"),
        (
            {"patient": "t", "B31f": "t.nii"},
            {},
            r"patient 't' must have an `image`, or one .*; it has \['B31f', 'patient'\]",
        ),
    ],
)
def test_nothing_to_convert_is_an_error_that_says_what_there_is(tmp_path, entry, options, message):
    with pytest.raises(ValueError, match=message):
        found(folder(tmp_path, entry), **options)
