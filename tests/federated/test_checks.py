"""A job brings no files that a site would execute."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.bundles import BUNDLES
from common.federated.checks import refuse_foreign_files, refuse_foreign_folders


def test_a_bundle_that_came_with_the_job_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="must be a bundle that the site has itself"):
        refuse_foreign_files(tmp_path / "app" / "config" / "bundle", [], app_root=tmp_path / "app")
    refuse_foreign_files(tmp_path / "app2", [], app_root=tmp_path / "app")


def test_a_bundle_that_came_with_an_earlier_job_is_refused(tmp_path: Path):
    now, earlier = tmp_path / "job2" / "app_north", tmp_path / "job1" / "app_north"
    (earlier / "bundle").mkdir(parents=True)
    now.mkdir(parents=True)
    (tmp_path / "link").symlink_to(earlier / "bundle")
    for bundle in (earlier / "bundle", tmp_path / "link", now / ".." / ".." / "job1" / "app_north" / "bundle"):
        with pytest.raises(ValueError, match="which came with a job"):
            refuse_foreign_files(bundle, [], app_root=now)
    (tmp_path / "own").mkdir()
    refuse_foreign_files(tmp_path / "own", [], app_root=now)


def test_a_file_outside_of_the_bundle_is_refused_and_an_absent_one_named(tmp_path: Path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "own.yaml").touch()
    for file in ("../own.yaml", str(tmp_path / "own.yaml")):
        with pytest.raises(ValueError, match="a configuration file must lie in the site's bundle"):
            refuse_foreign_files(tmp_path / "bundle", [file])
    with pytest.raises(FileNotFoundError, match=r"has no file 'configs/train\.yaml'"):
        refuse_foreign_files(tmp_path / "bundle", ["configs/train.yaml"])


def test_folders_of_a_job_lie_where_the_site_has_opened_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("study", "other", "private", "app"):
        (tmp_path / name).mkdir()
    (tmp_path / "study" / "link").symlink_to(tmp_path / "private")
    monkeypatch.delenv("FEDERATED_FOLDERS", raising=False)
    monkeypatch.setenv("FEDERATED_DIR", str(tmp_path / "study"))

    def refused(name: str, place: Path) -> bool:
        try:
            refuse_foreign_folders({name: place}, app_root=tmp_path / "app")
        except ValueError as error:
            assert f"`{name}` of a job must lie in a folder that this site has opened" in str(error)  # noqa: PT017
            return True
        return False

    assert not refused("dataset_dir", tmp_path / "study" / "north" / "data")
    assert refused("dataset_dir", tmp_path / "private")
    assert refused("dataset_dir", tmp_path / "study" / ".." / "private")
    assert refused("dataset_dir", tmp_path / "study" / "link")
    assert refused("dataset_dir", tmp_path / "study2")
    assert refused("output_dir", tmp_path / "other")
    assert not refused("output_dir", tmp_path / "app" / "output")
    assert refused("dataset_dir", tmp_path / "app")
    assert not refused("bundle_root", BUNDLES / "ggcl")
    assert refused("dataset_dir", BUNDLES / "ggcl")
    monkeypatch.setenv("FEDERATED_FOLDERS", f"{tmp_path / 'other'}{os.pathsep}{tmp_path / 'third'}")
    assert not refused("output_dir", tmp_path / "other")
    monkeypatch.delenv("FEDERATED_DIR")
    assert refused("dataset_dir", tmp_path / "study")  # nothing is open by itself
