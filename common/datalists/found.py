"""Images that a rule finds for a datalist, with patient and domain, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESERVED = ("patient", "domain", "image", "label")  # keys of an entry, not allowed as names of domains


@dataclass(frozen=True, eq=False)
class Facts:
    """Facts from the headers of an image; no voxels are read.

    Args:
        shape: Voxels along each axis.
        affine: (4, 4), from voxel indices to RAS in mm.
        frame: FrameOfReferenceUID of a DICOM series, else "".
        series: SeriesInstanceUID of a DICOM series, else "".
        files: Files of a DICOM series, sorted by position.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    frame: str = ""
    series: str = ""
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, eq=False)
class FoundImage:
    """An image that a rule found.

    Args:
        path: A NIfTI file, or the folder of one DICOM series.
        patient: Name of the patient; splits are by patient.
        domain: Name of the domain.
        session: What else distinguishes the images of a patient, such as the study; pairs are made within a session.
        label: Path of a label map.
        split: Split that the rule itself assigns.
        facts: Facts from the headers, read by the rule or later.
    """

    path: Path
    patient: str
    domain: str
    session: Mapping[str, str] = field(default_factory=dict)
    label: Path | None = None
    split: str | None = None
    facts: Facts | None = None


@dataclass
class Findings:
    """What a rule found.

    Args:
        images: Images found.
        left_out: Reason by name of what was left out.
    """

    images: list[FoundImage] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def domain_names(domains: Mapping[Any, Any] | Sequence[Any] | str | None) -> dict[str, str] | None:
    """Parse the wanted domains.

    Args:
        domains: Mapping from found to wanted names, list of names, or names separated by commas; None: all.

    Returns:
        Domain by the name that a rule finds; None: all names are taken as they are.

    Raises:
        ValueError: If a domain has a name that datalist entries use for something else.

    Example:
        >>> domain_names({"soft": "B30f"}), domain_names(("T1", "T2"))
        ({'soft': 'B30f'}, {'T1': 'T1', 'T2': 'T2'})
    """
    if domains is None:
        return None
    if isinstance(domains, Mapping):
        names = {str(found): str(name) for found, name in domains.items()}
    else:
        listed = domains.split(",") if isinstance(domains, str) else domains
        names = {str(name).strip(): str(name).strip() for name in listed}
    for name in names.values():
        check_domain(name)
    return names


def check_domain(name: str) -> None:
    """Raise ValueError for a domain whose name datalist entries use for something else."""
    if name in RESERVED or not name.strip():
        raise ValueError(
            f"A domain must not be called {name!r}: entries of a datalist use {', '.join(RESERVED)} for other things."
            " Rename it with `--domains \"{'found': 'wanted'}\"`; label maps are found with `--label`."
        )


def renamed(domain: str, names: Mapping[str, str] | None) -> str | None:
    """Return the domain that a found name stands for, or None if it is not wanted."""
    return domain if names is None else names.get(domain)


def unwanted(domain: str, names: Mapping[str, str]) -> str:
    """Return why an image of an unwanted domain is left out."""
    return f"domain {domain!r} is not among --domains {', '.join(names)}"


def visible(names: Sequence[str]) -> Iterator[str]:
    """Return the names that are not hidden, sorted."""
    return (name for name in sorted(names) if not name.startswith("."))
