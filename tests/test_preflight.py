"""Mistyped overrides are refused, with the nearest valid id."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from common import preflight

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


def test_a_new_id_that_something_refers_to_is_valid():
    preflight.check(config=parser(**{"extra": 3, "train#rate": "$@extra + 1", "learning_rate": "@train#rate"}))


def test_missing_path_names_it_and_the_cure(tmp_path):
    with pytest.raises(FileNotFoundError, match="--dataset_dir"):
        preflight.check(config=parser(), exists=tmp_path / "nothing")
    (tmp_path / "scan_T1.nii").touch()
    preflight.check(config=parser(), exists=str(tmp_path / "*_T1*"))


def bundle(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


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
