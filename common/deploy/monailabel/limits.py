"""What one request may cost, and texts of a client that are read within these limits."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import yaml

from ...files import shown


@dataclass(frozen=True)
class Limits:
    """What one request may cost; `--conf NAME VALUE` of the server sets each.

    Attributes:
        max_upload_gb: Largest body of a request, in 10^9 bytes.
        max_params_kb: Longest text of parameters, and largest body that is not a form, in 10^3 bytes.
        max_depth: Deepest nesting of lists and mappings in parameters.
        max_values: Most values in parameters.
        max_unpacked_gb: Largest content of a zip, of a `.nii.gz` and of a deflated DICOM file, in 10^9 bytes.
        max_files: Most files in a zip.
        max_voxels: Most voxels of an image, by its header.
        max_batch_size: Largest `batch_size` of an inference.
        max_tile_size: Largest `tile_size` of an inference.
        max_output_gb: Largest super-resolved volume that is sent, in 10^9 bytes.

    Example:
        >>> Limits.from_conf({"max_depth": "3", "models": "ggcl"}).max_depth
        3
    """

    max_upload_gb: float = 4.0
    max_params_kb: float = 64.0
    max_depth: int = 8
    max_values: int = 1000
    max_unpacked_gb: float = 8.0
    max_files: int = 20_000
    max_voxels: int = 1_000_000_000
    max_batch_size: int = 64
    max_tile_size: int = 512
    max_output_gb: float = 2.0

    @classmethod
    def from_conf(cls, conf: Mapping[str, Any]) -> Limits:
        """Read the limits that a server's `--conf` sets; other names are left out.

        Raises:
            ValueError: If a value is not a positive number.
        """
        names = [field.name for field in fields(cls) if field.name in conf]
        given: dict[str, Any] = {name: _positive(name, conf[name], getattr(cls, name)) for name in names}
        return cls(**given)

    @property
    def params_bytes(self) -> int:
        """Longest text of parameters, in bytes."""
        return int(self.max_params_kb * 1e3)

    @property
    def upload_bytes(self) -> int:
        """Largest body of a request, in bytes."""
        return int(self.max_upload_gb * 1e9)

    @property
    def unpacked_bytes(self) -> int:
        """Largest content of a packed file, in bytes."""
        return int(self.max_unpacked_gb * 1e9)


DEFAULT = Limits()


def read_mapping(name: str, text: str | bytes, limits: Limits = DEFAULT) -> dict[str, Any]:
    """Read a JSON object within the limits; an empty text and `null` are one without names.

    Args:
        name: Name of the text, for errors.
        text: JSON.
        limits: Limits on length, depth and number of values.

    Raises:
        ValueError: If it is not JSON, not an object, or beyond a limit.

    Example:
        >>> read_mapping("params", '{"target": "B70f"}')
        {'target': 'B70f'}
    """
    _check_length(name, text, limits)
    try:
        value = json.loads(text) if text.strip() else None
    except (ValueError, RecursionError) as error:  # also too many digits, not UTF-8, and nested too deeply
        raise ValueError(f"`{name}` must be JSON: {error}.") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f'`{name}` must be a JSON object such as {{"target": "B70f"}}, got {shown(value)}.')
    return check_size(name, value, limits)


def read_value(name: str, text: str, limits: Limits = DEFAULT) -> Any:
    """Read a list or mapping in YAML within the limits.

    Aliases are refused: each is a copy of what it names, so that 300 bytes can stand for gigabytes. Depth and number
    are checked while parsing, before a value is made.

    Args:
        name: Name of the text, for errors.
        text: YAML.
        limits: Limits on length, depth and number of values.

    Raises:
        ValueError: If it is not YAML, has aliases, or is beyond a limit.

    Example:
        >>> read_value("target", "{B30f: 0.5, B70f: 0.5}")
        {'B30f': 0.5, 'B70f': 0.5}
    """
    _check_length(name, text, limits)
    wrong = f"`{name}` must be a name, a list or a mapping, got {shown(text)}."
    try:
        _check_events(name, text, limits)
    except yaml.YAMLError as error:
        raise ValueError(wrong) from error
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # also a date that does not exist
        raise ValueError(wrong) from error
    return check_size(name, value, limits)


def check_size(name: str, value: Any, limits: Limits = DEFAULT) -> Any:
    """Return a value from a request if its depth and number of values are within the limits.

    Raises:
        ValueError: If they are not.

    Example:
        >>> check_size("target", [[[1]]], Limits(max_depth=2))
        Traceback (most recent call last):
        ValueError: `target` must be nested at most 2 deep, got 3 or more.
    """
    count, waiting = 0, [(value, 0)]
    while waiting:
        part, depth = waiting.pop()
        count += 1
        if isinstance(part, Mapping):
            waiting += [(item, depth + 1) for pair in part.items() for item in pair]
            depth += 1
        elif isinstance(part, Sequence) and not isinstance(part, (str, bytes)):
            waiting += [(item, depth + 1) for item in part]
            depth += 1
        _check_counts(name, depth, count, limits)
    return value


def _check_events(name: str, text: str, limits: Limits) -> None:
    depth = count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"`{name}` must not have aliases (*{event.anchor}): write each value out.")
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.NodeEvent):
            count += 1
            depth += isinstance(event, yaml.CollectionStartEvent)
            _check_counts(name, depth, count, limits)


def _check_length(name: str, text: str | bytes, limits: Limits) -> None:
    size = len(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    if size > limits.params_bytes:
        raise ValueError(f"`{name}` must have at most {limits.max_params_kb:g} kB, got {size / 1e3:.3g} kB.")


def _check_counts(name: str, depth: int, count: int, limits: Limits) -> None:
    if depth > limits.max_depth:
        raise ValueError(f"`{name}` must be nested at most {limits.max_depth} deep, got {depth} or more.")
    if count > limits.max_values:
        raise ValueError(f"`{name}` must have at most {limits.max_values} values, got {count} or more.")


def _positive(name: str, value: Any, default: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"`--conf {name}` must be a number above 0, got {shown(value)}.")
    return int(number) if isinstance(default, int) else number
