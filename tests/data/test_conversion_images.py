"""Which images of a datalist are converted, and which kernel they are said to have."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from common.data import find_conversions

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
