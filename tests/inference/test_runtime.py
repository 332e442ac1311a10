"""`--runtime openvino`: the numbers of PyTorch, or PyTorch itself and a line in the log."""

from __future__ import annotations

import builtins
import copy
import logging
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from common.inference import SetRuntime, runtime
from common.inference.inferers import fitting_batch_size
from common.inference.precision import in_float32
from common.inference.runtime import Compiled
from common.networks import PhysicsGenerator, UNetGenerator, WithTarget


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 3, padding=1)).eval()


@pytest.fixture
def installed(monkeypatch):
    """A package of that name, and the networks that it was given."""
    given = []

    def forward(network, inputs):
        assert "forward" not in vars(network)  # else it would be converted with itself inside
        given.append(tuple(tuple(part.shape) for part in inputs))
        converted = copy.deepcopy(network)
        return lambda *images: converted(*images) + shift[0]

    shift = [0.0]
    monkeypatch.setitem(sys.modules, "openvino", ModuleType("openvino"))
    monkeypatch.setattr(runtime, "openvino_forward", forward)
    return given, shift


def test_an_unknown_runtime_is_refused():
    with pytest.raises(ValueError, match="`runtime` must be 'torch' or 'openvino', got 'onnx'"):
        SetRuntime(network(), "onnx")


def test_pytorch_leaves_the_network_and_the_facts_alone():
    plain, facts = network(), {"runtime": "openvino"}
    assert SetRuntime(plain, "torch", facts).decide("cpu") == "torch"
    assert "forward" not in vars(plain)
    assert facts == {}


def test_it_is_compiled_for_each_shape_once_and_noted(installed):
    (given, _), plain, facts = installed, network(), {}
    images = [torch.rand(2, 1, 8, 8), torch.rand(1, 1, 8, 8), torch.rand(2, 1, 8, 8)]
    expected = [plain(image) for image in images]
    assert SetRuntime(plain, "openvino", facts).decide("cpu") == "openvino"
    assert facts == {"runtime": "openvino"}
    with torch.no_grad():
        for image, wanted in zip(images, expected):
            torch.testing.assert_close(plain(image), wanted)
        assert given == [((2, 1, 8, 8),), ((1, 1, 8, 8),)]
        in_float32(plain)  # as at the start of the next run
        torch.testing.assert_close(plain(images[0]), expected[0])


def test_the_compiled_network_computes_once_it_was_compared(installed):
    (_, shift), plain = installed, network()
    SetRuntime(plain, "openvino").decide("cpu")
    image = torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        first = plain(image)
        shift[0] = 1.0
        torch.testing.assert_close(plain(image), first + 1.0)


@pytest.mark.parametrize("error", [2e-4, float("nan")])
def test_other_numbers_are_not_used(installed, caplog, error):
    (given, shift), plain = installed, network()
    image = torch.rand(1, 1, 8, 8)
    expected = plain(image)
    SetRuntime(plain, "openvino").decide("cpu")
    shift[0] = error
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        assert all(torch.equal(plain(image), expected) for _ in range(3))
    assert len(given) == 1
    assert [record.message for record in caplog.records] == [
        f"`--runtime openvino`: its output differs by {error:.2g}, 0.0001 are allowed; PyTorch computes."
    ]


def test_a_network_that_cannot_be_converted_is_computed_by_pytorch(installed, caplog, monkeypatch):
    def fail(network, inputs):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(runtime, "openvino_forward", fail)
    plain, image = network(), torch.rand(1, 1, 8, 8)
    expected = plain(image)
    SetRuntime(plain, "openvino").decide("cpu")
    with caplog.at_level(logging.WARNING):
        assert all(torch.equal(plain(image), expected) for _ in range(2))
    assert [record.message for record in caplog.records] == [
        "`--runtime openvino` cannot compute this network (no such operator); PyTorch computes."
    ]


def test_where_it_cannot_be_used_the_log_says_why(installed, caplog, monkeypatch):
    found, plain = [], network()
    with caplog.at_level(logging.WARNING):
        found.append(SetRuntime(plain, "openvino").decide("cuda"))
        found.append(SetRuntime(plain, "openvino", {"precision": {"body": "bfloat16"}}).decide("cpu"))
        found.append(SetRuntime(torch.jit.trace(plain, torch.rand(1, 1, 8, 8)), "openvino").decide("cpu"))
        monkeypatch.delitem(sys.modules, "openvino")
        real = builtins.__import__
        monkeypatch.setattr(runtime.importlib, "import_module", lambda name: real("no.such.package"))
        found.append(SetRuntime(plain, "openvino").decide("cpu"))
    assert found == ["torch"] * 4
    assert "forward" not in vars(plain)
    reasons = ["the device is cuda", "computes in bfloat16", "TorchScript", "the package `openvino` is missing"]
    assert all(reason in record.message for reason, record in zip(reasons, caplog.records, strict=True))


def test_the_demand_of_memory_is_measured_on_the_network_itself(installed):
    (given, _), plain = installed, network()
    SetRuntime(plain, "openvino").decide("cpu")
    assert fitting_batch_size(plain, torch.zeros(1, 1, 8, 8)) == 2
    assert given == []


def test_a_bound_generator_keeps_its_runtime_for_another_source(installed):
    given, _ = installed
    bound = WithTarget(PhysicsGenerator(3, channels=4, num_res_blocks=1), [0.0, 0.0, 1.0]).eval()
    SetRuntime(bound, "openvino").decide("cpu")
    other = bound.from_source([1.0, 0.0, 0.0], 0.7)
    with torch.no_grad():
        other(torch.rand(1, 1, 32, 32))
    assert given == [((1, 1, 32, 32), (1, 7))]


def test_no_more_than_some_models_are_kept():
    compiled = Compiled(network(), lambda network, inputs: lambda image: network(image))
    with torch.no_grad():
        for size in range(3, 3 + 2 * runtime.KEPT):
            compiled(torch.rand(1, 1, size, 3))
    assert len(compiled.models) == runtime.KEPT


@pytest.mark.parametrize("kind", ["u-net", "physics"])
def test_openvino_computes_what_pytorch_does(kind, caplog):
    pytest.importorskip("openvino", reason="openvino (the extra `openvino`) is not installed")
    torch.manual_seed(0)
    unet = UNetGenerator(in_channels=3, out_channels=1, channels=[4, 8, 8, 8, 8])
    physics = WithTarget(PhysicsGenerator(3, channels=4, num_res_blocks=1), [0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.7])
    plain, channels = (unet, 3) if kind == "u-net" else (physics, 1)
    plain.eval()
    images = torch.rand(2, channels, 40, 33) * 2 - 1
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        expected = plain(images)
        assert SetRuntime(plain, "openvino").decide("cpu") == "openvino"
        plain(images)  # compiles
        found = plain(images)
    assert not caplog.records
    assert 0 < (found - expected).abs().max() < runtime.TOLERANCE
