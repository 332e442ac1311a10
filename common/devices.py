"""The device that networks run on: what is there, what is chosen where nothing is said, and what it cannot do."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import distributed

from .memory import available_memory

CPU = "cpu"
KINDS = ("cuda", "xpu", "mps")  # NVIDIA or AMD, Intel, Apple
BACKENDS = {"cuda": "nccl", "xpu": "xccl"}  # what processes talk through; gloo elsewhere
NARROWER = {torch.float64: torch.float32, torch.complex128: torch.complex64}

logger = logging.getLogger(__name__)


def default_device() -> torch.device:
    """The accelerator that PyTorch finds on this machine, else the processor: what the bundles' `device` is.

    Example:
        >>> default_device().type in available_devices()[0]
        True
    """
    if hasattr(torch, "accelerator"):  # since torch 2.6
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device(CPU if found is None else found.type)
    return torch.device(next((kind for kind in KINDS if _count(kind)), CPU))


def available_devices() -> list[str]:
    """The devices that can be named here: the accelerators first, the processor last.

    Example:
        >>> available_devices()[-1]
        'cpu'
    """
    kinds = dict.fromkeys([default_device().type, *KINDS])
    return [f"{kind}:{number}" for kind in kinds if kind != CPU for number in range(_count(kind))] + [CPU]


def check_device(device: Any) -> torch.device:
    """Refuse what is no device, or is not on this machine.

    Args:
        device: `cpu`, `cuda`, `cuda:1`, `mps`, `xpu` or another name that PyTorch knows, or a `torch.device`.

    Raises:
        ValueError: naming the value and the devices that are there.

    Example:
        >>> check_device("gpu")
        Traceback (most recent call last):
        ...
        ValueError: `device` must be 'cpu', 'cuda', 'cuda:1', 'mps' or 'xpu', got 'gpu'. This machine has: ...
    """
    there = f"This machine has: {', '.join(available_devices())}. Give one of these, or leave `device` out."
    try:
        if not isinstance(device, (str, torch.device)):
            raise RuntimeError("a device is named by a text")
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"`device` must be 'cpu', 'cuda', 'cuda:1', 'mps' or 'xpu', got {device!r}. {there}"
        ) from error
    if (found.index or 0) >= (1 if found.type == CPU else _count(found.type)):
        raise ValueError(f"`device` is {str(found)!r}, which PyTorch {torch.__version__} does not find. {there}")
    return found


def rank_device() -> torch.device:
    """The device of this process of a `torchrun`: the accelerator of number `LOCAL_RANK`, else the processor.

    Several processes on a Mac run on its processor, since they could not exchange what lies on its one GPU.

    Raises:
        ValueError: when there are more processes than accelerators.
    """
    kind = default_device().type
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if kind == CPU or (kind == "mps" and int(os.environ.get("WORLD_SIZE", "1")) > 1):
        return torch.device(CPU)
    if rank >= _count(kind):
        raise ValueError(
            f"Process {rank} of this machine has no device of its own: there are {_count(kind)} ({kind}). Give"
            f" `--nproc_per_node {_count(kind)}` to `torchrun`, or `--device cpu`."
        )
    return torch.device(kind, rank)


def use_device(device: str | torch.device) -> None:
    """Make a device the current one of its kind, which is where libraries put what they are not told about."""
    device = torch.device(device)
    if device.type in ("cuda", "xpu") and device.index is not None:
        _module(device.type).set_device(device)


def join_processes(device: str | torch.device) -> None:
    """Join the processes that `torchrun` started, each with its own device.

    Args:
        device: this process's; it decides what the processes talk through.
    """
    use_device(device)
    distributed.init_process_group(communication_backend(device))


def communication_backend(device: str | torch.device) -> str:
    """What processes talk through: NCCL between NVIDIA's devices, XCCL between Intel's, gloo elsewhere.

    Example:
        >>> communication_backend("cpu")
        'gloo'
    """
    backend = BACKENDS.get(torch.device(device).type)
    return backend if backend is not None and distributed.is_backend_available(backend) else "gloo"


def has_float64(device: str | torch.device) -> bool:
    """Whether a device computes in double precision: Apple's does not, nor do some of Intel's.

    Example:
        >>> has_float64("cpu"), has_float64("mps")
        (True, False)
    """
    device = torch.device(device)
    if device.type == "xpu" and _count("xpu"):
        return bool(getattr(torch.xpu.get_device_properties(device), "has_fp64", True))
    return device.type != "mps"


def to_device(tensor: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """Put a tensor on a device; double precision becomes single where the device has none, which the log says once.

    Example:
        >>> to_device(torch.zeros(1, dtype=torch.float64), "cpu").dtype
        torch.float64
    """
    device = torch.device(device)
    if tensor.dtype in NARROWER and not has_float64(device):
        _say_once(f"The device {device} has no double precision: {tensor.dtype} becomes {NARROWER[tensor.dtype]}.")
        tensor = tensor.to(NARROWER[tensor.dtype])
    # Elsewhere than with CUDA a copy that is not waited for may be read before it has arrived.
    return tensor.to(device, non_blocking=device.type == "cuda")


def has_autocast(device: str | torch.device) -> bool:
    """Whether PyTorch has mixed precision for a device.

    Example:
        >>> has_autocast("cpu")
        True
    """
    return bool(torch.amp.is_autocast_available(torch.device(device).type))


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Inside, operations on `device` keep the types of what they are given."""
    return torch.autocast(device.type, enabled=False) if has_autocast(device) else nullcontext()


def multiplies_bfloat16(device: str | torch.device) -> bool:
    """Whether a device does so by itself; where PyTorch cannot tell, it does not."""
    kind = torch.device(device).type
    if kind == CPU:
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    supported: Callable[..., bool] | None = getattr(_module(kind), "is_bf16_supported", None)
    return supported is not None and supported(including_emulation=False)


def free_memory(device: str | torch.device) -> int | None:
    """Bytes that are free on a device; None where the system does not tell."""
    device = torch.device(device)
    if device.type == CPU:
        return available_memory()
    if device.type == "mps":  # the processor's memory, of which the GPU may have a part
        left, free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory(), available_memory()
        return left if free is None else min(left, free)
    info = getattr(_module(device.type), "mem_get_info", None)
    try:
        return None if info is None else int(info(device)[0])
    except RuntimeError:  # some of Intel's drivers do not tell
        return None


def accelerator_name() -> str | None:
    """The name of this machine's accelerator, for the record; None where there is none."""
    kind = default_device().type
    if kind == CPU:
        return None
    name = getattr(_module(kind), "get_device_name", None)
    return kind if name is None else str(name())


def peak_accelerator_memory_mb() -> int | None:
    """The most memory that PyTorch has had on this process's accelerator, in MiB; None where it does not count."""
    kind = default_device().type
    peak = None if kind == CPU else getattr(_module(kind), "max_memory_allocated", None)
    return None if peak is None else round(peak() / 2**20)


def _count(kind: str) -> int:
    """How many devices of a kind are there."""
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = _module(kind)
    return int(module.device_count()) if hasattr(module, "device_count") and module.is_available() else 0


def _module(kind: str) -> Any:
    """PyTorch's part for a kind of device; None where it has none."""
    return getattr(torch, kind, None)


@functools.cache
def _say_once(message: str) -> None:
    logger.warning(message)
