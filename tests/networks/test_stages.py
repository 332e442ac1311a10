from __future__ import annotations

import hashlib
import re

import pytest
import torch
from torch.testing import assert_close

from common.networks import SPADEGenerator, load_stage, save_definition

COMMAND = "python -m monai.bundle run training --config_file configs/train_contrast_removal.yaml"


def build(seed=0):
    torch.manual_seed(seed)
    return SPADEGenerator(channels=(4, 4), num_groups=2, spade_channels=2)


def save(folder, network, **facts):
    folder.mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / "model.pt")
    checksum = hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
    save_definition(folder / "network.json", network, **{"checksum": checksum, **facts})


@pytest.mark.parametrize("as_text", [False, True])
def test_the_network_comes_back_frozen_and_in_eval(tmp_path, as_text):
    network, image = build(1), torch.randn(1, 3, 12, 9)
    save(tmp_path, network)
    stage = load_stage(str(tmp_path) if as_text else tmp_path, made_by=COMMAND)
    assert type(stage) is SPADEGenerator
    assert stage.arguments == network.arguments
    assert_close(stage(image), network(image), rtol=0, atol=0)
    assert not any(module.training for module in stage.modules())
    assert not any(parameter.requires_grad for parameter in stage.parameters())


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        ([], "network.json and model.pt are missing"),
        (["model.pt"], "network.json is missing"),
        (["network.json"], "model.pt is missing"),
    ],
)
def test_a_missing_stage_names_the_folder_and_the_command_that_makes_it(tmp_path, present, missing):
    folder = tmp_path / "remover"
    save(folder, build())
    for name in {"network.json", "model.pt"} - set(present):
        (folder / name).unlink()
    message = f"{folder} must hold the network of the stage before, but {missing}. Make it first: {COMMAND}"
    with pytest.raises(FileNotFoundError, match=rf"^{re.escape(message)}$"):
        load_stage(folder, made_by=COMMAND)


def test_weights_of_another_training_are_refused(tmp_path):
    save(tmp_path, build(1))
    torch.save(build(2).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"must be the file whose checksum network\.json holds") as e:
        load_stage(tmp_path, made_by=COMMAND)
    assert str(tmp_path / "model.pt") in str(e.value)
    assert COMMAND in str(e.value)


def test_a_definition_without_a_checksum_is_taken(tmp_path):
    save(tmp_path, build(1), checksum=None)
    assert_close(load_stage(tmp_path, made_by=COMMAND).state_dict(), build(1).state_dict(), rtol=0, atol=0)
