"""Inference of a bundle in the server's process, and the parameters that a client may set.

The bundle's own config runs, so that the output is that of the command line.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser

from ...bundles import read_metadata
from ...errors import DiskFullError, causes, collected_warnings, own_error
from ...files import read_json, shown
from ...inference.dicom_series import written_volumes
from ...inference.inferers import weight_facts
from ...inference.sidecar import NOTICE
from .limits import DEFAULT, Limits, check_size, read_value

INFERENCE = ("target", "source", "region", "slab", "compress", "tile_size", "batch_size", "uncertainty")
MAP = "map"  # of `uncertainty`: the answer's volume is the map of half-widths
CHOICES = ("target", "source")
AUTO = "auto"  # a client's choice of the bundle's default
PLACES = ("bundle_root", "dataset_dir", "output_dir", "models_dir", "cache_dir", "stage", "device")
STEPS = ("run", "make_data", "start", "phantom")  # steps of a training, besides its settings
UNREADABLE = (EOFError, zlib.error)  # errors of a truncated file
_TEXT = re.compile(r"(?!_)[\w .,+/-]*")


class Translated(NamedTuple):
    """A translated volume.

    Attributes:
        path: Path of the NIfTI file.
        facts: Its provenance for JSON: bundle, version, target, checksum of the weights, warnings, and the summary of
            the uncertainty if it was asked for.
        half_widths: NIfTI file of the map of half-widths; None if none was asked for.
    """

    path: Path
    facts: dict[str, Any]
    half_widths: Path | None


def translate(
    bundle_root: Path, image: Path, output_dir: Path, given: Mapping[str, Any], *, max_output_gb: float
) -> Translated:
    """Translate one image with a bundle's `inference.yaml`.

    Args:
        bundle_root: The bundle's folder.
        image: A NIfTI or DICOM file, or the folder of a DICOM series.
        output_dir: An empty folder.
        given: Ids of the config and their values, see `overrides`.
        max_output_gb: Largest output in 10^9 bytes, as it must fit into the server's memory.

    Raises:
        ValueError: If the image or a value is refused; the messages are the bundle's own.
    """
    config = ConfigParser.load_config_file(bundle_root / "configs" / "inference.yaml")
    parser = ConfigParser(config)
    places = {"bundle_root": str(bundle_root), "dataset_dir": str(image), "output_dir": str(output_dir)}
    wanted = {"uncertainty": True} if given.get("uncertainty") else {}
    parser.update({**given, **wanted, **places})
    with collected_warnings() as warnings:
        if "find_region" in config:  # the output is larger than the input
            _refuse_large(parser, max_output_gb)
        parser.get_parsed_content("run")
    path, half_widths = written_volumes(output_dir)
    facts: dict[str, Any] = {
        "notice": NOTICE,
        "bundle": bundle_root.name,
        "version": read_metadata(bundle_root)["version"],
        "target": parser.get_parsed_content("target"),
        **weight_facts(parser.get_parsed_content("models_dir")),
        "warnings": warnings,
    }
    if half_widths is not None:
        sidecar = path.with_name(f"{path.name.removesuffix('.gz').removesuffix('.nii')}.json")
        facts["uncertainty"] = read_json(sidecar)["uncertainty"]
    return Translated(path, facts, half_widths)


def inference_parameters(bundle_root: Path) -> dict[str, Any]:
    """Return the parameters of a bundle's inference with their defaults; choices are lists, with the default first.

    A bundle of several kernels has `target` and `source`; in the others the network determines both.
    """
    config = ConfigParser.load_config_file(bundle_root / "configs" / "inference.yaml")
    facts = definition(bundle_root)
    domains = facts["domains"]
    choices = (
        {"target": list(facts.get("targets", domains)), "source": [AUTO, *domains]} if isinstance(domains, list) else {}
    )
    others = (name for name in INFERENCE if name in config and name not in ("target", "source"))
    return {**choices, **{name: config[name] for name in others}}


def hyper_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ids of a `train.yaml` that hold plain data, such as `max_epochs`, with their defaults.

    Paths and components are left out.

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


def definition(bundle_root: Path) -> dict[str, Any]:
    """Read `models/network.json`, each time, since training replaces it."""
    return json.loads((bundle_root / "models" / "network.json").read_text(encoding="utf-8"))


def overrides(
    request: Mapping[str, Any], allowed: Iterable[str], *, model: str, limits: Limits = DEFAULT
) -> dict[str, Any]:
    """Return the values of a request that override a config's ids.

    Other content of a request belongs to MONAI Label and is ignored; only names that look like a parameter which this
    model lacks are refused, since they would be lost silently.

    Args:
        request: Names and values, from JSON.
        allowed: Names of this model's parameters.
        model: Name of the model, for errors.
        limits: Limits on the values.

    Returns:
        Values by name, without parameters of an inference that are None, empty or "auto".

    Raises:
        ValueError: If a value is not plain data or beyond a limit, or a parameter belongs to other models or is
            misspelt.

    Example:
        >>> overrides({"model": "ggcl", "target": "B70f", "gpus": "all"}, ["target", "source"], model="ggcl")
        {'target': 'B70f'}
    """
    known = list(allowed)
    for name in request:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        if name not in known and (name in INFERENCE or near):
            hint = f" Did you mean {near[0]!r}?" if near else f" It has: {', '.join(known)}."
            raise ValueError(f"{name!r} is not a parameter of {model!r}.{hint}")
    values = {name: _value(name, request[name], limits) for name in known if name in request}
    return {name: value for name, value in values.items() if not (name in INFERENCE and value in (None, "", AUTO))}


def check_sizes(given: Mapping[str, Any], limits: Limits) -> None:
    """Check the parameters of an inference that set its memory, and what is asked of the uncertainty.

    Args:
        given: Parameters, as `overrides` returns them.
        limits: Limits on `batch_size` and `tile_size`.

    Raises:
        ValueError: If one is not an integer, or beyond its limit, or `uncertainty` is no choice.

    Example:
        >>> check_sizes({"batch_size": 10**9}, Limits())
        Traceback (most recent call last):
        ValueError: `batch_size` must be an integer from 1 to 64, got 1000000000.
    """
    if given.get("uncertainty", False) not in (False, True, MAP):
        raise ValueError(f"`uncertainty` must be false, true or {MAP!r}, got {shown(given['uncertainty'])}.")
    for name, least, most in (("batch_size", 1, limits.max_batch_size), ("tile_size", 0, limits.max_tile_size)):
        value = given.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"`{name}` must be an integer from {least} to {most}, got {shown(value)}.")


def plain(name: str, value: Any) -> Any:
    """Return a value that a config takes literally: strings that begin with $, @ or % are evaluated, `_target_` called.

    Args:
        name: Name of the value, for the error.
        value: Value from JSON.

    Raises:
        ValueError: If it contains anything but numbers, booleans, None and harmless strings.

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
    raise ValueError(f"`{name}` must hold names and numbers, got {shown(value)}.")


