"""Mistyped overrides are refused, with the nearest valid id.

Values of a wrong kind are refused before work starts; the overlays that we ship have none.
"""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path

import pytest
from monai.bundle import ComponentLocator, ConfigParser

from common import preflight
from common.files import release_claims
from common.preflight import check, refuse_wrong_kinds
from tests.helpers.commands import python_m

from .helpers.devices import pretend

CONFIG = {
    "imports": ["$import common"],
    "bundle_root": ".",
    "dataset_dir": "data",
    "learning_rate": 0.1,
    "train": {
        "inferer": {"_target_": "SimpleInferer"},
        "dataset": {"_target_": "Dataset", "data": "$[@learning_rate]"},
        "rate": "$@learning_rate",
        "trainer": {"_target_": "Dataset", "data": "@train#rate"},
    },
    "run": ["$@train#trainer"],
}


def parser(**overrides: object) -> ConfigParser:
    result = ConfigParser()
    result.read_config(copy.deepcopy(CONFIG))
    result.update(overrides)
    return result


def test_a_sound_config_passes():
    preflight.check(config=parser())


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ({"lerning_rate": 1.0}, "learning_rate"),
        ({"train#trainr": 1}, "trainer"),
        ({"train#dataset#dta": 1}, "data"),
        ({"datset_dir": "x"}, "dataset_dir"),
    ],
)
def test_a_mistyped_id_is_refused_with_the_nearest(override, near):
    (id_,) = override
    with pytest.raises(ValueError, match=f"Did you mean '{near}'") as error:
        preflight.check(config=parser(**override))
    assert id_.replace("#", "::") in str(error.value)


def test_all_of_monai_is_scanned_once_for_the_names_of_all_components(monkeypatch):
    scans = []
    scan = ComponentLocator._find_classes_or_functions
    monkeypatch.setattr(
        ComponentLocator, "_find_classes_or_functions", lambda *given: scans.append(given) or scan(*given)
    )
    found = parser()
    check(config=found)
    found.get_parsed_content("train")
    assert len(scans) == 1


def test_a_new_id_that_something_refers_to_is_valid():
    preflight.check(config=parser(**{"extra": 3, "train#rate": "$@extra + 1", "learning_rate": "@train#rate"}))


def test_missing_path_names_it_and_the_cure(tmp_path):
    with pytest.raises(FileNotFoundError, match="--dataset_dir"):
        preflight.check(config=parser(), exists=tmp_path / "nothing")
    (tmp_path / "scan_T1.nii").touch()
    preflight.check(config=parser(), exists=str(tmp_path / "*_T1*"))


