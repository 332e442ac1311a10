"""A datalist for training from the names of the images in a server's studies, where no datalist.json lies there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

VALIDATION_SHARE = 0.2


def datalist_of_names(images: Mapping[str, str], domains: Sequence[str]) -> dict[str, Any]:
    """
    The datalist of images that are called `<patient>_<domain>`.

    Of each domain the last fifth of its patients, by name, at least one, is for validation. A patient with all domains
    is also a pair (`training_paired`). Images of other names are left out.

    Args:
        images: path of each image by its name, without suffix.
        domains: names, such as T1 and T2.

    Raises:
        ValueError: when fewer than two patients have a domain.

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
