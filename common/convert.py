"""Import weights that the authors' released code trained: `model.pt` and `network.json` for the bundles."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .engines.checkpoint import checksum
from .networks import save_definition
from .networks.released_ggcl import State, discriminator_from_released, generator_from_released

SIEMENS_KERNELS = ("B30f", "B50f", "B70f")  # in the order of the released code's labels
CODEC = {"hu": [-1024, 3071]}

# For two vendors the generator's label has a mask of two behind the kernels, the discriminator's logits have not.
_VENDOR_MASK = 2


def convert_ggcl(
    generator: str | Path,
    output: str | Path,
    discriminator: str | Path | None = None,
    *,
    domains: Sequence[str] = SIEMENS_KERNELS,
) -> Path:
    """Convert a checkpoint of the released StarGAN or GGCL code to `model.pt`, with `network.json` beside it.

    The sizes of the networks are read off the tensors. Files are read with `weights_only=True`: nothing in them is
    executed. All files appear together, when each has been converted and written; on an error nothing changes.

    Args:
        generator: the released code's `<iteration>-G.ckpt`.
        output: the weights' file, by convention `<bundle>/models/model.pt`.
        discriminator: `<iteration>-D.ckpt`, to go on training; written to the folder `discriminator` beside `output`,
            apart because MONAI Label takes each `*.pt` of `models` for a model.
        domains: the names of the generator's domains, in the order of its label.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: when a checkpoint does not exist.
        ValueError: when it holds something else, or `domains` are not as many as the network's.
    """
    output = Path(output)
    if output.suffix != ".pt":
        raise ValueError(f"`output` must be a file that ends in .pt, by convention models/model.pt, got {output}.")
    network = _converted(Path(generator), generator_from_released)
    names = _check_domains(domains, network.num_domains)
    facts = {"codec": CODEC, "domains": names, "epoch": None, "ema": False}
    files = {Path(output.name): (network, facts | _origin(generator))}
    if discriminator is not None:
        critic = _converted(Path(discriminator), discriminator_from_released)
        _check_same_domains(critic.heads.domain.out_channels, network.num_domains)
        files[Path("discriminator", "discriminator.pt")] = (critic, facts | _origin(discriminator))
    _write_together(files, output.parent)
    return output


def _origin(checkpoint: str | Path) -> dict[str, Any]:
    return {"training_data": {"name": f"imported from {Path(checkpoint).name}"}}


def _converted(path: Path, convert: Any) -> Any:
    state = _read(path)
    try:
        return convert(state)
    except ValueError as error:
        raise ValueError(f"{path} cannot be converted: {error}") from error


def _read(path: Path) -> State:
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: give the path of the released code's -G.ckpt or -D.ckpt.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} must be a file of plain tensors, but it could not be read as one ({reason}). Pickled modules are "
            "refused, for loading one runs its code: save `network.state_dict()` with the code that made it."
        ) from error
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} must hold a flat dict of name to tensor, as the released code's .ckpt files do.")
    return state


def _check_domains(domains: Sequence[str], num_domains: int) -> list[str]:
    names = [name.strip() for name in domains.split(",")] if isinstance(domains, str) else [str(n) for n in domains]
    if len(names) != num_domains or len(set(names)) != num_domains:
        raise ValueError(
            f"`domains` must be {num_domains} different names, one for each entry of the generator's label in its "
            f"order, got {len(names)}: {', '.join(names)}."
        )
    return names


def _check_same_domains(of_discriminator: int, of_generator: int) -> None:
    if of_discriminator not in (of_generator, of_generator - _VENDOR_MASK):
        raise ValueError(
            f"`discriminator` must tell as many domains apart as `generator` translates into ({of_generator}, or "
            f"{_VENDOR_MASK} less for two vendors), got {of_discriminator}: give the two files of one training."
        )


def _write_together(files: dict[Path, tuple[nn.Module, dict[str, Any]]], folder: Path) -> None:
    """Write weights and definitions to a hidden folder beside their place, and move them when all are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=folder) as hidden:
        stage = Path(hidden)
        for name, (network, facts) in files.items():
            weights = stage / name
            weights.parent.mkdir(exist_ok=True)
            torch.save(network.state_dict(), weights)
            save_definition(weights.with_name("network.json"), network, **facts, checksum=checksum(weights))
        for name in [path.relative_to(stage) for path in sorted(stage.rglob("*")) if path.is_file()]:
            (folder / name).parent.mkdir(exist_ok=True)
            os.replace(stage / name, folder / name)
