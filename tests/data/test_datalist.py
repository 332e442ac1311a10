"""Datalists: what is read, and what is refused with which words.

A datalist that is no datalist is refused with its name, the place and what is there.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.data import check_validation, describe, load_datalist, load_domain, read_datalist
from tests.helpers.shared import needs_shared, shared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a_T1", "b_T2", "c_T1", "c_T2", "d_T1", "d_T2"):
        (tmp_path / f"{name}.nii.gz").touch()
    write(tmp_path)
    return tmp_path


def write(folder: Path, **changes: object) -> None:
    datalist = {
        "training": [
            {"image": "a_T1.nii.gz", "domain": "T1", "patient": "a"},
            {"image": "b_T2.nii.gz", "domain": "T2", "patient": "b"},
        ],
        "validation": [{"patient": "c", "T1": "c_T1.nii.gz", "T2": "c_T2.nii.gz"}],
        "test": [{"patient": "d", "T1": "d_T1.nii.gz", "T2": "d_T2.nii.gz"}],
        **changes,
    }
    (folder / "datalist.json").write_text(json.dumps(datalist))


def test_paths_are_absolute_and_domains_are_found_in_both_forms(folder):
    assert load_domain(folder, "training", "T2") == [{"image": str(folder / "b_T2.nii.gz"), "patient": "b"}]
    assert load_domain(folder, "test", "T2") == [{"image": str(folder / "d_T2.nii.gz"), "patient": "d"}]


def test_a_datalist_file_of_any_name_is_read(folder):
    (folder / "datalist.json").rename(folder / "mine.json")
    assert load_datalist(folder / "mine.json", "test")[0]["patient"] == "d"


def test_describe_counts_patients_not_images(folder):
    assert describe(folder)["patients"] == {"training": 2, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test": [{"patient": "a", "T1": "d_T1.nii.gz"}]}, ["'a'", "'training'", "'test'", "one split"]),
        ({"training_paired": [{"patient": "c", "T1": "c_T1.nii.gz"}]}, ["'c'", "'training'", "'validation'"]),
    ],
)
def test_a_patient_in_two_splits_is_refused(folder, changes, words):
    write(folder, **changes)
    with pytest.raises(ValueError, match="both") as error:
        load_datalist(folder, "training")
    assert all(word in str(error.value) for word in [*words, "datalist.json"])


def test_training_and_training_paired_may_share_patients(folder):
    write(folder, training_paired=[{"patient": "a", "T1": "a_T1.nii.gz"}])
    assert load_datalist(folder, "training_paired")


def test_an_absent_file_is_named(folder):
    (folder / "d_T2.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"d_T2\.nii\.gz.*'T2' of 'd' in 'test'.*Correct"):
        load_datalist(folder, "test")


def test_missing_folder_names_the_option_and_the_phantom_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--dataset_dir.*python -m common phantom"):
        load_datalist(tmp_path / "nowhere", "test")


def test_folder_without_datalist(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no datalist\.json"):
        load_datalist(tmp_path, "test")


@pytest.mark.parametrize("text", ["{", "[]", "\x00\x01"])
def test_broken_json_is_named(tmp_path, text):
    (tmp_path / "datalist.json").write_text(text)
    with pytest.raises(ValueError, match=r"datalist\.json"):
        load_datalist(tmp_path, "test")


def test_unknown_list_and_domain_name_what_there_is(folder):
    with pytest.raises(ValueError, match=r"no list 'testing'.*'test', 'training', 'validation'"):
        load_datalist(folder, "testing")
    with pytest.raises(ValueError, match=r"no image of domain 'PD'.*'T1', 'T2'"):
        load_domain(folder, "training", "PD")


@pytest.mark.parametrize(
    ("datalist", "message"),
    [
        ({"test": "scan.nii.gz"}, "'test' must be a list of entries, got \"scan.nii.gz\""),
        ({"training": [3]}, "'training' must list entries such as .*, got 3"),
        ({"training": [{"patient": {"id": 1}}]}, "'patient' in 'training' must be a name, got"),
        ({"test": [{"image": ""}]}, "'image' of an entry in 'test' is empty"),
        ({"test": [{"image": "a\0b"}]}, "has a NUL"),
        ({"label_names": {"tumour": "1"}}, "`label_names` must be such as"),
        ({"label_names": ["tumour"]}, "`label_names` must be such as"),
    ],
)
def test_a_wrong_form_is_refused_with_the_file_and_what_is_there(datalist, message, tmp_path):
    (tmp_path / "datalist.json").write_text(json.dumps(datalist))
    with pytest.raises(ValueError, match=message) as error:
        read_datalist(tmp_path)
    assert "datalist.json" in str(error.value)


def test_an_entry_of_a_domain_without_its_image_is_named(tmp_path):
    (tmp_path / "datalist.json").write_text(json.dumps({"test": [{"patient": "P7", "domain": "T1"}]}))
    with pytest.raises(ValueError, match=r'"P7".* must have a path under \'image\', got null'):
        load_domain(tmp_path, "test", "T1")


def test_a_datalist_from_windows_is_read(tmp_path):
    """With a byte order mark, and backslashes in its paths."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.nii.gz").touch()
    content = {"test": [{"image": "sub\\a.nii.gz", "patient": "a"}]}
    (tmp_path / "datalist.json").write_text(json.dumps(content), encoding="utf-8-sig")
    assert load_datalist(tmp_path, "test") == [{"image": str(tmp_path / "sub" / "a.nii.gz"), "patient": "a"}]


@needs_shared("cases", "bom-datalist")
def test_a_users_datalist_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "bom.json").write_bytes(shared("cases", "bom-datalist", "bom.json").read_bytes())
    assert (tmp_path / "bom.json").read_bytes().startswith(b"\xef\xbb\xbf")
    datalist, root = read_datalist(tmp_path / "bom.json")
    assert datalist["test"]
    assert root == tmp_path


@pytest.mark.parametrize(
    ("validation", "targets", "message"),
    [
        ([{"image": "c_T1.nii.gz", "domain": "T1", "patient": "c"}], None, None),  # the source alone is enough
        ([{"patient": "c", "T1": "c_T1.nii.gz", "T2": "c_T2.nii.gz"}], ["T2"], None),
        ([{"image": "c_T2.nii.gz", "domain": "T2", "patient": "c"}], ["T2"], "must have an image of T1: an entry"),
        (
            [{"image": "c_T2.nii.gz", "patient": "c"}],
            None,
            "domains \\['None'\\] and the keys \\['image', 'patient'\\]",
        ),
        ([], None, "no list 'validation', or an empty one"),
    ],
)
def test_a_validation_list_without_an_image_to_translate_is_refused(folder, validation, targets, message):
    write(folder, validation=validation)
    if message is None:
        check_validation(folder, ["T1", "T2"], targets)
    else:
        with pytest.raises(ValueError, match=message):
            check_validation(folder, ["T1", "T2"], targets)
