"""What a server's `--conf` sets, and JSON within limits."""

from __future__ import annotations

import pytest

from common.deploy.monailabel.limits import Limits, check_size, read_mapping, read_value


def test_limits_are_set_by_name_and_others_left_out():
    found = Limits.from_conf({"max_voxels": "2e9", "max_upload_gb": "0.5", "models": "ggcl"})
    assert found == Limits(max_voxels=2_000_000_000, max_upload_gb=0.5)
    assert (found.upload_bytes, found.unpacked_bytes, found.params_bytes) == (500_000_000, 8_000_000_000, 64_000)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "much", "", None])
def test_a_limit_that_is_no_positive_number_is_refused(value):
    with pytest.raises(ValueError, match="`--conf max_depth` must be a number above 0, got"):
        Limits.from_conf({"max_depth": value})


@pytest.mark.parametrize("text", ["", " ", "null", "{}", b"{}"])
def test_no_parameters_are_an_object_without_names(text):
    assert read_mapping("params", text) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("target=B30f", "`params` must be JSON"),
        ("[1]", "`params` must be a JSON object such as"),
        ("3", "`params` must be a JSON object such as"),
        ("[" * 30_000, "`params` must be JSON"),
        ('{"a":' * 9 + "1" + "}" * 9, "`params` must be nested at most 8 deep, got 9 or more"),
        ('{"a": [' + "1, " * 1000 + "1]}", "`params` must have at most 1000 values"),
        ('{"a": ' + "1" * 5000 + "}", "`params` must be JSON"),  # Python reads 4300 digits
        ('"' + "a" * 64_000 + '"', "`params` must have at most 64 kB, got 64 kB"),
        (b"\xff\xfe\xff", "`params` must be JSON"),
    ],
)
def test_a_text_that_is_no_object_within_the_limits_is_refused(text, words):
    with pytest.raises(ValueError, match=r".") as error:
        read_mapping("params", text)
    assert words in str(error.value)
    assert len(str(error.value)) < 400


def test_the_depth_of_eight_is_allowed_in_json_and_yaml():
    value = read_mapping("params", '{"a":' * 8 + "1" + "}" * 8)
    assert check_size("params", value) is value
    assert read_value("target", "[" * 8 + "]" * 8) == [[[[[[[[]]]]]]]]
    for text in ("[" * 9 + "]" * 9, "[2001-99-99]", "{? [a] : 1}", "[!!python/object/apply:os.system [a]]"):
        with pytest.raises(ValueError, match="`target` must be"):
            read_value("target", text)
