"""Train a bundle on a server's studies: the commands that a user would type, one after the other.

Studies without a datalist.json get one from the names of their images.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser

from ...bundles import training_stages
from ...data.datalist import DATALIST_NAME
from ...files import MAX_NAME, shown, write_json
from ...preflight import refuse_wrong_kinds
from ...processes import run_child
from .limits import DEFAULT, Limits
from .running import PLACES, STEPS, hyper_parameters, overrides

VALIDATION_SHARE = 0.2  # fraction of patients
OVERLAYS = "overlays"


class Plan(NamedTuple):
    """A training that can start.

    Attributes:
        studies: Folder of the images.
        given: Hyper-parameters of `train.yaml`.
        overlays: Paths of the bundle's own overlays.
        datalist: Content of the datalist made from the images' names; None if the studies have a datalist.json.
    """

    studies: Path
    given: dict[str, Any]
    overlays: list[Path]
    datalist: dict[str, Any] | None


def plan(
    bundle_root: Path, studies: Path, images: Mapping[str, str], request: Mapping[str, Any], limits: Limits = DEFAULT
) -> Plan:
    """Check a request to train a bundle on a server's studies; nothing is written.

    Args:
        bundle_root: The bundle's folder.
        studies: Folder of the images; without a `datalist.json` their names state the domains.
        images: Path by name without suffix of each image.
        request: Hyper-parameters of `train.yaml`, and under `overlays` names of the bundle's own overlays.
        limits: Limits on the values.

    Raises:
        ValueError: If a parameter or overlay is refused, a value is of another kind than the bundle's, or the studies
            are unsuited for training.
    """
    config = ConfigParser.load_config_file(bundle_root / "configs" / "train.yaml")
    others = {name: value for name, value in request.items() if name != OVERLAYS}
    given = overrides(others, hyper_parameters(config), model=bundle_root.name, limits=limits)
    overlays = [_overlay(bundle_root, name) for name in _names(request.get(OVERLAYS))]
    own = {key: value for file in overlays for key, value in ConfigParser.load_config_file(file).items()}
    refuse_wrong_kinds(given, {**config, **own})
    if (studies / DATALIST_NAME).is_file():
        return Plan(studies, given, overlays, None)
    domains = config["domains"] if "domains" in config else [config["source"], config["target"]]
    return Plan(studies, given, overlays, datalist_of_names(images, domains))


def train(bundle_root: Path, planned: Plan) -> None:
    """Train a bundle; the weights go into the bundle's `models`, where inference reads them.

    Args:
        bundle_root: The bundle's folder.
        planned: What `plan` returns.

    Raises:
        RuntimeError: If the training ends in an error, which it has printed.
    """
    work = bundle_root / "output" / "label"
    work.mkdir(parents=True, exist_ok=True)
    data = planned.studies
    if planned.datalist is not None:
        data = write_json(work / DATALIST_NAME, planned.datalist).parent
    places = {"bundle_root": str(bundle_root), "dataset_dir": str(data)}
    settings = write_json(work / "request.json", {**planned.given, **places})
    for files in stages(bundle_root, planned.overlays):
        names = [str(file) for file in (*files, settings)]
        command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", str(names)]
        ended = run_child(command)
        if ended:
            raise RuntimeError(f"The training of {bundle_root.name!r} ended with exit code {ended}; see its output.")


def training_parameters(bundle_root: Path) -> dict[str, Any]:
    """Return the hyper-parameters of a bundle's `train.yaml` with their defaults, and `overlays`."""
    config = ConfigParser.load_config_file(bundle_root / "configs" / "train.yaml")
    return {**hyper_parameters(config), OVERLAYS: []}


def datalist_of_names(images: Mapping[str, str], domains: Sequence[str]) -> dict[str, Any]:
    """Build the datalist of images named `<patient>_<domain>`.

    The last fifth of each domain's patients by name, at least one, is for validation. A training patient with all
    domains is also a pair (`training_paired`). Images with other names are left out.

    Args:
        images: Path by name without suffix of each image.
        domains: Names of the domains, such as T1 and T2.

    Raises:
        ValueError: If fewer than two patients have a domain.

    Example:
        >>> names = ["p1_T1", "p2_T1", "p3_T2", "p4_T2"]
        >>> found = datalist_of_names({name: f"{name}.nii.gz" for name in names}, ["T1", "T2"])
        >>> [entry["patient"] for entry in found["training"]], [entry["patient"] for entry in found["validation"]]
        (['p1', 'p3'], ['p2', 'p4'])
    """
    patients: dict[str, dict[str, str]] = {}
    for name, path in sorted(images.items()):
        for domain in domains:
            if name.endswith(f"_{domain}"):
                patients.setdefault(name.removesuffix(f"_{domain}"), {})[domain] = path
    held_out = set().union(*(_last(domain, patients) for domain in domains))
    training = {patient: found for patient, found in patients.items() if patient not in held_out}
    for domain in domains:
        _require(any(domain in found for found in training.values()), domain, images)
    return {
        "name": "studies of a MONAI Label server",
        "training": _single(training),
        "training_paired": [
            {"patient": patient, **found} for patient, found in training.items() if len(found) == len(domains)
        ],
        "validation": _single({patient: patients[patient] for patient in sorted(held_out)}),
        "test": [],
    }


def stages(bundle_root: Path, overlays: Sequence[Path]) -> list[list[Path]]:
    """Return the config files of each training, in order: stages that the last one builds on come first."""
    files = [bundle_root / "configs" / "train.yaml", *overlays]
    return [*([*files, stage] for stage in training_stages(bundle_root)), files]


def _last(domain: str, patients: Mapping[str, Mapping[str, str]]) -> list[str]:
    with_domain = [patient for patient, found in patients.items() if domain in found]
    return with_domain[-max(1, round(VALIDATION_SHARE * len(with_domain))) :]


def _single(patients: Mapping[str, Mapping[str, str]]) -> list[dict[str, str]]:
    return [
        {"image": path, "domain": domain, "patient": patient}
        for patient, found in patients.items()
        for domain, path in found.items()
    ]


def _require(condition: bool, domain: str, images: Mapping[str, str]) -> None:
    if not condition:
        raise ValueError(
            f"Training needs images of {domain!r} of at least two patients, named <patient>_{domain}.nii.gz, or a"
            f" datalist.json in the studies (docs/data.md); the studies have {sorted(images)[:8]}."
        )


def _names(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list) else [given] if given else []


def _overlay(bundle_root: Path, name: Any) -> Path:
    """Return the path of a bundle's own overlay, which must leave paths and steps to the server."""
    named = isinstance(name, str) and len(name) <= MAX_NAME and re.fullmatch(r"\w+(/\w+)?", name)
    path = bundle_root / "configs" / f"{name}.yaml" if named else None
    if path is None or not path.is_file():
        raise ValueError(
            f"`{OVERLAYS}` must name files in {bundle_root.name}/configs, without suffix, got {shown(name)}."
        )
    fixed = sorted({*PLACES, *STEPS} & set(ConfigParser.load_config_file(path)))
    if fixed:
        raise ValueError(f"The overlay {name!r} sets {fixed}, which the server does: it is for the command line.")
    return path
