"""Refusing values of a wrong kind for a config's ids: `--batch_size four` would fail deep inside a component."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

EXPRESSIONS = ("$", "@", "%")
WHOLE_NUMBERS = ("_size", "_epochs", "_workers", "_interval")
PLACES = ("_dir", "bundle_root")


def refuse_wrong_kinds(config: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """
    Compares the top-level values of a configuration with those that the bundle's own files give for the same ids.

    A number must stay a number, a switch a switch, a folder a text; expressions pass, as their value is not known yet.

    Args:
        config: merged, with overrides and overlays.
        own: of the bundle's own files.

    Raises:
        ValueError: naming the id, the value and one that would do.

    Example:
        >>> refuse_wrong_kinds({"batch_size": "four"}, {"batch_size": 4})
        Traceback (most recent call last):
        ...
        ValueError: `batch_size` must be a whole number >= 1, such as 4, got 'four'.
    """
    for id_, value in config.items():
        if isinstance(value, str) and value.startswith(EXPRESSIONS):
            continue
        if id_ == "device":
            _check_device(value)
        elif id_.endswith(PLACES):
            if _is_path(value) or (value is None and own.get(id_, "") is None):
                continue
            raise ValueError(f"`{id_}` must be a path, such as '/data/study', got {value!r}.")
        elif id_ in own and (rule := _broken_rule(id_, value, own[id_])) is not None:
            raise ValueError(f"`{id_}` must be {rule}, such as {1 if own[id_] is None else own[id_]}, got {value!r}.")


def _broken_rule(id_: str, value: Any, default: Any) -> str | None:
    """What a value should be, where it is not."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if id_.endswith(WHOLE_NUMBERS) and (default is None or isinstance(default, int)):
        least = 1 if id_ == "batch_size" else 0
        if (value is None and default is None) or (isinstance(value, int) and _is_number(value) and value >= least):
            return None
        return f"a whole number >= {least}"
    if not isinstance(default, (int, float)) or value is None or _is_number(value):
        return None
    return "a number"


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike)) and bool(str(value).strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_device(value: Any) -> None:
    if isinstance(value, torch.device):
        return
    try:
        if not isinstance(value, str):
            raise RuntimeError("a device is named by a text")
        kind = torch.device(value).type
    except RuntimeError as error:
        raise ValueError(f"`device` must be 'cpu' or 'cuda' or 'cuda:1', got {value!r}.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"`device` is {value!r}, but this machine has no CUDA device that PyTorch can use: give 'cpu'."
        )
