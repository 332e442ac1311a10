"""The classifier of enhanced scans, and the loading of a stage."""

from __future__ import annotations

import hashlib
import re

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from common.networks import VGG16BN, SPADEGenerator, load_stage, save_definition


def build(**arguments):
    torch.manual_seed(0)
    return VGG16BN(**{"width": 2, **arguments})


def test_number_of_parameters():
    """VGG16's convolutions have 14,714,688 weights and biases; 4,224 features, each with a bias and two of a norm."""
    with torch.device("meta"):
        network = VGG16BN()
    expected = 14_714_688 - 4_224 + 2 * 4_224 + 2 * (512 + 1)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected == 14_719_938


def test_thirteen_convolutions_each_with_norm_and_activation():
    layers = [layer for stage in build(width=64).stages for layer in stage]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]  # table 1, configuration D
    assert [convolution.out_channels for convolution in convolutions] == widths
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in layers) == 13
    assert sum(isinstance(layer, nn.ReLU) for layer in layers) == 13


@pytest.mark.parametrize(("batch", "size"), [(1, (32, 32)), (2, (33, 64)), (3, (50, 40))], ids=str)
@pytest.mark.parametrize(("in_channels", "num_classes"), [(1, 4), (3, 2)])
def test_one_logit_a_class_for_any_image_size(batch, size, in_channels, num_classes):
    network = build(in_channels=in_channels, num_classes=num_classes)
    assert network(torch.randn(batch, in_channels, *size)).shape == (batch, num_classes)


def test_features_are_those_behind_the_first_four_max_poolings():
    network, image = build().eval(), torch.randn(2, 3, 64, 48)
    recorded = []
    for layer in network.modules():
        if isinstance(layer, nn.MaxPool2d):
            layer.register_forward_hook(lambda _, __, output: recorded.append(output))
    network(image)
    assert len(recorded) == 5
    expected, recorded[:] = recorded[:4], []
    assert_close(network.features(image), expected, rtol=0, atol=0)
    assert [tuple(f.shape) for f in expected] == [(2, 2, 32, 24), (2, 4, 16, 12), (2, 8, 8, 6), (2, 16, 4, 3)]


def test_every_parameter_learns():
    network = build()
    network(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if not p.grad.abs().sum() > 0] == []


def test_torchscript():
    network, image = build().eval(), torch.randn(1, 3, 32, 40)
    assert_close(torch.jit.script(network)(image), network(image))


def test_images_that_do_not_fit_are_refused():
    network = build()
    for method in (network, network.features):
        with pytest.raises(ValueError, match=r"`image` must have 4 dimensions .*, got 5\."):
            method(torch.zeros(1, 3, 32, 32, 32))
        with pytest.raises(ValueError, match=r"at least 32 pixels per side, .*, got 32 x 31: pad or resample it\."):
            method(torch.zeros(1, 3, 32, 31))


@pytest.mark.parametrize("name", ["in_channels", "num_classes", "width"])
def test_arguments_out_of_range(name):
    with pytest.raises(ValueError, match=rf"`{name}` must be >= 1, got 0\."):
        VGG16BN(**{name: 0})


COMMAND = "python -m monai.bundle run training --config_file configs/train_contrast_removal.yaml"


def build_stage(seed=0):
    torch.manual_seed(seed)
    return SPADEGenerator(channels=(4, 4), num_groups=2, spade_channels=2)


def save(folder, network, **facts):
    folder.mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / "model.pt")
    checksum = hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
    save_definition(folder / "network.json", network, **{"checksum": checksum, **facts})


@pytest.mark.parametrize("as_text", [False, True])
def test_the_network_comes_back_frozen_and_in_eval(tmp_path, as_text):
    network, image = build_stage(1), torch.randn(1, 3, 12, 9)
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
    save(folder, build_stage())
    for name in {"network.json", "model.pt"} - set(present):
        (folder / name).unlink()
    message = f"{folder} must hold the network of the stage before, but {missing}. Make it first: {COMMAND}"
    with pytest.raises(FileNotFoundError, match=rf"^{re.escape(message)}$"):
        load_stage(folder, made_by=COMMAND)


def test_weights_of_another_training_are_refused(tmp_path):
    save(tmp_path, build_stage(1))
    torch.save(build_stage(2).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"must be the file whose checksum network\.json holds") as e:
        load_stage(tmp_path, made_by=COMMAND)
    assert str(tmp_path / "model.pt") in str(e.value)
    assert COMMAND in str(e.value)


def test_a_definition_without_a_checksum_is_taken(tmp_path):
    save(tmp_path, build_stage(1), checksum=None)
    assert_close(load_stage(tmp_path, made_by=COMMAND).state_dict(), build_stage(1).state_dict(), rtol=0, atol=0)
