"""Loading a network's weights from a file of plain tensors, completely or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..files import checksum
from ..tensor_files import DamagedFileError, read_tensors
from .definition import definition_path, load_definition, read_definition

Network = TypeVar("Network", bound=nn.Module)

_SHOWN = 3  # mismatches named in the error; the rest is counted


def load_weights(network: Network, path: str | Path) -> Network:
    """Copy a flat state dict (`model.pt`) into `network` and return it.

    The file is read with `weights_only=True`: nothing in it is executed. Every name and shape is compared first, so
    a file that does not fit leaves the network unchanged.

    Args:
        network: Network built by `load_definition` from the `network.json` beside the weights.
        path: Path of the weights, by convention `<bundle_root>/models/model.pt`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file does not hold a flat dict of tensors, or the tensors are not this network's.
    """
    path = Path(path)
    state = _read_state(path)
    problems = _mismatches(network.state_dict(), state)
    if problems:
        rest = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{path} must hold the weights of {type(network).__name__} as it was built, "
            f"but: {'; '.join(problems[:_SHOWN])}{rest}. "
            "models/network.json and models/model.pt must travel together: copy both from the same training or release."
        )
    network.load_state_dict(state)
    return network


def load_pretrained(models_dir: str | Path) -> nn.Module:
    """Build the network that a training or a release left in a folder, with its weights, to train it further.

    Args:
        models_dir: Folder with `network.json` and `model.pt`.

    Returns:
        The network on the CPU.

    Raises:
        FileNotFoundError: If one of the two files is missing.
        ValueError: If the files do not belong together, or were not written by a training.
    """
    folder = Path(models_dir)
    path = definition_path(folder)
    if not path.is_file():
        raise FileNotFoundError(
            f"no network.json at {folder}: `pretrained_dir` must be a folder with network.json and model.pt, as a"
            " training or a release holds them."
        )
    weights = path.parent / "model.pt"
    network = load_weights(load_definition(folder, {}), weights)
    expected = read_definition(folder, {}).get("checksum")
    if expected is not None and checksum(weights) != expected:
        raise ValueError(
            f"{weights} must be the file whose checksum network.json holds, but it is another: copy both from the same"
            " training or release."
        )
    return network


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        root = path.parent.parent
        raise FileNotFoundError(
            f"no weights at {path}. Train the bundle (python -m monai.bundle run training --config_file "
            f"{root / 'configs' / 'train.yaml'}), or download a release and copy its models/model.pt and "
            f"models/network.json to {path.parent}."
        )
    try:
        state: Any = read_tensors(path)
    except (DamagedFileError, OSError) as error:
        raise ValueError(
            f"{path} must be a file of plain tensors written by torch.save(network.state_dict(), ...), "
            f"but it could not be read as one ({error}). Pickled modules are refused, for loading one runs its code; "
            "damaged and truncated downloads end here too: download or save the file again."
        ) from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} must hold a flat dict of name to tensor, got {type(state).__name__}.")
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{path} must hold a flat dict of name to tensor, but {name!r} is of type {type(value).__name__}. "
                "A training checkpoint is not a weights file: use the model.pt that training writes."
            )
    return dict(state)


def _mismatches(expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> list[str]:
    """Describe each tensor that is missing, unexpected, of another shape or kind, or not finite; in order."""
    problems: list[str] = []
    for name, tensor in expected.items():
        if name not in state:
            problems.append(f"{name} {tuple(tensor.shape)} is missing in the file")
        elif state[name].shape != tensor.shape:
            problems.append(f"{name} is {tuple(state[name].shape)} in the file and {tuple(tensor.shape)} here")
        elif state[name].is_floating_point() != tensor.is_floating_point():
            problems.append(f"{name} is of {state[name].dtype} in the file and of {tensor.dtype} here")
        elif not bool(torch.isfinite(state[name]).all()):
            problems.append(f"{name} has values that are NaN or infinite in the file")
    problems += [f"{name} {tuple(state[name].shape)} is only in the file" for name in state if name not in expected]
    return problems
