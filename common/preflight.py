"""Check a bundle's merged configuration before work starts: the first expression of every `run` list.

It refuses mistyped overrides, missing paths and values of a wrong type: `--batch_size four` would otherwise fail deep
inside a component.
"""

from __future__ import annotations

import difflib
import glob
import importlib
import inspect
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, cast

import yaml
from monai.bundle import ComponentLocator, ConfigParser
from monai.bundle.config_item import ConfigExpression
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS
from monai.utils import BundlePropertyConfig

from .devices import check_device
from .errors import causes, own_error
from .files import claim
from .moved import FORMER_SECTIONS

EXPRESSIONS = ("$", "@", "%")
WHOLE_NUMBERS = ("_size", "_epochs", "_workers", "_interval")
PLACES = ("_dir", "bundle_root")
TRACKING: list[dict[str, Any]] = list(DEFAULT_EXP_MGMT_SETTINGS.values())
TRACKING_IDS = {id_ for each in TRACKING for id_ in each["configs"].keys() - each["handlers_id"].keys()}
RUN_IDS = ("imports", "initialize", "run", "finalize", "training", "inference", "evaluating", "_meta_")
DATA = "train::dataset::data"
OPTIONAL = ("phantom",)  # of a demonstration, whose data may be left out (`--make_data '$None'`)
TARGET_KEYS = ("_target_", "_requires_", "_disabled_", "_mode_", "_desc_", "_wrap_")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
REFERENCE = re.compile(r"[@%]((?:\w|::|#)+)")


def check(*, exists: str | Path | None = None, config: ConfigParser | None = None) -> None:
    """Check the ids and values of a bundle's merged configuration, and that its data exist.

    MONAI silently accepts an override or overlay id that nothing reads (`--max_epoch 3`). Here an id is valid if MONAI
    defines it, if the bundle's `train.yaml` or `inference.yaml` has it, if something in the configuration refers to
    it, or if it is an argument of its component.

    Args:
        exists: A file, folder or glob pattern that must exist (`dataset_dir`).
        config: The parser to check; default: the one that is evaluating the calling expression.

    Raises:
        ValueError: If an id is unknown (the message names the nearest valid one), its value has a wrong type, or
            another training uses `output_dir`, `models_dir` or `cache_dir`.
        FileNotFoundError: If `exists` does not exist.

    Example:
        In a config: `run: ["$common.preflight.check(exists=@dataset_dir)", ...]`
    """
    _show_expected_errors_without_traceback()
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")  # a missing GPU decoder does not matter here
    parser = config or _calling_parser()
    if parser is not None:
        restore_former_sections(parser)
        restore_training_data(parser)
        given = cast(dict[str, Any], parser.config)
        root = Path(parser.get_parsed_content("bundle_root", default="."))
        own = _own_values(root, "train.yaml", "inference.yaml")
        _refuse_unknown_ids(given, set(own), parser.locator)
        refuse_wrong_kinds(given, {**_own_values(root, "evaluate.yaml"), **own})
        if "device" in given:
            check_device(parser.get_parsed_content("device"))
        if "train" in given and os.environ.get("RANK", "0") == "0":
            _claim_folders(parser)
    if exists is not None and not Path(exists).exists() and not glob.glob(str(exists), recursive=True):
        raise FileNotFoundError(
            f"`dataset_dir` {str(exists)!r} does not exist (from {os.getcwd()}). Give your data with `--dataset_dir`,"
            f" or make the default data: `python -m common phantom --help` (in the project or its wheel)."
        )


def _claim_folders(parser: ConfigParser) -> None:
    """Reserve the folders that a training writes, so that no other one writes there as well."""
    for name in ("output_dir", "models_dir", "cache_dir"):
        if name in parser.get() and (folder := parser.get_parsed_content(name)) is not None:
            claim(folder, f"`{name}`")


