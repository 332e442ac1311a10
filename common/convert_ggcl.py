"""Import of StarGAN and GGCL checkpoints of the authors' released code, as `model.pt` and `network.json`."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from .files import Staging, checksum
from .networks.definition import save_definition
from .networks.discriminators import SemanticDiscriminator, StarGANDiscriminator
from .networks.stargan import StarGANGenerator

State = Mapping[str, torch.Tensor]
Network = TypeVar("Network", bound=nn.Module)

_SHOWN = 2  # number of kinds of mismatch that an error names; the rest is counted

# Running statistics that the released code keeps but never uses (it never calls eval()), and a 1x1 convolution that
# some of its versions build and never call.
_UNUSED = re.compile(r".*\.(running_mean|running_var|num_batches_tracked)|out_feature\..*")

# The hook that the released code uses for spectral normalisation, and torch's parametrization of the same.
_SPECTRAL_NORM = {
    ".weight_orig": ".parametrizations.weight.original",
    ".weight_u": ".parametrizations.weight.0._u",
    ".weight_v": ".parametrizations.weight.0._v",
}

_GENERATOR = {
    "init.": "stem.",
    "down1.": "downs.0.",
    "down2.": "downs.1.",
    "residual.": "blocks.",
    "up1.": "ups.0.",
    "up2.": "ups.1.",
    "out.0.": "head.",
}

SIEMENS_KERNELS = ("B30f", "B50f", "B70f")  # in the order of the released code's labels
CODEC = {"hu": [-1024, 3071]}

# For two vendors the generator's label has a mask of two after the kernels, the discriminator's logits do not.
_VENDOR_MASK = 2


def generator_from_released(state: State) -> StarGANGenerator:
    """Build the generator of a released checkpoint, with sizes read from its tensors.

    Args:
        state: Flat state dict of the released code's `Generator_GGCL` (pixel shuffle) or `Generator` (transposed
            convolutions, StarGAN's own names); a leading `module.` is ignored.

    Raises:
        ValueError: If the tensors are not those of such a generator.
    """
    state = _used(state)
    num_blocks = len([name for name in state if re.fullmatch(r"(residual|main)\.\d+\.main\.0\.weight", name)])
    state = _renamed(state, {**_GENERATOR, **_sequential_generator(num_blocks)})
    stem, head, up = (_kernel(state, name, "generator") for name in ("stem.0.weight", "head.weight", "ups.0.0.weight"))
    out_channels = head.shape[0]
    network = _build(
        StarGANGenerator,
        # The released code's generators have equal numbers of input and output channels.
        num_domains=stem.shape[1] - out_channels,
        in_channels=out_channels,
        out_channels=out_channels,
        channels=stem.shape[0],
        num_res_blocks=num_blocks,
        upsample="transposed" if up.shape[-1] == 4 else "pixelshuffle",
    )
    return _filled(network, state, "generator")


def discriminator_from_released(state: State) -> SemanticDiscriminator | StarGANDiscriminator:
    """Build the discriminator of a released checkpoint, with sizes read from its tensors.

    Args:
        state: Flat state dict of the released code's `Discriminator_GGCL` (U-Net) or `Discriminator` (StarGAN's); a
            leading `module.` is ignored.

    Raises:
        ValueError: If the tensors are not those of such a discriminator.
    """
    state = _renamed(_used(state), _discriminator(len(state)))
    state = {_parametrized(name): tensor for name, tensor in state.items()}
    semantic = any(name.startswith("ups.") for name in state)
    weight = "parametrizations.weight.original" if semantic else "weight"
    first = _kernel(state, f"downs.0.0.{weight}", "discriminator")
    domain = _kernel(state, "heads.domain.weight", "discriminator")
    num_layers = len([name for name in state if re.fullmatch(rf"downs\.\d+\.0\.{re.escape(weight)}", name)])
    network_class: type[SemanticDiscriminator] | type[StarGANDiscriminator]
    network_class = SemanticDiscriminator if semantic else StarGANDiscriminator
    network = _build(
        network_class,
        image_size=domain.shape[-1] * 2**num_layers,
        num_domains=domain.shape[0],
        in_channels=first.shape[1],
        channels=first.shape[0],
        num_layers=num_layers,
    )
    return _filled(network, state, "discriminator")


def _sequential_generator(num_blocks: int) -> dict[str, str]:
    """Return the prefixes of StarGAN's generator, one sequence in which activations count too."""
    ours = ["stem.0.", "stem.1.", "", "downs.0.0.", "downs.0.1.", "", "downs.1.0.", "downs.1.1.", ""]
    ours += [f"blocks.{block}." for block in range(num_blocks)]
    ours += ["ups.0.0.", "ups.0.1.", "", "ups.1.0.", "ups.1.1.", "", "head."]
    return {f"main.{index}.": name for index, name in enumerate(ours) if name}


