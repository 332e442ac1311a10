"""A network's definition (`network.json`) and weights (`model.pt`), which travel together.

The constructor is the config: `record_arguments` keeps what a network was built with, `save_definition` writes it,
and `load_definition` builds the same network again. Only this package's networks can be named, so that a definition
from somewhere else is data and never code.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..files import checksum, read_json, write_text

Init = TypeVar("Init", bound=Callable[..., None])

# The name under which definitions are written, whatever package the code is vendored in.
PUBLIC_PACKAGE = "common.networks"
DEFINITION_CHECKSUM = "definition_checksum"  # of all other facts
MOST_BYTES = 1_000_000  # of a network.json; those that training writes have about 1 kB
MOST_NUMBER = 4096  # in a network's arguments: channels, layers, pixels
MOST_PARAMETERS = 2_000_000_000
LOADER = ("monai.bundle.scripts", "load")


def record_arguments(init: Init) -> Init:
    """Decorate a network's `__init__` so that the instance keeps its arguments in `self.arguments`.

    `arguments` is a dict of JSON values, defaults included, tuples as lists. A subclass whose own `__init__` is
    decorated records its own arguments. TorchScript leaves the attribute out.

    Raises:
        TypeError: At decoration if `init` takes `*args`, which have no names; at construction if an argument is not
            a JSON value.

    Example:
        >>> class Scale(nn.Module):
        ...     @record_arguments
        ...     def __init__(self, factor: float = 2.0, *, sizes=(1, 2)):
        ...         super().__init__()
        >>> Scale(3.0).arguments
        {'factor': 3.0, 'sizes': [1, 2]}
    """
    signature = inspect.signature(init)
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    if inspect.Parameter.VAR_POSITIONAL in kinds.values():
        raise TypeError(f"`{init.__qualname__}` must take named arguments only to be recorded, but it takes *args.")

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        arguments: dict[str, Any] = {}
        for name, value in list(bound.arguments.items())[1:]:
            arguments.update(value if kinds[name] is inspect.Parameter.VAR_KEYWORD else {name: value})
        recorded = {name: _as_json(value, f"argument `{name}`") for name, value in arguments.items()}
        init(self, *args, **kwargs)
        if "arguments" not in vars(self):  # not again for the class that this one extends
            self.register_load_state_dict_pre_hook(_refuse_strangers_weights)
        self.arguments = recorded

    wrapper.records_arguments = True  # type: ignore[attr-defined]
    return wrapper  # type: ignore[return-value]


def _refuse_strangers_weights(network: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Refuse what `monai.bundle.load` makes of the weights of another network: its own tensors where none fits.

    MONAI copies the tensors whose names and shapes agree, keeps the others, and logs how many those are.

    Raises:
        ValueError: If a tensor of `state` is one of the network's own, in a call by `monai.bundle.load`.
    """
    if not _called_by(LOADER):
        return
    own = {prefix + name: tensor.data_ptr() for name, tensor in network.state_dict().items() if tensor.numel()}
    kept = [name for name, place in own.items() if name in state and state[name].data_ptr() == place]
    if kept:
        raise ValueError(
            f"the bundle's weights are not those of {type(network).__name__} as the config of this workflow describes"
            f" it: {len(kept)} of {len(own)} tensors would stay untrained, such as {kept[0]}. `train` describes the"
            " network that is trained next, `inference` that of models/model.pt: monai.bundle.load(...,"
            ' workflow_type="inference").'
        )


