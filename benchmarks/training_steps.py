"""The bundles' own training steps, as their `train.yaml` builds them, on random images; for `train_step.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from measuring import ROOT
from monai.bundle import ConfigParser
from torch import nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from common.methods import TranslationMethod

STARGANS = ("ggcl", "kcgan_kernel_conversion")
OPTIMIZERS = ("optimizer", "discriminator_optimizer")

# Paper-size networks at the papers' sizes, unless 2 cores would take minutes for a step: then smaller images, as said.
SIZES: dict[str, dict[str, Any]] = {
    "ggcl": {"image_size": 256, "batch_size": 2},  # paper: 512
    "kcgan_kernel_conversion": {"image_size": 256, "batch_size": 2},  # paper: 512
    "nect2cect": {"image_size": 128, "batch_size": 2},  # paper: 256, batch 4
    "sr_cyclegan": {"patch_size": 32, "batch_size": 4},
    "nec_t1t2": {"image_size": 256, "batch_size": 1},
}
SMALL: dict[str, dict[str, Any]] = {
    "ggcl": {"image_size": 128, "batch_size": 2, "channels": 16, "discriminator_channels": 8, "num_res_blocks": 2},
    "kcgan_kernel_conversion": {
        "image_size": 128, "batch_size": 2, "channels": 16, "discriminator_channels": 8, "num_res_blocks": 2,
    },
    "nect2cect": {
        "image_size": 64, "batch_size": 2, "channels": [32, 32, 16, 16], "discriminator_channels": [16, 16, 16, 16],
        "spade_channels": 16, "classifier_width": 8,
    },
    "sr_cyclegan": {
        "patch_size": 32, "batch_size": 1, "channels": 16, "num_res_blocks": 2, "discriminator_channels": 8,
    },
    "nec_t1t2": {
        "image_size": 256, "batch_size": 1, "num_res_units": 1, "network_def#channels": [8] * 8,
        "discriminator_def#channels": 8,
    },
}  # fmt: skip

WITHOUT_STAGES = {  # untrained networks instead of those of the stages before
    "remover_def": "%network_def",
    "remover": "$@remover_def.to(@device)",
    "classifier_def": {"_target_": "common.networks.VGG16BN", "width": "@classifier_width"},
    "classifier": "$@classifier_def.to(@device)",
}


@dataclass
class Engine:
    """
    What a method asks of the trainer, in its shortest form.

    Args:
        amp: bfloat16 autocast.
        epoch: from 1; NEC's first has a term of its own.
        step: from 1; StarGAN's generator learns in every fifth.
        device: kind of the device.
    """

    amp: bool = False
    epoch: int = 2
    step: int = 1
    device: str = "cpu"

    def autocast(self) -> AbstractContextManager:
        """bfloat16, where it is on."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.amp)

    def update(self, optimizer: Optimizer | Sequence[Optimizer], loss: torch.Tensor) -> None:
        """One step down a loss."""
        optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
        loss.backward()
        for each in optimizers:
            each.step()
            each.zero_grad()


def build(
    bundle: str, options: Mapping[str, Any], *, plain: bool, seed: int = 0, device: str | torch.device = "cpu"
) -> TranslationMethod:
    """
    A bundle's method with its networks and optimizers; equal seeds give equal weights.

    Args:
        bundle: its folder's name.
        options: ids of `train.yaml` and their values.
        plain: Adam that steps one tensor after another, as torch's does on a CPU unless told.
        seed: of the weights.
        device: of the networks.
    """
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundles" / bundle / "configs" / "train.yaml"))
    parser.update({name: value for name, value in options.items() if name not in ("batch_size", "patch_size")})
    parser["device"] = f"$torch.device('{device}')"
    if plain:
        for name in OPTIMIZERS:
            parser[f"{name}#fused"] = False
            parser[f"{name}#foreach"] = False
    torch.manual_seed(seed)
    if bundle == "nect2cect":
        parser.update(WITHOUT_STAGES)
    method: TranslationMethod = parser.get_parsed_content("method")
    return method


def batch(bundle: str, options: Mapping[str, Any], *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random images in [-1, 1] of a bundle's shapes."""
    random = torch.Generator().manual_seed(seed)
    number = options["batch_size"]

    def images(side: int, channels: int = 1) -> torch.Tensor:
        return torch.rand(number, channels, side, side, generator=random) * 2 - 1

    if bundle in STARGANS:
        return {"image": images(options["image_size"]), "domain": torch.arange(number) % 3}
    if bundle == "sr_cyclegan":
        return {"source": images(options["patch_size"]), "target": images(8 * options["patch_size"])}
    channels = 3 if bundle == "nect2cect" else 1
    return {name: images(options["image_size"], channels) for name in ("source", "target")}


def trainable_parameters(networks: Iterable[nn.Module]) -> int:
    """Weights of networks that are trained."""
    return sum(p.numel() for network in networks for p in network.parameters() if p.requires_grad)


def count_flops(call: Callable[[], Any]) -> int:
    """Operations of a call, two a multiply-add, of products and convolutions alone, gradients included."""
    with _FlopCounter() as counter:
        call()
    return counter.total


class _FlopCounter(TorchDispatchMode):
    """`torch.utils.flop_counter.FlopCounterMode`, which refuses a gradient of a gradient, without its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=output)
        return output
