"""A datalist that is no datalist is refused with its name, the place and what is there."""

from __future__ import annotations

import json

import pytest

from common.data import load_domain, read_datalist


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