def restore_former_sections(parser: ConfigParser) -> dict[str, Any]:
    """Restore former components that overlays of earlier versions refer to.

    Args:
        parser: Parser of the merged configuration, which may be evaluating already; it is changed in place.

    Returns:
        The restored ids and their content, each announced by a `FutureWarning`.

    Example:
        >>> loader = {"_target_": "DataLoader", "dataset": "@train#dataset", "sampler": "@train#sampler"}
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     found = restore_former_sections(ConfigParser({"train": {"sampler": {"seed": 3}, "dataloader": loader}}))
        >>> found["train::sampler"]["_target_"], found["train::sampler"]["seed"]
        ('common.data.EpochSampler', 3)
    """
    restored: dict[str, Any] = {}
    for id_, former in FORMER_SECTIONS.items():
        given, taker = parser.get(id_), parser.get(former.taker)
        uses = [ref for text in _strings(parser.get()) for ref in REFERENCE.findall(text) if id_ in _prefixes(ref)]
        ours = isinstance(taker, dict) and taker.get("_target_") == former.target
        if not isinstance(given, dict) or "_target_" in given or len(uses) <= ours:
            continue
        section, name = id_.rsplit("::", 1)
        # Not `parser[id_] = ...`, which would discard everything evaluated so far.
        restored[id_] = parser.get(section)[name] = {**former.was, **given}
        warnings.warn(
            f"`{id_.replace('::', '#')}` holds arguments alone now, which `{former.target}` takes: let"
            f" `{former.taker.replace('::', '#')}` be that, or give `{id_.replace('::', '#')}` a `_target_`. That it is"
            " made a component for what refers to it will go in 0.3 (docs/upgrading.md).",
            FutureWarning,
            stacklevel=3,
        )
    if restored and parser.ref_resolver.items:
        fresh = ConfigParser(parser.get(), globals=parser.globals)
        fresh.parse()
        done = parser.ref_resolver.resolved_content
        parser.ref_resolver.items.update({i: item for i, item in fresh.ref_resolver.items.items() if i not in done})
    return restored


def restore_training_data(parser: ConfigParser) -> bool:
    """Restore the entries of the training data for an overlay of an earlier version that gives a data set of its own.

    The bundles' volumes are loaded from `train#dataset#data`, which such a data set lacks.

    Args:
        parser: Parser that is evaluating the merged configuration; the id is added to its resolver alone, so that the
            data set is not given the argument.

    Returns:
        Whether the id was added.
    """
    dataset = parser.get("train::dataset")
    uses = (ref for text in _strings(parser.get()) for ref in REFERENCE.findall(text))
    if DATA in parser or dataset is None or DATA not in (ref.replace("#", "::") for ref in uses):
        return False
    key = "@training_list" if "training_list" in parser else "'training'"
    loaded = f"$common.data.load_datalist(@dataset_dir, {key})"
    parser.ref_resolver.add_item(ConfigExpression(config=loaded, id=DATA, globals=parser.globals))
    return True


