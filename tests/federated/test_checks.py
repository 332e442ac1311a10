"""A job brings no code, and no files that a site would execute."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.federated import SiteAlgo
from common.federated.checks import refuse_code, refuse_foreign_files


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": "$__import__('os').system('true')"},
        {"train#trainer": {"seed": [1, " $print(1)"]}},
        {"seed": "%/tmp/other.yaml#seed"},
    ],
)
def test_expressions_are_refused(options):
    with pytest.raises(ValueError, match="`options` must be plain values, got the expression"):
        refuse_code(options, "options")


@pytest.mark.parametrize("target", ["os.system", "common.networkss.Evil", "common.phantoms.generate_phantom", 3])
def test_no_class_but_the_networks_can_be_named(target):
    with pytest.raises(ValueError, match=r"may name the networks of common\.networks only, got _target_"):
        refuse_code({"network_def": {"_target_": target}}, "options")
    with pytest.raises(ValueError, match="must give a `_target_` inside its section"):
        refuse_code({"network_def#_target_": target}, "options")


def test_plain_values_networks_and_references_pass():
    refuse_code({"a": [1, 2.5, None, True, "text"], "b": "@a"}, "options")
    refuse_code({"network_def": {"_target_": "common.networks.CompactGenerator", "channels": [8]}}, "options")


def test_the_client_refuses_them_before_anything_is_built():
    with pytest.raises(ValueError, match="`train_options` must be plain values"):
        SiteAlgo("bundle", "data", max_epochs=1, train_options={"seed": "$1"})
    with pytest.raises(ValueError, match="`evaluate_options` must be plain values"):
        SiteAlgo("bundle", "data", max_epochs=1, evaluate_options={"split": "$'test'"})


def test_a_bundle_that_came_with_the_job_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="must be a bundle that the site has itself"):
        refuse_foreign_files(tmp_path / "app" / "config" / "bundle", [], app_root=tmp_path / "app")
    refuse_foreign_files(tmp_path / "app2", [], app_root=tmp_path / "app")


def test_a_file_outside_of_the_bundle_is_refused_and_an_absent_one_named(tmp_path: Path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "own.yaml").touch()
    for file in ("../own.yaml", str(tmp_path / "own.yaml")):
        with pytest.raises(ValueError, match="a configuration file must lie in the site's bundle"):
            refuse_foreign_files(tmp_path / "bundle", [file])
    with pytest.raises(FileNotFoundError, match=r"has no file 'configs/train\.yaml'"):
        refuse_foreign_files(tmp_path / "bundle", ["configs/train.yaml"])