def _called_by(function: tuple[str, str]) -> bool:
    """Return whether a function, given by module and name, is among the callers."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) == function:
            return True
        frame = frame.f_back
    return False


def save_definition(
    path: str | Path, network: nn.Module, *, changes: Mapping[str, Any] | None = None, **facts: Any
) -> None:
    """Write a network's class, constructor arguments and `facts` to a JSON file, atomically.

    Args:
        path: Path of the file, by convention `<bundle_root>/models/network.json`.
        network: Instance of one of this package's networks (unwrapped: not inside `DistributedDataParallel`).
        changes: Constructor arguments that `load_definition` should use instead; the weights must fit both.
        facts: Further facts about the weights (codec, domains, spacing, checksum ...), JSON values.

    Raises:
        TypeError: If the network's class is not one that `load_definition` accepts, or a fact is no JSON value.
        ValueError: If a fact is named "class", "arguments" or "definition_checksum".
    """
    name = type(network).__name__
    if _registry().get(name) is not type(network):
        raise TypeError(f"`network` must be one of {_allowed()}, got {type(network).__module__}.{name}.")
    if reserved := {"class", "arguments", DEFINITION_CHECKSUM} & facts.keys():
        raise ValueError(f"`facts` must not be named {sorted(reserved)}: the network fills these in.")
    arguments = dict(network.arguments, **(changes or {}))  # type: ignore[arg-type]
    document: dict[str, Any] = {"class": f"{PUBLIC_PACKAGE}.{name}", "arguments": arguments}
    document |= {key: _as_json(value, f"fact `{key}`") for key, value in facts.items()}
    document[DEFINITION_CHECKSUM] = definition_checksum(document)
    write_text(path, json.dumps(document, indent=2) + "\n")


def read_definition(bundle_root: str | Path, default: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the raw facts of a bundle's `network.json`.

    Args:
        bundle_root: Folder of the bundle, or its `models` folder.
        default: Definition of which a copy is returned where there is no file.

    Raises:
        FileNotFoundError: If there is no file and no default.
        ValueError: If the file is larger than 1 MB, is not a JSON object that names a class, or has a spacing or an
            intensity range that no image has.
    """
    path = definition_path(bundle_root)
    if not path.exists():
        if default is not None:
            return copy.deepcopy(dict(default))
        raise FileNotFoundError(
            f"no network at {path} (by `models_dir`, from {os.getcwd()}): network.json belongs to model.pt and says"
            " what network that is. Name the bundle's folder (`--bundle_root`, or work in it) or that of a training"
            " (`--models_dir`). `--use_paper_network True` builds the paper's network instead."
        )
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(
            f"{path} must be a file of at most {MOST_BYTES / 1e6:g} MB, it has {path.stat().st_size / 1e6:.4g}: restore"
            " it together with model.pt."
        )
    document = read_json(path, cure="restore it together with model.pt")
    if not isinstance(document.get("class"), str):
        raise ValueError(f'{path} must be an object with a "class", got {json.dumps(document)[:80]}.')
    _check_scales(document, path)
    return document