def _discriminator(layers: int) -> dict[str, str]:
    """Return the prefixes of up to `layers` layers of the U-Net and of StarGAN's sequence (convolution, ...)."""
    names = {"init_down.": "downs.0.", "init_up.": "ups.0.", "conv1.": "heads.source.", "conv2.": "heads.domain."}
    for layer in range(layers):
        names |= {f"main.{2 * layer}.": f"downs.{layer}.0."}
        names |= {f"down{layer + 1}.": f"downs.{layer + 1}.", f"up{layer + 1}.": f"ups.{layer + 1}."}
    return names


def _used(state: State) -> dict[str, torch.Tensor]:
    plain = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in plain.items() if not _UNUSED.fullmatch(name)}


def _renamed(state: State, prefixes: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Replace each name's prefix; names without one of these are kept, and refused as unexpected later."""
    renamed = {}
    for name, tensor in state.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        renamed[prefixes.get(prefix, "") + name.removeprefix(prefix)] = tensor
    return renamed


def _parametrized(name: str) -> str:
    for old, new in _SPECTRAL_NORM.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _kernel(state: State, name: str, role: str) -> torch.Tensor:
    """Return the convolution kernel of a name, or raise a ValueError if the checkpoint lacks it."""
    tensor = state.get(name)
    if tensor is None or tensor.dim() != 4:
        other = {"generator": "discriminator", "discriminator": "generator"}[role]
        raise ValueError(
            f"it must hold the {role} of the released StarGAN or GGCL code, but has nothing for {name}: the released "
            f"files end in -G.ckpt and -D.ckpt; give the {other}'s as `{other}`."
        )
    return tensor


def _build(network_class: type[Network], **arguments: int | str) -> Network:
    try:
        return network_class(**arguments)
    except ValueError as error:
        raise ValueError(f"its tensors tell sizes that no {network_class.__name__} has: {error}") from error


def _filled(network: Network, state: State, role: str) -> Network:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        problems = [line.strip().rstrip(".") for line in str(error).splitlines()[1:]]
        rest = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"its tensors are not those of one {role} of the released code: {'; '.join(problems[:_SHOWN])}{rest}."
        ) from error
    return network


def convert_ggcl(
    generator: str | Path,
    output: str | Path,
    discriminator: str | Path | None = None,
    *,
    domains: Sequence[str] = SIEMENS_KERNELS,
) -> Path:
    """Convert a checkpoint of the released StarGAN or GGCL code to `model.pt`, with `network.json` beside it.

    The sizes of the networks are read from the tensors. Files are read with `weights_only=True`: nothing in them is
    executed. All files appear together once each has been converted and written; on an error nothing changes.

    Args:
        generator: The released code's `<iteration>-G.ckpt`.
        output: Path of the weights, by convention `<bundle>/models/model.pt`.
        discriminator: The released code's `<iteration>-D.ckpt`, to continue training; written to the folder
            `discriminator` beside `output`, because MONAI Label takes each `*.pt` of `models` for a model.
        domains: Names of the generator's domains, in the order of its label.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: If a checkpoint does not exist.
        ValueError: If it has another content, or the number of `domains` is not the network's.
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
    """Write weights and definitions to a hidden folder beside their place, and move them once all are complete."""
    with Staging(folder) as staging:
        for name, (network, facts) in files.items():
            weights = staging.folder / name
            weights.parent.mkdir(exist_ok=True)
            torch.save(network.state_dict(), weights)
            save_definition(weights.with_name("network.json"), network, **facts, checksum=checksum(weights))
        staging.publish([path for path in sorted(staging.folder.rglob("*")) if path.is_file()])