def bundle(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return python_m("monai.bundle", ["run", *arguments], cwd=cwd)


def test_on_the_command_line_the_error_is_the_last_word(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "imports: [$import common]\nlength: 3\nrun: [$common.preflight.check(), \"$print('length', @length)\"]\n"
    )
    wrong = bundle("--config_file", "c.yaml", "--lenth", "4", "--meta_file", "None", cwd=tmp_path)
    assert wrong.returncode == 1
    assert wrong.stderr.strip().splitlines()[-2].startswith("error: The config has no use for the id 'lenth'")
    assert "Did you mean 'length'" in wrong.stderr
    right = bundle("--config_file", "c.yaml", "--length", "4", cwd=tmp_path)
    assert right.returncode == 0, right.stderr
    assert "length 4" in right.stdout


BUNDLES = Path(__file__).parents[1] / "bundles"
OWN = {
    "batch_size": 4,
    "fitting_size": None,
    "learning_rate": 0.1,
    "compress": False,
    "cache_dir": None,
    "output_dir": "$1",
    "region": "lung",
}
OVERLAYS = sorted(
    path for path in BUNDLES.glob("*/configs/**/*.yaml") if path.name not in ("train.yaml", "inference.yaml")
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": "four"}, "`batch_size` must be a whole number >= 1, such as 4, got 'four'"),
        ({"batch_size": 0}, "whole number >= 1, such as 4, got 0"),
        ({"batch_size": 2.5}, "whole number >= 1"),
        ({"batch_size": True}, "whole number >= 1"),
        ({"batch_size": None}, "whole number >= 1"),
        ({"fitting_size": 2.5}, "`fitting_size` must be a whole number >= 0, such as 1, got 2.5"),
        ({"learning_rate": "fast"}, "`learning_rate` must be a number, such as 0.1, got 'fast'"),
        ({"compress": "yes"}, "`compress` must be true or false, such as False, got 'yes'"),
        ({"output_dir": 3}, "`output_dir` must be a path"),
        ({"dataset_dir": ""}, "`dataset_dir` must be a path"),
        ({"device": "gpu"}, "`device` must be 'cpu', 'cuda', 'cuda:1', 'mps' or 'xpu', got 'gpu'"),
        ({"device": 7}, "`device` must be"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_the_id_and_a_value_that_would_do(given, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        refuse_wrong_kinds(given, OWN)


@pytest.mark.parametrize(
    "given",
    [
        {"batch_size": "$2 * 4"},
        {"fitting_size": None},
        {"fitting_size": 3},
        {"learning_rate": 1},
        {"cache_dir": None},
        {"output_dir": Path("out")},
        {"region": [[0, 1], [0, 1], [0, 1]]},
        {"device": "cpu"},
        {"unknown": object()},
    ],
)
def test_expressions_numbers_and_paths_pass(given):
    refuse_wrong_kinds(given, OWN)


@pytest.mark.parametrize("given", ["cuda", "$'cuda'", "$torch.device('cuda', 0)"])
def test_a_missing_device_is_named_with_those_that_are_there(monkeypatch, given):
    pretend(monkeypatch, "mps")
    with pytest.raises(ValueError, match=r"`device` is 'cuda(:0)?', which .* has: mps:0, cpu\. Give one of these"):
        preflight.check(config=parser(device=given, imports=["$import torch"]))


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: str(path.relative_to(BUNDLES)))
def test_no_overlay_of_ours_changes_the_kind_of_a_value(path):
    bundle = BUNDLES / path.relative_to(BUNDLES).parts[0]
    names = ("evaluate", "train", "inference")
    own = {k: v for name in names for k, v in load(bundle / "configs" / f"{name}.yaml").items()}
    refuse_wrong_kinds(load(path), own)


def load(path: Path) -> dict:
    return ConfigParser.load_config_file(path)


@pytest.mark.parametrize("name", ["output_dir", "models_dir", "cache_dir"])
def test_a_training_into_the_folder_of_another_one_is_refused(tmp_path, name):
    owner = {"pid": 1, "host": "another", "started": 0}
    (tmp_path / f".{name}.lock").write_text(json.dumps(owner))
    places = {n: str(tmp_path / n) for n in ("output_dir", "models_dir", "cache_dir")}
    config = ConfigParser({"train": {}, "bundle_root": str(tmp_path), "run": [f"@{n}" for n in places], **places})
    try:
        with pytest.raises(ValueError, match=f"`{name}` '.*{name}' is in use by process 1 on another: two trainings"):
            check(config=config)
    finally:
        release_claims()
    (tmp_path / f".{name}.lock").unlink()
    check(config=config)
    assert len(list(tmp_path.glob(".*.lock"))) == 3
    release_claims()
    assert not list(tmp_path.glob(".*.lock"))


@pytest.mark.parametrize("root", sorted(BUNDLES.iterdir()), ids=lambda root: root.name)
def test_the_defaults_of_an_evaluation_are_of_the_right_kinds(root):
    evaluation = ConfigParser()
    evaluation.read_config([str(root / "configs" / name) for name in ("inference.yaml", "evaluate.yaml")])
    evaluation["bundle_root"] = str(root)
    preflight.check(config=evaluation)


def test_a_component_is_not_replaced_by_a_word():
    own = {"guard": {"_target_": "common.transforms.Guards"}, "guards": "refuse", "read": {"_target_": "LoadImaged"}}
    refuse_wrong_kinds({"guard": {"_target_": "Identity"}, "read": None, "guards": "warn"}, own)
    refuse_wrong_kinds({"guard": "$lambda item: item", "read": "@other"}, own)
    with pytest.raises(
        ValueError, match=r"`guard` must be a section, as it is a component, got 'warn'\. Did you mean 'guards'"
    ):
        refuse_wrong_kinds({"guard": "warn"}, own)
    with pytest.raises(ValueError, match=r"`read` must be a section, as it is a component, got True\.$"):
        refuse_wrong_kinds({"read": True}, own)


def test_ctrl_c_ends_in_one_line(capsys):
    error = RuntimeError("evaluating")
    error.__cause__ = KeyboardInterrupt()
    for stopped in (KeyboardInterrupt(), error):
        preflight._print_root_message(type(stopped), stopped, None)
        assert capsys.readouterr().err == "\nstopped: files that were finished are complete, nothing else is left.\n"
