"""A job brings no files that a site would execute."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.federated.checks import refuse_foreign_files


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
