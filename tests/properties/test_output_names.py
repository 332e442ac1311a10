"""Whatever headers and lists say, outputs lie in their folder, under names that any file system takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from common.data import find_images
from common.data.inference_images import common_folder
from common.images import output_layout
from common.reports.report import _save_picture
from tests.helpers.dicom_series import write_source_series
from tests.helpers.translations import CT_AFFINE, save, translate, trunk

TRICKS = {
    "up": "../../x",
    "absolute": "/etc/x",
    "backslashes": "..\\..\\x",
    "new line": "x\n../../y",
    "NUL": "x\0y",
    "very long": "x" * 5000,
    "reserved": 'CON<>:"|?*',
    "hidden": ".x",
    "dots": "..",
}
NAME = re.compile(r"[A-Za-z0-9_-]+_synthetic_B70f\.nii\.gz")
IGNORE = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


@IGNORE
@pytest.mark.parametrize("keyword", ["PatientID", "PatientName", "SeriesDescription", "StudyDescription", "StudyID"])
@pytest.mark.parametrize("trick", TRICKS)
def test_no_header_leads_out_of_the_folder(tmp_path, keyword, trick):
    value = TRICKS[trick] if keyword == "PatientID" else TRICKS[trick][:64]
    series = tmp_path / "data" / "1.2.3"  # a name with dots, so that the headers name the output
    write_source_series(series, trunk(size=8), CT_AFFINE, **{keyword: value})
    (item,) = images = find_images(tmp_path / "data" / "1.2.3")
    source = item["image"] if isinstance(item["image"], str) else item["image"][0]
    out = tmp_path / "out"
    path = Path(output_layout(out, "B70f", data_root_dir=common_folder(images)).filename(source))
    assert path.parent == out
    assert NAME.fullmatch(path.name), path.name
    assert len(path.name) <= 100


@IGNORE
def test_a_translation_of_a_hostile_series_writes_below_its_folder_only(tmp_path):
    more = {"PatientID": "../../ESCAPED/x", "SeriesInstanceUID": "../../ESCAPED/y", "SeriesDescription": "../../z"}
    write_source_series(tmp_path / "a" / "1.2.3", trunk(), CT_AFFINE, ContrastBolusAgent="", **more)
    translate("ggcl", tmp_path / "a" / "1.2.3", tmp_path / "b" / "out", output_format="both")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["out"]
    name = "ESCAPED-x_3_synthetic_B70f"
    assert sorted(path.name for path in (tmp_path / "b" / "out").iterdir()) == [name, f"{name}.json", f"{name}.nii.gz"]


@pytest.mark.parametrize("trick", TRICKS)
def test_the_patient_of_a_list_names_no_output(tmp_path, trick):
    images = [save(tmp_path / "data" / f"{n}.nii.gz", trunk(size=8), CT_AFFINE) for n in "ab"]
    entries = [{"image": path.name, "patient": f"{TRICKS[trick]}{n}"} for n, path in enumerate(images)]
    (tmp_path / "data" / "datalist.json").write_text(json.dumps({"test": entries}))
    if "\0" in TRICKS[trick]:
        with pytest.raises(ValueError, match="has a NUL"):
            find_images(tmp_path / "data")
        return
    found = find_images(tmp_path / "data")
    layout = output_layout(tmp_path / "out", "T2", data_root_dir=common_folder(found))
    assert [Path(layout.filename(item["image"])) for item in found] == [
        tmp_path / "out" / f"{n}_synthetic_T2.nii.gz" for n in "ab"
    ]


@pytest.mark.parametrize("trick", TRICKS)
def test_a_picture_of_a_patient_lies_in_the_folder_of_pictures(tmp_path, trick):
    path = _save_picture(tmp_path / "run" / "pictures", f"case_1_{TRICKS[trick]}->B70f_{TRICKS[trick]}", b"png")
    assert path.parent == tmp_path / "run" / "pictures"
    assert re.fullmatch(r"case_1_[A-Za-z0-9_-]*\.png", path.name)
    assert len(path.name) <= 124
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
