"""What both building and installing a release check of its files."""

from __future__ import annotations

import hashlib
import io
import pickle
from typing import Any

import torch

LIMIT_BYTES = 25 * 2**20  # the Model Zoo's, of a file


def sha256(data: bytes) -> str:
    """The checksum of a file's content."""
    return hashlib.sha256(data).hexdigest()


def check_plain_weights(data: bytes, name: str) -> None:
    """
    Refuses a `model.pt` that is not a flat dict of plain tensors; nothing in it is executed.

    Args:
        data: its content.
        name: for the message.

    Raises:
        ValueError: when it is something else.
    """
    try:
        state: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{name} must be a file of plain tensors, but could not be read as one: loading anything else would run its"
            " code. Ask its publisher for `torch.save(network.state_dict(), ...)`."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{name} must be a flat dict of tensors (a state dict), got a {type(state).__name__}.")
