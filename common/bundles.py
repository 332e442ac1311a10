"""What a bundle declares about itself in its `configs`, and where a source tree keeps its bundles."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import yaml

from .files import read_json

BUNDLES = Path(__file__).parents[1] / "bundles"  # of the source tree; a release has none

# Values of `translation_task` in metadata.json.
KERNEL_CONVERSION = "kernel_conversion"
CONTRAST_ENHANCEMENT = "contrast_enhancement"
SUPER_RESOLUTION = "super_resolution"
SEQUENCE_TRANSLATION = "sequence_translation"
TASK = "translation_task"

# Attributes that name a place in the bundle: of MONAI's `ConfigWorkflow`, and of `MonaiBundleInferenceOperator`.
EVALUATED_PLACES = ("config_root_path", "_bundle_path")

Form = TypeVar("Form")


def read_metadata(bundle_root: str | Path) -> dict[str, Any]:
    """Read `configs/metadata.json` of a bundle.

    Args:
        bundle_root: The bundle's folder.

    Raises:
        FileNotFoundError: If the folder is not a bundle.
        ValueError: If the file is not a JSON object.

    Example:
        >>> read_metadata("absent")
        Traceback (most recent call last):
        ...
        FileNotFoundError: 'absent' is not a bundle: it has no configs/metadata.json. Name the bundle's folder.
    """
    path = metadata_path(bundle_root)
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(bundle_root)!r} is not a bundle: it has no configs/metadata.json. Name the bundle's folder."
        )
    return read_json(path)


def metadata_path(bundle_root: str | Path) -> Path:
    """Return the path of a bundle's metadata."""
    return Path(bundle_root) / "configs" / "metadata.json"


def bundle_root() -> str:
    """Return the default `bundle_root` of an `inference.yaml`, evaluated by a workflow that may run anywhere.

    It is the working directory, as in every bundle, where that is the bundle or holds a network; else the folder whose
    configs MONAI's `ConfigWorkflow` (`monai.bundle.run`, `load`, `create_workflow`) or MONAI Deploy's operator reads.

    Raises:
        ValueError: If both hold a network, but are different folders.

    Example:
        In a config: `bundle_root: $common.bundles.bundle_root()`
    """
    here, own = Path(), _evaluated_bundle()
    if own is None or own.resolve() == here.resolve():
        return str(here)
    if not _network_path(here).is_file():
        return str(own)
    if _network_path(own).is_file():
        raise ValueError(
            f"the network of {own} or that of the working directory {here.resolve()}? Both have a"
            " models/network.json: name one by `--bundle_root`, or work elsewhere."
        )
    return str(here)


def _network_path(root: Path) -> Path:
    return root / "models" / "network.json"


def _evaluated_bundle() -> Path | None:
    """Find the bundle whose configs a caller evaluates, as MONAI passes an expression no reference to them."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        owner = getattr(frame.f_locals.get("self"), "__dict__", {})
        for place in filter(None, map(owner.get, EVALUATED_PLACES)):
            for root in (Path(place), *Path(place).parents[:2]):
                if metadata_path(root).is_file():
                    return root
        frame = frame.f_back
    return None


def translation_task(bundle_root: str | Path) -> str | None:
    """Return what a bundle does, such as `kernel_conversion`; None where it does not say.

    Args:
        bundle_root: The bundle's folder; one without metadata says nothing.
    """
    return read_metadata(bundle_root).get(TASK) if metadata_path(bundle_root).is_file() else None


def declaration(bundle_root: str | Path, key: str, form: type[Form], **more: Any) -> Form | None:
    """Read a section of a bundle's metadata into a dataclass.

    Args:
        bundle_root: The bundle's folder.
        key: Name of the section.
        form: Dataclass whose fields the section may give; lists become tuples.
        more: Fields that the section does not give.

    Returns:
        The dataclass, or None where the metadata has no such section.

    Raises:
        ValueError: If the section has an unknown field, or lacks a required one.
    """
    given = read_metadata(bundle_root).get(key)
    if given is None:
        return None
    known = [field for field in dataclasses.fields(form) if field.name not in more]  # type: ignore[arg-type]
    missing = dataclasses.MISSING
    required = {field.name for field in known if field.default is missing and field.default_factory is missing}
    names = {field.name for field in known}
    if not isinstance(given, dict) or set(given) - names or required - set(given):
        raise ValueError(
            f"`{key}` in {metadata_path(bundle_root)} must be an object with {sorted(required)} and may have"
            f" {sorted(names - required)}, got {sorted(given) if isinstance(given, dict) else given!r}."
        )
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return form(**more, **values)


def find_bundles() -> list[Path]:
    """Return the folders of the source tree's bundles: by the `order` of their metadata, then by name."""
    roots = [path.parents[1] for path in BUNDLES.glob("*/configs/metadata.json")]
    return sorted(roots, key=lambda root: (read_metadata(root).get("order", math.inf), root.name))


def find_bundle(
    name: str | Path | None = None, *, among: Sequence[Path] | None = None, places: Sequence[str | Path] = ()
) -> Path:
    """Return the folder of a bundle.

    Args:
        name: A folder in the source tree's `bundles` or in one of `places`, or the path of another bundle; default: the
            first of `among`.
        among: Bundles to choose the default from and to name in the error; default: `find_bundles()`.
        places: Further folders of bundles.

    Raises:
        ValueError: If there is no such bundle.
    """
    among = find_bundles() if among is None else among
    if name is None and among:
        return among[0]
    for root in () if name is None else (*(Path(place, name) for place in (BUNDLES, *places)), Path(name).absolute()):
        if metadata_path(root).is_file():
            return root
    more = [path.parents[1] for place in places for path in sorted(Path(place).glob("*/configs/metadata.json"))]
    known = sorted({root.name for root in (*among, *more)})
    raise ValueError(f"`bundle` must be one of {known}, or the path of a bundle's folder, got {name!r}.")


def training_stages(bundle_root: str | Path) -> list[Path]:
    """Return the overlays of `train.yaml` that are trained before it, sorted by name.

    These are the files `configs/train_*.yaml` that set `stage`, the folder in which `train.yaml` finds their weights.

    Args:
        bundle_root: The bundle's folder.
    """
    files = sorted((Path(bundle_root) / "configs").glob("train_*.yaml"))
    return [path for path in files if "stage" in (yaml.safe_load(path.read_text(encoding="utf-8")) or {})]
