"""The network of an earlier training stage, for a later stage that uses it but does not train it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import nn

from .definition import load_definition, read_definition
from .weights import load_weights


def load_stage(models_dir: str | Path, *, made_by: str) -> nn.Module:
    """Build the network that a stage has left in a folder, with its weights, frozen and in `eval()`.

    Args:
        models_dir: holds `network.json` and `model.pt`, as a training writes them.
        made_by: the command that makes them, for the error message.

    Returns:
        the network on the CPU; none of its parameters requires a gradient.

    Raises:
        FileNotFoundError: when one of the two files is missing; names the folder and the command.
        ValueError: when the files do not belong together, or are not what a training writes.

    Example:
        >>> try:
        ...     load_stage("models/remover", made_by="python -m monai.bundle run training --config_file remover.yaml")
        ... except FileNotFoundError as error:
        ...     print(str(error).split(". ")[0])
        models/remover must hold the network of the stage before, but network.json and model.pt are missing
    """
    folder = Path(models_dir)
    missing = [name for name in ("network.json", "model.pt") if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} must hold the network of the stage before, but {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. Make it first: {made_by}"
        )
    _check_checksum(folder, made_by)
    network = load_weights(load_definition(folder, {}), folder / "model.pt")
    return network.requires_grad_(False).eval()


def _check_checksum(folder: Path, made_by: str) -> None:
    """Refuse weights of the right shapes from another training; a definition without a checksum is taken as it is."""
    expected = read_definition(folder, {}).get("checksum")
    if expected is not None and hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest() != expected:
        raise ValueError(
            f"{folder / 'model.pt'} must be the file whose checksum network.json holds, but it is another: copy both "
            f"from the same training, or make them again: {made_by}"
        )
