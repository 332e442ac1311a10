"""Devices that networks run on: which are available, which is the default, and what each supports."""

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
BACKENDS = {"cuda": "nccl", "xpu": "xccl"}  # gloo elsewhere
NARROWER = {torch.float64: torch.float32, torch.complex128: torch.complex64}

logger = logging.getLogger(__name__)


def default_device() -> torch.device:
    """Return the accelerator that PyTorch finds on this machine, else the CPU: the default `device` of the bundles.

    Example:
        >>> default_device().type in available_devices()[0]
        True
    """
    if hasattr(torch, "accelerator"):  # since torch 2.6
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device(CPU if found is None else found.type)
    return torch.device(next((kind for kind in KINDS if _count(kind)), CPU))


def available_devices() -> list[str]:
    """Return the names of the available devices: accelerators first, the CPU last.

    Example:
        >>> available_devices()[-1]
        'cpu'
    """
    kinds = dict.fromkeys([default_device().type, *KINDS])
    return [f"{kind}:{number}" for kind in kinds if kind != CPU for number in range(_count(kind))] + [CPU]


def check_device(device: Any) -> torch.device:
    """Check that a device exists on this machine.

    Args:
        device: `cpu`, `cuda`, `cuda:1`, `mps`, `xpu` or another name that PyTorch knows, or a `torch.device`.

    Raises:
        ValueError: If it does not; the message names the value and the available devices.

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
    """Return the device of this process under `torchrun`: the accelerator of number `LOCAL_RANK`, else the CPU.

    Several processes on a Mac run on its CPU, since they could not exchange tensors on its one GPU.

    Raises:
        ValueError: If there are more processes than accelerators.
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
    """Make a device the current one of its kind, on which libraries place tensors by default."""
    device = torch.device(device)
    if device.type in ("cuda", "xpu") and device.index is not None:
        _module(device.type).set_device(device)


def join_processes(device: str | torch.device) -> None:
    """Join the processes that `torchrun` started, each with its own device.

    Args:
        device: Device of this process, which determines the communication backend.
    """
    use_device(device)
    distributed.init_process_group(communication_backend(device))


def communication_backend(device: str | torch.device) -> str:
    """Return the communication backend: NCCL between NVIDIA's devices, XCCL between Intel's, gloo elsewhere.

    Example:
        >>> communication_backend("cpu")
        'gloo'
    """
    backend = BACKENDS.get(torch.device(device).type)
    return backend if backend is not None and distributed.is_backend_available(backend) else "gloo"


def has_float64(device: str | torch.device) -> bool:
    """Return whether a device computes in double precision: Apple's do not, nor do some of Intel's.

    Example:
        >>> has_float64("cpu"), has_float64("mps")
        (True, False)
    """
    device = torch.device(device)
    if device.type == "xpu" and _count("xpu"):
        return bool(getattr(torch.xpu.get_device_properties(device), "has_fp64", True))
    return device.type != "mps"


def to_device(tensor: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """Move a tensor to a device; double precision becomes single if the device lacks it, which is logged once.

    Example:
        >>> to_device(torch.zeros(1, dtype=torch.float64), "cpu").dtype
        torch.float64
    """
    device = torch.device(device)
    if tensor.dtype in NARROWER and not has_float64(device):
        _say_once(f"The device {device} has no double precision: {tensor.dtype} becomes {NARROWER[tensor.dtype]}.")
        tensor = tensor.to(NARROWER[tensor.dtype])
    # Except with CUDA, a non-blocking copy may be read before it has arrived.
    return tensor.to(device, non_blocking=device.type == "cuda")


def has_autocast(device: str | torch.device) -> bool:
    """Return whether PyTorch supports mixed precision on a device.

    Example:
        >>> has_autocast("cpu")
        True
    """
    return bool(torch.amp.is_autocast_available(torch.device(device).type))


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which operations on `device` keep the types of their inputs."""
    return torch.autocast(device.type, enabled=False) if has_autocast(device) else nullcontext()


def multiplies_bfloat16(device: str | torch.device) -> bool:
    """Return whether a device multiplies bfloat16 natively; False if PyTorch cannot tell."""
    kind = torch.device(device).type
    if kind == CPU:
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    supported: Callable[..., bool] | None = getattr(_module(kind), "is_bf16_supported", None)
    return supported is not None and supported(including_emulation=False)


def free_memory(device: str | torch.device) -> int | None:
    """Return the free memory of a device in bytes; None if the system does not say."""
    device = torch.device(device)
    if device.type == CPU:
        return available_memory()
    if device.type == "mps":  # the CPU's memory, of which the GPU may use a part
        left, free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory(), available_memory()
        return left if free is None else min(left, free)
    info = getattr(_module(device.type), "mem_get_info", None)
    try:
        return None if info is None else int(info(device)[0])
    except RuntimeError:  # some of Intel's drivers do not say
        return None


def accelerator_name() -> str | None:
    """Return the name of this machine's accelerator, for run records; None if there is none."""
    kind = default_device().type
    if kind == CPU:
        return None
    name = getattr(_module(kind), "get_device_name", None)
    return kind if name is None else str(name())


def peak_accelerator_memory_mb() -> int | None:
    """Return PyTorch's peak memory on this process's accelerator in MiB; None if it is not counted."""
    kind = default_device().type
    peak = None if kind == CPU else getattr(_module(kind), "max_memory_allocated", None)
    return None if peak is None else round(peak() / 2**20)


def _count(kind: str) -> int:
    """Return the number of devices of a kind."""
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = _module(kind)
    return int(module.device_count()) if hasattr(module, "device_count") and module.is_available() else 0


def _module(kind: str) -> Any:
    """Return PyTorch's module for a kind of device; None if it has none."""
    return getattr(torch, kind, None)


@functools.cache
def _say_once(message: str) -> None:
    logger.warning(message)
