"""The option `--runtime openvino`: another program computes a network on a CPU, in float32, with the same numbers."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from ..networks.with_target import WithTarget
from .precision import BFLOAT16

logger = logging.getLogger(__name__)

TORCH, OPENVINO = "torch", "openvino"
TOLERANCE = 1e-4  # of the output in [-1, 1], relative to its largest value: 0.2 HU of a range of 4095
KEPT = 8  # compiled models, one for each shape of the input
Forward = Callable[..., torch.Tensor]
Compiler = Callable[[nn.Module, tuple[torch.Tensor, ...]], Forward]


class SetRuntime:
    """A handler that decides at the start of a run, after the weights and the precision are set, what computes.

    `torch` is PyTorch. `openvino` is OpenVINO's CPU plugin in float32, from the extra `openvino`. PyTorch computes
    after all, and the log says so, if the package is missing, the device is not a CPU, the network computes in bfloat16
    (`--precision fast`), or the network cannot be converted, or its output differs by more than `TOLERANCE`, which is
    tested on the first images of each shape.

    Args:
        network: Network from images (B, C, H, W) to images.
        runtime: Runtime, `torch` or `openvino`.
        facts: Facts of the run for JSON, to which `runtime` is added unless it is PyTorch; `precision` is read.

    Raises:
        ValueError: If `runtime` is neither.
    """

    def __init__(self, network: nn.Module, runtime: str, facts: dict[str, Any] | None = None) -> None:
        if runtime not in (TORCH, OPENVINO):
            raise ValueError(f"`runtime` must be {TORCH!r} or {OPENVINO!r}, got {runtime!r}.")
        self.network, self.runtime = network, runtime
        self.facts = {} if facts is None else facts

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda engine: self.decide(engine.state.device))

    def decide(self, device: str | torch.device) -> str:
        """Set what computes the network on a device, and return it."""
        network = self.network.network if isinstance(self.network, WithTarget) else self.network
        if self.runtime == OPENVINO and (why := self._obstacle(network, torch.device(device))):
            logger.warning(f"`--runtime openvino`: {why}; PyTorch computes.")
        elif self.runtime == OPENVINO:
            network.forward = Compiled(network, openvino_forward)  # removed again by `in_float32`
            self.facts["runtime"] = OPENVINO
            return OPENVINO
        self.facts.pop("runtime", None)
        return TORCH

    def _obstacle(self, network: nn.Module, device: torch.device) -> str | None:
        if device.type != "cpu":
            return f"it is for the CPU, and the device is {device}"
        if isinstance(network, torch.jit.ScriptModule):
            return "the network is a TorchScript program"
        if self.facts.get("precision", {}).get("body") == BFLOAT16:
            return "the network computes in bfloat16 (`--precision fast`)"
        try:
            importlib.import_module("openvino")
        except ImportError:
            return "the package `openvino` is missing, install it with pip"
        return None


class Compiled:
    """A network's `forward` that is compiled for each shape of its inputs, and compared with the network first.

    While a layer has hooks, as in `fitting_batch_size`, the network itself computes.

    Args:
        network: Network whose own `forward` computes what cannot be compiled.
        compiler: Function from the network and tensors to a function of such tensors.

    Example:
        >>> network = nn.Conv2d(1, 1, 1)
        >>> compiled = Compiled(network, lambda network, inputs: lambda image: network(image))
        >>> bool((compiled(torch.ones(1, 1, 2, 2)) == network(torch.ones(1, 1, 2, 2))).all())
        True
    """

    def __init__(self, network: nn.Module, compiler: Compiler) -> None:
        self.network, self.compiler = network, compiler
        self.models: dict[tuple[Any, ...], Forward] = {}
        self.failed = False

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        if self.failed or any(layer._forward_hooks for layer in self.network.modules()):
            return self._plain(*inputs)
        shapes = tuple(tuple(part.shape) for part in inputs)
        if shapes in self.models:
            return self.models[shapes](*inputs)
        expected = self._plain(*inputs)
        try:
            found = self._model(inputs)
            difference = float((found(*inputs) - expected).abs().max() / expected.abs().max().clamp(min=1))
        except Exception as error:  # whatever another program may raise
            self.failed = True
            logger.warning(f"`--runtime openvino` cannot compute this network ({error}); PyTorch computes.")
            return expected
        if not difference <= TOLERANCE:
            self.failed = True
            logger.warning(
                f"`--runtime openvino`: its output differs by {difference:.2g}, {TOLERANCE:g} are allowed; PyTorch"
                " computes."
            )
            return expected
        if len(self.models) >= KEPT:
            del self.models[next(iter(self.models))]
        self.models[shapes] = found
        return expected

    def _plain(self, *inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = type(self.network).forward(self.network, *inputs)
        return output

    def _model(self, inputs: tuple[torch.Tensor, ...]) -> Forward:
        own = self.network.__dict__.pop("forward", None)  # what is converted is the network itself
        try:
            return self.compiler(self.network, inputs)
        finally:
            if own is not None:
                self.network.__dict__["forward"] = own


def openvino_forward(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Forward:
    """Return a network as a function that OpenVINO computes on the CPU in float32, with as many threads as PyTorch.

    Args:
        network: Network in evaluation mode.
        inputs: Its inputs, whose shapes are fixed.
    """
    import openvino

    plain = tuple(part.as_subclass(torch.Tensor) for part in inputs)
    model = openvino.convert_model(network, example_input=plain, input=[list(part.shape) for part in plain])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    settings["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
    compiled = openvino.Core().compile_model(model, "CPU", settings)

    def forward(*inputs: torch.Tensor) -> torch.Tensor:
        arrays = [part.as_subclass(torch.Tensor).numpy() for part in inputs]
        return torch.from_numpy(compiled(arrays)[0].copy())

    return forward
