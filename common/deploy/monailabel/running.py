"""One inference of a bundle in the server's process, by the bundle's own config, and what a client may set in it.

The output is what the command line would write.
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

import yaml
from monai.bundle import ConfigParser

from ...bundles import read_metadata
from ...errors import DiskFullError, causes, collected_warnings, own_error
from ...images.nifti import VOLUME_SUFFIXES
from ...inference.inferers import weight_facts
from ...inference.sidecar import NOTICE

INFERENCE = ("target", "source", "region", "slab", "compress", "tile_size", "batch_size")
CHOICES = ("target", "source")
AUTO = "auto"  # what a client shows for "as the bundle decides"
PLACES = ("bundle_root", "dataset_dir", "output_dir", "models_dir", "cache_dir", "stage", "device")
STEPS = ("run", "make_data", "start", "phantom")  # what a training does, beside how
_TEXT = re.compile(r"(?!_)[\w .,+/-]*")
UNREADABLE = (EOFError, zlib.error)  # of a file that was cut off


def overrides(request: Mapping[str, Any], allowed: Iterable[str], *, model: str) -> dict[str, Any]:
    """The values of a request that override a config's ids.

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
    """A value that a config takes as it is: texts that begin with $, @ or % are evaluated, `_target_` is called.

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


class Translated(NamedTuple):
    """A translated volume.

    Attributes:
        path: of the NIfTI file.
        facts: what made it: bundle, version, target, checksum of the weights, warnings; for JSON.
    """

    path: Path
    facts: dict[str, Any]


def translate(
    bundle_root: Path, image: Path, output_dir: Path, given: Mapping[str, Any], *, max_output_gb: float
) -> Translated:
    """Translate one image with a bundle's `inference.yaml`.

    Args:
        bundle_root: the bundle's folder.
        image: a NIfTI or DICOM file, or the folder of a DICOM series.
        output_dir: an empty folder.
        given: ids of the config and their values, see `common.deploy.monailabel.running`.
        max_output_gb: a larger output is refused, as it goes through a server's memory.

    Raises:
        ValueError: when the image or a value is refused; the bundle's own messages.
    """
    config = ConfigParser.load_config_file(bundle_root / "configs" / "inference.yaml")
    parser = ConfigParser(config)
    places = {"bundle_root": str(bundle_root), "dataset_dir": str(image), "output_dir": str(output_dir)}
    parser.update({**given, **places})
    with collected_warnings() as warnings:
        if "find_region" in config:  # the output is larger than the input
            _refuse_large(parser, max_output_gb)
        parser.get_parsed_content("run")
    (path,) = (path for path in output_dir.rglob("*") if path.name.endswith(VOLUME_SUFFIXES))
    facts = {
        "notice": NOTICE,
        "bundle": bundle_root.name,
        "version": read_metadata(bundle_root)["version"],
        "target": parser.get_parsed_content("target"),
        **weight_facts(parser.get_parsed_content("models_dir")),
        "warnings": warnings,
    }
    return Translated(path, facts)


def definition(bundle_root: Path) -> dict[str, Any]:
    """Of `models/network.json`; read anew each time, since training replaces it."""
    return json.loads((bundle_root / "models" / "network.json").read_text(encoding="utf-8"))


def inference_parameters(bundle_root: Path) -> dict[str, Any]:
    """The parameters of a bundle's inference with their defaults; those to choose from as a list, the default first.

    A bundle of several kernels has `target` and `source`; of the others both are given by the network.
    """
    config = ConfigParser.load_config_file(bundle_root / "configs" / "inference.yaml")
    facts = definition(bundle_root)
    domains = facts["domains"]
    choices = (
        {"target": list(facts.get("targets", domains)), "source": [AUTO, *domains]} if isinstance(domains, list) else {}
    )
    others = (name for name in INFERENCE if name in config and name not in ("target", "source"))
    return {**choices, **{name: config[name] for name in others}}


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


def reason(error: BaseException) -> str | None:
    """Why a request is refused, or None when the error is the server's.

    A component wraps an error of ours in others; ours tells what to do.

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
    return f"The image cannot be read ({broken[-1]}): send it anew." if broken else None
