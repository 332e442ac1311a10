"""One inference of a bundle, by its own config: what the command line would write, in the server's process."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser

from ...data.datalist import VOLUME_SUFFIXES
from ...engines.inference import weight_facts
from .parameters import AUTO, INFERENCE

NOTICE = "RESEARCH USE ONLY, not for diagnosis: a synthetic image."


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
    """
    Translate one image with a bundle's `inference.yaml`.

    Args:
        bundle_root: the bundle's folder.
        image: a NIfTI or DICOM file, or the folder of a DICOM series.
        output_dir: an empty folder.
        given: ids of the config and their values, see `common.deploy.monailabel.parameters`.
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
        "version": metadata(bundle_root)["version"],
        "target": parser.get_parsed_content("target"),
        **weight_facts(parser.get_parsed_content("models_dir")),
        "warnings": warnings,
    }
    return Translated(path, facts)


def metadata(bundle_root: Path) -> dict[str, Any]:
    """Of `configs/metadata.json`."""
    return json.loads((bundle_root / "configs" / "metadata.json").read_text())


def definition(bundle_root: Path) -> dict[str, Any]:
    """Of `models/network.json`; read anew each time, since training replaces it."""
    return json.loads((bundle_root / "models" / "network.json").read_text())


def inference_parameters(bundle_root: Path) -> dict[str, Any]:
    """
    The parameters of a bundle's inference with their defaults; those to choose from as a list, the default first.

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


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """What `common` warns of meanwhile: whoever sent the request does not see the server's log."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(__name__.split(".")[0])
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


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
