"""Names of outputs: what a target and a source add to them, and that none leads out of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.images import output_layout, target_name


@pytest.mark.parametrize("target", ["T2", "B70f", "Br40d\\3", "a b", "..", "\u00c4", "x" * 128])
def test_a_target_that_is_no_path_keeps_its_name(target):
    assert target_name(target) == target


def test_separators_and_control_characters_of_a_target_are_replaced():
    assert target_name("../../T2") == ".._.._T2"
    assert target_name("a/b\0c\nd") == "a_b_c_d"
    assert target_name({"B/30": 0.5, "B70f": 0.5}) == "0.5B_30+0.5B70f"


def test_long_targets_are_cut_off_and_stay_two():
    names = {target_name("x" * 200 + end) for end in "ab"}
    assert len(names) == 2
    assert all(len(name) == 128 for name in names)


def test_a_source_beside_the_folder_of_the_sources_is_refused(tmp_path):
    layout = output_layout(tmp_path / "out", "T2", data_root_dir=tmp_path / "data")
    for source in (tmp_path / "other" / "a.nii", tmp_path / "data" / ".." / "a.nii", Path("/a.nii")):
        with pytest.raises(ValueError, match="must lie below the folder"):
            layout.filename(source)
    assert layout.filename(tmp_path / "data" / "p" / "a.nii") == str(tmp_path / "out" / "p" / "a_synthetic_T2.nii.gz")


def test_a_relative_folder_of_outputs_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout = output_layout("out", "T2", data_root_dir=tmp_path / "data")
    assert layout.filename(tmp_path / "data" / "a.nii") == str(Path("out", "a_synthetic_T2.nii.gz"))


def test_a_link_out_of_the_folder_of_outputs_is_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "p").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="must lie below the folder"):
        output_layout(tmp_path / "out", "T2", data_root_dir=tmp_path).filename(tmp_path / "p" / "a.nii")
