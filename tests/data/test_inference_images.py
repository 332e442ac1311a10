"""The images of an inference, from whatever `--dataset_dir` may be.

Which images of a datalist are converted, and which kernel they are said to have.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImaged

from common.data import common_folder, find_conversions, find_images
from common.dicom import image_readers
from common.errors import own_error
from common.transforms import CheckHeaderd
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
    with pytest.raises(FileNotFoundError, match=r"holds no image: expected files ending in \.nii, \.nii\.gz, .*, or"):
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


def test_nifti_and_dicom_in_one_folder_are_both_taken(scans):
    (scans / "datalist.json").unlink()
    series(scans / "S1")
    images = [item["image"] for item in find_images(scans)]
    assert len(images) == 7
    assert images[-1][0] == str(scans / "P1_3")


def names(items) -> list[str]:
    return [Path(str(item["image"])).name for item in items]


def test_whatever_looks_like_an_image_is_an_item_and_fails_by_its_name_if_it_cannot_be_read(tmp_path):
    (tmp_path / "good.nii.gz").touch()
    (tmp_path / "sub-02_T1w.nii.gz").symlink_to("../.git/annex/objects/x.nii.gz")
    for name in ("brain.mgz", "old.img", "old.hdr", "slicer.nrrd", "itk.mha", "notes.txt"):
        (tmp_path / name).touch()
    found = find_images(tmp_path)
    assert names(found) == ["brain.mgz", "good.nii.gz", "itk.mha", "old.img", "slicer.nrrd", "sub-02_T1w.nii.gz"]
    for name, message in (
        ("sub-02_T1w.nii.gz", "is a link to '../.git/annex/objects/x.nii.gz', which does not exist"),
        ("old.img", "is one file of an Analyze or NIfTI pair"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            CheckHeaderd("image")({"image": str(tmp_path / name)})


def test_a_dead_link_in_a_pattern_or_by_itself_is_named(tmp_path):
    (tmp_path / "good.nii.gz").touch()
    (tmp_path / "dead.nii.gz").symlink_to("/nowhere/x.nii.gz")
    assert names(find_images(str(tmp_path / "*.nii.gz"))) == ["dead.nii.gz", "good.nii.gz"]
    with pytest.raises(FileNotFoundError, match=r"dead\.nii\.gz' is a link to '/nowhere/x\.nii\.gz', which"):
        find_images(tmp_path / "dead.nii.gz")


def test_two_stars_of_a_pattern_reach_any_depth(tmp_path):
    for place in ("a", "b/c"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "scan.nii.gz").touch()
    for pattern in ("**/*.nii.gz", "**"):
        assert len(find_images(str(tmp_path / pattern))) == 2


def test_a_link_to_a_folder_is_followed_once(tmp_path):
    (tmp_path / "store" / "p1").mkdir(parents=True)
    (tmp_path / "store" / "p1" / "scan.nii.gz").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "p1").symlink_to(tmp_path / "store" / "p1")
    (tmp_path / "store" / "p1" / "loop").symlink_to(tmp_path / "data")
    assert len(find_images(tmp_path / "data")) == 1


def test_a_folder_that_cannot_be_listed_is_an_item_that_fails(tmp_path, monkeypatch):
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "scan.nii.gz").touch()
    (tmp_path / "p2").mkdir()
    listed = os.scandir

    def refusing(path):
        if str(path).endswith("p2"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = find_images(tmp_path)
    assert names(found) == ["scan.nii.gz", "p2"]
    with pytest.raises((RuntimeError, ValueError)) as error:
        load(found[1])
    assert "p2' cannot be listed (Permission denied)" in str(own_error(error.value))


def test_damaged_slices_that_belong_to_no_volume_fail_by_their_names(tmp_path):
    series(tmp_path / "good")
    bad = series(tmp_path / "bad", SeriesNumber=4)
    for path in bad.iterdir():
        path.write_bytes(path.read_bytes()[:300])
    found = find_images(tmp_path)
    assert len(found) == 5
    with pytest.raises(ValueError, match="0001' cannot be read as DICOM"):
        load(found[1])


def test_a_zip_among_images_is_opened_or_named(tmp_path):
    mixed(tmp_path / "study")
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as file:
        for path in (tmp_path / "study").rglob("*.*"):
            file.write(path, path.relative_to(tmp_path))
    shutil.rmtree(tmp_path / "study")
    with zipfile.ZipFile(tmp_path / "papers.zip", "w") as file:
        file.writestr("readme.txt", "no image")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "study.zip").read_bytes()[:2000])
    (tmp_path / "scan.nii").touch()
    images = [item["image"] for item in find_images(tmp_path)]
    assert images[0] == str(tmp_path / "scan.nii")
    assert images[1] == str(tmp_path / "cut.zip")
    assert [image[0] for image in images[2:]] == [str(tmp_path / "study.zip" / name) for name in ("P1_3", "P1_8")]


def test_outputs_of_a_bundle_in_the_folder_of_the_images_are_not_translated_again(tmp_path):
    for name in ("a.nii.gz", "a_synthetic_B70f.nii.gz", "b_synthetic_B70f.nii.gz"):
        (tmp_path / name).touch()
    sidecar = {"output": [{"file": "a_synthetic_B70f.nii.gz", "sha256": "0"}]}
    (tmp_path / "a_synthetic_B70f.json").write_text(json.dumps(sidecar))
    expected = ["a.nii.gz", "b_synthetic_B70f.nii.gz"]  # the second is somebody else's, as nothing says more of it
    assert names(find_images(tmp_path)) == expected
    assert names(find_images(str(tmp_path / "*.nii.gz"))) == expected


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


def test_test_images_of_another_domain_are_left_out_by_name(tmp_path, caplog):
    entries = [{"patient": "p", "image": "p.nii", "domain": "T1"}, {"patient": "q", "image": "q.nii", "domain": "T2"}]
    data = folder(tmp_path, *entries, {"patient": "r", "T1": "r1.nii", "T2": "r2.nii"})
    assert names(find_images(data, domain="T1")) == ["p.nii", "r1.nii"]
    assert "The test images of q are left out: by the datalist they are not T1." in caplog.text
    with pytest.raises(ValueError, match=r"no image of the source domain 'PD'; its .* \['T1', 'T2'"):
        find_images(folder(tmp_path, *entries), domain="PD")


def test_cases_without_a_volume_under_the_domains_are_refused_with_the_form_that_is_needed():
    with pytest.raises(ValueError, match=r"None of the 1 entries names a volume under 'T1' or 'T2', but"):
        common_folder([{"image": "a.nii", "domain": "T1"}], ["T1", "T2"])
