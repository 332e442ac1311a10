"""Devices that this machine does not have: what PyTorch says of them, and a stand-in that knows no double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

NAMING = (torch.device, torch._C._nn._parse_to)  # they take a device's name and move nothing
WIDE = (torch.float64, torch.complex128)


def pretend(monkeypatch: pytest.MonkeyPatch, kind: str | None, count: int = 1) -> None:
    """Let PyTorch say that it has `count` devices of a kind and no others; None: the processor alone."""
    accelerator = None if kind is None else torch.device(kind)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: kind is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: accelerator)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")
    for name in ("cuda", "xpu"):
        monkeypatch.setattr(getattr(torch, name), "is_available", lambda name=name: kind == name)
        monkeypatch.setattr(getattr(torch, name), "device_count", lambda: count)


class Imitation(TorchFunctionMode):
    """
    Computes on the processor what is sent to a device that is not there, and refuses float64 as Apple's does.

    Args:
        kind: of the device.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.sent: list[torch.dtype] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in NAMING:
            return func(*args, **(kwargs or {}))
        there = False

        def here(value: Any) -> Any:
            nonlocal there
            if not isinstance(value, (str, torch.device)) or str(value).partition(":")[0] != self.kind:
                return value
            there = True
            return torch.device("cpu")

        result = func(*map(here, args), **{name: here(value) for name, value in (kwargs or {}).items()})
        for tensor in _pytree.tree_leaves(result) if there else []:
            if isinstance(tensor, torch.Tensor):
                self.sent.append(tensor.dtype)
                if tensor.dtype in WIDE:
                    raise TypeError(f"Cannot convert a tensor to {tensor.dtype}: {self.kind} does not support it.")
        return result