def reason(error: BaseException) -> str | None:
    """Return why a request is refused, or None if the server is at fault.

    Components wrap errors of this package in others; ours say what to do.

    Example:
        >>> from common.networks import target_weights
        >>> try:
        ...     target_weights(["B30f", "B70f"], "B40f")
        ... except ValueError as error:
        ...     "B40f" in reason(error)
        True
    """
    if (ours := own_error(error)) is not None:
        return None if any(isinstance(link, DiskFullError) for link in causes(error)) else str(ours)
    broken = [link for link in causes(error) if isinstance(link, UNREADABLE)]
    return f"The image cannot be read ({broken[-1]}): send it again." if broken else None


def _value(name: str, value: Any, limits: Limits) -> Any:
    """Parse a value: a choice may be the list of all choices, with the default first; a string may contain YAML."""
    if name in CHOICES and isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        value = read_value(name, value, limits)
    return plain(name, check_size(name, value, limits))


def _refuse_large(parser: ConfigParser, max_output_gb: float) -> None:
    region = parser.get_parsed_content("dataset")[0]["region"]
    factor = parser.get_parsed_content("network_def").factor
    shape = [scale * int(stop - start) for scale, (start, stop) in zip((factor, factor, 1), region)]
    size = math.prod(shape) * 2 / 1e9
    if size > max_output_gb:
        raise ValueError(
            f"The super-resolved region has {' x '.join(map(str, shape))} voxels, {size:.3g} GB, and this server sends"
            f" at most {max_output_gb:g} GB. Give a `slab` of axial slices, [z0, z1], or a smaller `region`,"
            " [[x0, x1], [y0, y1], [z0, z1]]; or start the server with `--conf max_output_gb` and more."
        )