def definition_checksum(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a definition's content, whatever the order and the layout of its lines.

    Args:
        document: Content of `network.json`; its own `definition_checksum` is left out.

    Example:
        >>> first, second = {"a": 1, "b": [2]}, {"b": [2], "a": 1, "definition_checksum": "any"}
        >>> definition_checksum(first) == definition_checksum(second)
        True
    """
    content = {key: value for key, value in document.items() if key != DEFINITION_CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def changed_by_hand(bundle_root: str | Path) -> list[str]:
    """Return what of `network.json` and `model.pt` is not as training, import or release wrote it.

    Args:
        bundle_root: Folder of the bundle, or its `models` folder.

    Returns:
        Sentences; none where both are unchanged, or written by a version that kept no checksums.
    """
    path = definition_path(bundle_root)
    if not path.is_file():
        return []
    document, weights = read_definition(bundle_root), path.with_name("model.pt")
    found = []
    if document.get(DEFINITION_CHECKSUM, kept := definition_checksum(document)) != kept:
        found.append("network.json was changed after it was written: its content does not fit its definition_checksum.")
    if weights.is_file() and "checksum" in document and document["checksum"] != checksum(weights):
        found.append("model.pt is not the file that network.json was written for: its checksum is another one.")
    return found


def _check_scales(document: Mapping[str, Any], path: Path) -> None:
    """Refuse a spacing and intensity ranges that would ask for endless memory, or turn an image into one value."""
    spacing = document.get("spacing_mm")
    if spacing is not None and not (
        isinstance(spacing, list) and all(_number(side) and (side == -1 or 1e-3 <= side <= 100) for side in spacing)
    ):
        raise ValueError(f'"spacing_mm" in {path} must be sides of 0.001 to 100 mm (-1: any), got {spacing!r:.80}.')
    codec = document.get("codec")
    for name, limits in {"hu": (-32768, 32767), "percentiles": (0, 100), "reference": (-1e9, 1e9)}.items():
        span = codec.get(name) if isinstance(codec, dict) else None
        if span is not None and not (
            isinstance(span, list)
            and len(span) == 2
            and all(_number(end) for end in span)
            and limits[0] <= span[0] < span[1] <= limits[1]
        ):
            raise ValueError(
                f'"codec" in {path} must have a lower and a higher number within {list(limits)} as "{name}", got'
                f" {span!r:.80}."
            )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def load_definition(bundle_root: str | Path, default: Mapping[str, Any] | None = None) -> nn.Module:
    """Build the network that a bundle's `network.json` describes, with fresh weights.

    Args:
        bundle_root: Folder of the bundle, or its `models` folder.
        default: Definition `{"class": ..., "arguments": {...}}` to build where there is no such file.

    Raises:
        FileNotFoundError: If there is no file and no default.
        ValueError: If the file names a class outside this package, or arguments that the class does not take.

    Example:
        >>> paper = {"class": "common.networks.CompactGenerator", "arguments": {"channels": [8, 16]}}
        >>> type(load_definition("no/such/bundle", paper)).__name__
        'CompactGenerator'
    """
    path = definition_path(bundle_root)
    return build_network(read_definition(bundle_root, default), str(path) if path.exists() else "`default`")


def build_network(definition: Mapping[str, Any], origin: str = "`definition`") -> nn.Module:
    """Build the network that a definition describes, with fresh weights.

    Args:
        definition: Definition `{"class": ..., "arguments": {...}}`, as `read_definition` returns it.
        origin: What to call it in messages.

    Raises:
        ValueError: If it names a class outside this package, or arguments that the class does not take.
    """
    name = str(definition.get("class"))
    network_class = _registry().get(name.removeprefix(f"{PUBLIC_PACKAGE}."))
    if network_class is None:
        raise ValueError(f'"class" in {origin} must be one of {_allowed()}, got {name!r}.')
    arguments = definition.get("arguments", {})
    if (large := _largest(arguments)) > MOST_NUMBER:
        raise ValueError(
            f'"arguments" in {origin} must be numbers and lists of at most {MOST_NUMBER}, got {large:.4g}: a network'
            " of that size fits no memory. Restore the file together with model.pt."
        )
    try:
        with _Weightless():
            size = sum(values.numel() for values in network_class(**arguments).state_dict().values())
        if size > MOST_PARAMETERS:
            raise ValueError(f"they make a network of {size / 1e9:.3g} billion parameters, more than fit a memory")
        return network_class(**arguments)
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        raise ValueError(f'"arguments" in {origin} must be those of {name}, but: {error}') from error


class _Weightless(TorchFunctionMode):
    """Makes weights on the meta device, without memory, and draws none, where only their sizes count.

    What a network computes of tables, which are small, stays on the processor: on the meta device, drawing and
    arithmetic import PyTorch's compiler, which takes two seconds.
    """

    MADE = (torch.empty, torch.zeros, torch.ones, torch.full)
    DRAWS = (
        *(torch.Tensor.normal_, torch.Tensor.uniform_, nn.init.normal_, nn.init.uniform_),
        *(nn.init.kaiming_normal_, nn.init.kaiming_uniform_),
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if func in self.DRAWS:
            return args[0] if args else given["tensor"]
        return func(*args, **given | ({"device": "meta"} if func in self.MADE else {}))


def _largest(value: Any) -> float:
    """Return the largest number, or length of a list, in the arguments of a network."""
    if isinstance(value, Mapping):
        return max((_largest(item) for item in value.values()), default=0)
    if isinstance(value, (list, tuple)):
        return max([len(value), *(_largest(item) for item in value)])
    return abs(value) if _number(value) else 0


def network_class(name: str) -> type[nn.Module]:
    """Return one of this package's networks by its name, with or without the package.

    Raises:
        ValueError: If it is none that a `network.json` may name.
    """
    found = _registry().get(name.removeprefix(f"{PUBLIC_PACKAGE}."))
    if found is None:
        raise ValueError(f"`network` must be one of {_allowed()}, got {name!r}.")
    return found


def input_channels(network: nn.Module) -> int:
    """Return the channels of a network's input image: its recorded argument `in_channels`, else 1.

    A `ResidualGenerator` that translates all channels of its image records them as an argument of its inner network.

    Args:
        network: Network, or one that binds a target to an inner network (`common.networks.WithTarget`).
    """
    arguments = getattr(getattr(network, "network", network), "arguments", {})
    return max(int(given.get("in_channels", 1)) for given in (arguments, arguments.get("arguments") or {}))


def definition_path(bundle_root: str | Path) -> Path:
    """Return `<bundle_root>/models/network.json`, or `<bundle_root>/network.json` where that exists.

    A folder that is called `models` is the models' folder itself.
    """
    folder = Path(bundle_root)
    beside = folder / "network.json"
    return beside if beside.exists() or folder.name == "models" else folder / "models" / "network.json"


def _registry() -> dict[str, type[nn.Module]]:
    """Collect the networks that this package exports and whose constructors are recorded, by class name."""
    package = sys.modules[__package__]
    exported = {name: getattr(package, name) for name in package.__all__}
    return {
        name: value
        for name, value in exported.items()
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and getattr(value.__init__, "records_arguments", False)
    }


def _allowed() -> str:
    return ", ".join(f"{PUBLIC_PACKAGE}.{name}" for name in sorted(_registry()))


def _as_json(value: Any, what: str) -> Any:
    """Copy a value with tuples as lists and refuse what JSON cannot hold."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _as_json(item, what) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item, what) for item in value]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and value - value == 0.0:
        return float(value)
    raise TypeError(f"{what} must be a JSON value (finite number, string, list, dict, None), got {value!r}.")
