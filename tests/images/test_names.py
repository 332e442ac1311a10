"""Names of outputs: what a target and a source add to them, and that none leads out of the folder."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from common.images import output_layout, target_name
from common.images.names import refuse_equal_names


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


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        ("a.nii", "a.nii.gz", True),
        ("a.nii.gz", "a.mha", True),
        ("x/a.nii", "y/a.nii", False),
        ("a.nii", "b.nii", False),
        ("a.1.nii", "a.2.nii", False),
    ],
)
def test_sources_whose_outputs_would_have_one_name_are_refused(tmp_path, first, second, equal):
    sources = [str(tmp_path / first), str(tmp_path / second)]
    if equal:
        with pytest.raises(ValueError, match="would have one output, and the second would overwrite the first: rename"):
            refuse_equal_names(sources, data_root_dir=tmp_path)
    else:
        refuse_equal_names(sources, data_root_dir=tmp_path)
    refuse_equal_names([sources[0]] * 2, data_root_dir=tmp_path)  # one image that is listed twice has one output


def test_the_check_of_names_knows_the_names_that_are_written(tmp_path):
    """The layout decides, also for names with more than one dot."""
    layout = output_layout(tmp_path, "T2", data_root_dir=tmp_path, extension=".nii.gz")
    names = ["a.nii", "a.nii.gz", "a.1.nii.gz", "a.1.nii", "b.nrrd", "c"]
    written = [layout.filename(str(tmp_path / name)) for name in names]
    for one, first in zip(names, written):
        for other, second in zip(names, written):
            pair = [str(tmp_path / one), str(tmp_path / other)]
            with pytest.raises(ValueError, match="one output") if one != other and first == second else nullcontext():
                refuse_equal_names(pair, data_root_dir=tmp_path)
