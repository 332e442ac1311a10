"""What a client may set in a request, and what of it goes into a bundle's config."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

INFERENCE = ("target", "source", "region", "slab", "compress", "tile_size", "batch_size")
CHOICES = ("target", "source")
AUTO = "auto"  # what a client shows for "as the bundle decides"
PLACES = ("bundle_root", "dataset_dir", "output_dir", "models_dir", "cache_dir", "stage", "device")
STEPS = ("run", "make_data", "start", "phantom")  # what a training does, beside how
_TEXT = re.compile(r"(?!_)[\w .,+/-]*")


def overrides(request: Mapping[str, Any], allowed: Iterable[str], *, model: str) -> dict[str, Any]:
    """
    The values of a request that override a config's ids.

    What else a request holds is MONAI Label's own and stays out; only what looks like a parameter that this model has
    not is refused, since it would be lost without a word.

    Args:
        request: names and values, from JSON.
        allowed: names that this model has.
        model: its name, for the errors.

    Returns:
        the values given; without those of an inference that are None, empty or "auto".

    Raises:
        ValueError: when a value is not plain data, or a parameter is one of other models, or misspelt.

    Example:
        >>> overrides({"model": "ggcl", "target": "B70f", "gpus": "all"}, ["target", "source"], model="ggcl")
        {'target': 'B70f'}
    """
    known = list(allowed)
    for name in request:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        if name not in known and (name in INFERENCE or near):
            hint = f" Did you mean {near[0]!r}?" if near else f" It has: {', '.join(known)}."
            raise ValueError(f"{name!r} is no parameter of {model!r}.{hint}")
    values = {name: _value(name, request[name]) for name in known if name in request}
    return {name: value for name, value in values.items() if not (name in INFERENCE and value in (None, "", AUTO))}


def plain(name: str, value: Any) -> Any:
    """
    A value that a config takes as it is: texts that begin with $, @ or % are evaluated, `_target_` is called.

    Raises:
        ValueError: when it is, or holds, anything but numbers, truth values, None and harmless texts.

    Example:
        >>> plain("target", "$print()")
        Traceback (most recent call last):
        ValueError: `target` must hold names and numbers, got '$print()'.
    """
    if isinstance(value, Mapping):
        return {str(plain(name, key)): plain(name, part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(name, part) for part in value]
    if value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and _TEXT.fullmatch(value)):
        return value
    raise ValueError(f"`{name}` must hold names and numbers, got {value!r}.")


def hyper_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """
    The ids of a `train.yaml` that hold plain data, such as `max_epochs`, with their defaults; no place, no component.

    Example:
        >>> hyper_parameters({"max_epochs": 3, "device": "cpu", "network": "$@network_def.to(@device)", "seed": 0})
        {'max_epochs': 3, 'seed': 0}
    """
    found = {}
    for name, value in config.items():
        if name not in (*PLACES, *STEPS) and not isinstance(value, Mapping) and value != []:
            try:
                found[name] = plain(name, value)
            except ValueError:
                continue
    return found


def _value(name: str, value: Any) -> Any:
    """A choice may arrive as the list of all choices, of which the first is the default; a text may hold YAML."""
    if name in CHOICES and isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"`{name}` must be a name, a list or a mapping, got {value!r}.") from error
    return plain(name, value)
