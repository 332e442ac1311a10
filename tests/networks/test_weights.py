from __future__ import annotations

import re

import pytest
import torch
from torch.testing import assert_close

from common.networks import CompactGenerator, load_pretrained, load_weights, save_definition


def build(seed=0, channels=(8, 16), **arguments):
    torch.manual_seed(seed)
    return CompactGenerator(channels=channels, num_res_units=0, **arguments)


def assert_untouched(network):
    assert_close(network.state_dict(), build().state_dict(), rtol=0, atol=0)


class Bomb:
    """Unpickling it would write a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("legacy", [False, True])
def test_loads_what_was_saved(tmp_path, legacy):
    path = tmp_path / "model.pt"
    torch.save(build(1).state_dict(), path, _use_new_zipfile_serialization=not legacy)
    network = build(0)
    assert load_weights(network, str(path)) is network
    assert_close(network.state_dict(), build(1).state_dict(), rtol=0, atol=0)


def test_half_precision_weights_are_cast(tmp_path):
    torch.save({name: tensor.half() for name, tensor in build(1).state_dict().items()}, tmp_path / "model.pt")
    network = load_weights(build(), tmp_path / "model.pt")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert_close(network.state_dict(), build(1).state_dict(), rtol=1e-3, atol=1e-4)


def test_missing_file_says_how_to_get_one(tmp_path):
    root = tmp_path / "bundle"
    with pytest.raises(FileNotFoundError) as caught:
        load_weights(build(), root / "models" / "model.pt")
    message = str(caught.value)
    assert message.startswith(f"no weights at {root / 'models' / 'model.pt'}. Train the bundle ")
    assert f"python -m monai.bundle run training --config_file {root / 'configs' / 'train.yaml'}" in message
    assert "download a release" in message


def test_mismatched_sizes_name_the_tensors_and_the_cure(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(build(1, channels=(8, 24)).state_dict(), path)
    network = build()
    with pytest.raises(ValueError, match="must hold the weights of CompactGenerator") as caught:
        load_weights(network, path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "downs.1.conv.weight is (24, 8, 3, 3) in the file and (16, 8, 3, 3) here; downs.1.conv.bias" in message
    assert re.search(r", and 2 more\. models/network\.json and models/model\.pt must travel together", message)
    assert_untouched(network)


def test_missing_and_unexpected_tensors(tmp_path):
    path, state = tmp_path / "model.pt", build(1).state_dict()
    state["tail.bias"] = state.pop("head.bias")
    torch.save(state, path)
    network = build()
    with pytest.raises(ValueError, match=r"head\.bias \(1,\) is missing in the file; tail\.bias \(1,\) is only in the"):
        load_weights(network, path)
    assert_untouched(network)


def test_pickled_module_is_refused(tmp_path):
    path, network = tmp_path / "model.pt", build()
    torch.save(build(1), path)
    with pytest.raises(ValueError, match=r"must be a file of plain tensors .* Pickled modules are refused") as caught:
        load_weights(network, path)
    assert str(path) in str(caught.value)
    assert_untouched(network)


def test_nothing_in_the_file_is_executed(tmp_path):
    path, victim = tmp_path / "model.pt", tmp_path / "victim"
    torch.save({**build(1).state_dict(), "head.bias": Bomb(victim)}, path)
    with pytest.raises(ValueError, match="Pickled modules are refused"):
        load_weights(build(), path)
    assert not victim.exists()


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_truncated_file(tmp_path, kept):
    path, network = tmp_path / "model.pt", build()
    torch.save(build(1).state_dict(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if kept < 1 else kept])
    with pytest.raises(ValueError, match="truncated downloads end here too"):
        load_weights(network, path)
    assert_untouched(network)


def test_training_checkpoint_is_refused(tmp_path):
    path, network = tmp_path / "last.pt", build()
    torch.save({"network": build(1).state_dict(), "epoch": 3}, path)
    message = r"flat dict of name to tensor, but 'network' is of type .*Dict\. .* use the model\.pt that training"
    with pytest.raises(ValueError, match=message):
        load_weights(network, path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match=r"must hold a flat dict of name to tensor, got list\."):
        load_weights(network, path)
    assert_untouched(network)


def trained(folder):
    """A training's two files, without a checksum of the weights."""
    torch.save(build(1).state_dict(), folder / "model.pt")
    save_definition(folder / "network.json", build(1))


def test_a_pretrained_network_is_that_of_its_two_files_and_can_be_trained(tmp_path):
    trained(tmp_path)
    network = load_pretrained(tmp_path)
    assert_close(network.state_dict(), build(1).state_dict(), rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("lost", ["network.json", "model.pt"])
def test_without_one_of_its_files_no_network_is_pretrained(tmp_path, lost):
    trained(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(FileNotFoundError, match=lost if lost == "network.json" else "no weights at"):
        load_pretrained(tmp_path)


def test_weights_of_another_training_are_not_taken_for_pretrained_ones(tmp_path):
    trained(tmp_path)
    save_definition(tmp_path / "network.json", build(1), checksum="0" * 64)
    with pytest.raises(ValueError, match=r"must be the file whose checksum network\.json holds"):
        load_pretrained(tmp_path)