def refuse_wrong_kinds(config: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare the types of top-level values with those in the bundle's own files.

    A number must stay a number, a boolean a boolean, a path a path; expressions pass, as their value is not known yet.

    Args:
        config: Merged configuration, with overrides and overlays.
        own: Values of the bundle's own files.

    Raises:
        ValueError: If a type differs; the message names the id, the value and a valid one.

    Example:
        >>> refuse_wrong_kinds({"batch_size": "four"}, {"batch_size": 4})
        Traceback (most recent call last):
        ...
        ValueError: `batch_size` must be a whole number >= 1, such as 4, got 'four'.
    """
    for id_, value in config.items():
        if isinstance(value, str) and value.startswith(EXPRESSIONS):
            continue
        if isinstance(own.get(id_), dict) and isinstance(value, (str, int, float)):
            settings = [name for name, default in own.items() if not isinstance(default, (dict, list))]
            near = difflib.get_close_matches(id_, settings, n=1, cutoff=0.75)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"`{id_}` must be a section, as it is a component, got {value!r}.{hint}")
        if id_ == "device":
            check_device(value)
        elif id_.endswith(PLACES):
            if _is_path(value) or (value is None and own.get(id_, "") is None):
                continue
            raise ValueError(f"`{id_}` must be a path, such as '/data/study', got {value!r}.")
        elif id_ in own and (rule := _broken_rule(id_, value, own[id_])) is not None:
            raise ValueError(f"`{id_}` must be {rule}, such as {1 if own[id_] is None else own[id_]}, got {value!r}.")


def _calling_parser() -> ConfigParser | None:
    """Find the parser among the callers of this function, as MONAI passes an expression no reference to it."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigParser):
            return caller
        frame = frame.f_back
    return None


def _own_values(bundle_root: Path, *names: str) -> dict[str, Any]:
    """Return the top-level ids of the bundle's own files.

    Those of `train.yaml` and `inference.yaml` stay valid if an overlay makes them unused.
    """
    files = [bundle_root / "configs" / name for name in names]
    return {id_: value for file in files if file.is_file() for id_, value in _quickly_read(file).items()}


def _quickly_read(file: Path) -> dict[str, Any]:
    """Read a YAML file by the C library: MONAI's own way, by Python alone, takes ten times as long."""
    loader = LOADER(file.read_bytes())
    try:
        return dict(loader.get_single_data())
    finally:
        loader.dispose()


def _broken_rule(id_: str, value: Any, default: Any) -> str | None:
    """Return what a value must be, or None if it is valid."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if id_.endswith(WHOLE_NUMBERS) and (default is None or isinstance(default, int)):
        least = 1 if id_ == "batch_size" else 0
        if (value is None and default is None) or (isinstance(value, int) and _is_number(value) and value >= least):
            return None
        return f"a whole number >= {least}"
    if not isinstance(default, (int, float)) or value is None or _is_number(value):
        return None
    return "a number"


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike)) and bool(str(value).strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _refuse_unknown_ids(config: dict[str, Any], own: set[str], locator: ComponentLocator) -> None:
    properties = [*TrainProperties.values(), *InferProperties.values(), *MetaProperties.values()]
    standard = {part for p in properties for part in _prefixes(str(cast(dict[str, Any], p)[BundlePropertyConfig.ID]))}
    known = standard | _referenced(config) | own | {*RUN_IDS, *OPTIONAL, *TRACKING_IDS}
    for id_, names in _sections(config, known, locator):
        for name in names["given"]:
            if name not in names["valid"]:
                full = f"{id_}::{name}" if id_ else name
                near = difflib.get_close_matches(name, sorted(names["valid"]), n=1, cutoff=0.5)
                hint = f" Did you mean {near[0]!r}?" if near else f" Valid here: {', '.join(sorted(names['valid']))}."
                raise ValueError(f"The config has no use for the id {full!r}: an override must name an id.{hint}")


def _referenced(config: Any) -> set[str]:
    """Return the ids that a configuration refers to, and those of the sections around them."""
    return {prefix for text in _strings(config) for ref in REFERENCE.findall(text) for prefix in _prefixes(ref)}


def _prefixes(id_: str) -> Iterator[str]:
    """Return the prefixes of `a::b::c` (or with #): `a`, `a::b`, `a::b::c`."""
    parts = id_.replace("#", "::").strip(":").split("::")
    return ("::".join(parts[: n + 1]) for n in range(len(parts)))


def _strings(config: Any) -> Iterator[str]:
    if isinstance(config, str):
        yield config
    elif isinstance(config, dict):
        for value in config.values():
            yield from _strings(value)
    elif isinstance(config, list):
        for value in config:
            yield from _strings(value)


def _sections(
    config: dict[str, Any], known: set[str], locator: ComponentLocator
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield given and valid ids: of the top level, of `train` and `validate`, and of each component."""
    top = {id_.split("::")[0] for id_ in known}
    yield "", {"given": set(config), "valid": top}
    for section in ("train", "validate"):
        if isinstance(config.get(section), dict):
            valid = {id_.split("::")[1] for id_ in known if id_.startswith(section + "::")}
            yield section, {"given": set(config[section]), "valid": valid}
    for id_, component in _components(config, ""):
        arguments = _arguments(component["_target_"], locator)
        if arguments is not None:
            yield id_, {"given": set(component) - set(TARGET_KEYS), "valid": arguments}


def _components(config: Any, id_: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(config, dict):
        if isinstance(config.get("_target_"), str):
            yield id_, config
        for name, value in config.items():
            yield from _components(value, f"{id_}::{name}" if id_ else str(name))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from _components(value, f"{id_}::{index}")


def _arguments(target: str, locator: ComponentLocator) -> set[str] | None:
    """Return the argument names of a component; None if it takes any, or is not found by its full name.

    A locator scans all of MONAI once, for the first component that it seeks, so that it is the parser's own.
    """
    module, _, name = target.rpartition(".")
    if not module:
        found = locator.get_component_module_name(target)
        if not isinstance(found, str):
            return None
        module, name = found, target
    try:
        parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    except (ImportError, AttributeError, ValueError, TypeError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return set(parameters)


def _show_expected_errors_without_traceback() -> None:
    """Let errors that this package raises end in their message on the command line, without 60 lines of traceback.

    `BUNDLE_TRACEBACK=1` shows it. Programs that import MONAI's functions are not affected.
    """
    command_line = Path(sys.argv[0]).parts[-3:-1] == ("monai", "bundle")
    if command_line and not os.environ.get("BUNDLE_TRACEBACK") and sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print_root_message


def _print_root_message(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt) or any(isinstance(link, KeyboardInterrupt) for link in causes(error)):
        print("\nstopped: files that were finished are complete, nothing else is left.", file=sys.stderr)
    elif (ours := own_error(error)) is not None:
        print(f"\nerror: {ours}\n(BUNDLE_TRACEBACK=1 shows where it was raised)", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
