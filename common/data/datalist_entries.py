"""From the images of patients to the lists of a datalist: who has all domains on one grid."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .datalist_facts import facts_of, same_grid
from .datalist_found import FoundImage

Combination = Mapping[str, FoundImage]  # one image a domain


@dataclass(frozen=True, eq=False)
class Patient:
    """
    Args:
        name: of the patient.
        images: all of them.
        aligned: combinations of all domains on one grid.
        paired: combinations for `training_paired`, aligned or, if asked for, of any grids.
        incomplete: why there is none that is aligned; "" where there is.
    """

    name: str
    images: tuple[FoundImage, ...]
    aligned: tuple[Combination, ...]
    paired: tuple[Combination, ...]
    incomplete: str


def by_patient(images: Iterable[FoundImage], domains: Sequence[str], *, misaligned: bool = False) -> list[Patient]:
    """
    Patients in the order of their names, with what can be paired of their images.

    Images are paired within a session. Of those on one grid there must be one of each domain: with two nobody knows
    which belongs to which.

    Args:
        images: with their facts.
        domains: all that an entry must have.
        misaligned: pair the images of a session for `training_paired` even on different grids.
    """
    grouped: defaultdict[str, list[FoundImage]] = defaultdict(list)
    for image in images:
        grouped[image.patient].append(image)
    return [_patient(name, grouped[name], domains, misaligned=misaligned) for name in sorted(grouped)]


def _patient(name: str, images: Sequence[FoundImage], domains: Sequence[str], *, misaligned: bool) -> Patient:
    sessions: defaultdict[tuple[tuple[str, str], ...], list[FoundImage]] = defaultdict(list)
    for image in images:
        sessions[tuple(sorted(image.session.items()))].append(image)
    grids = [grid for session in sessions.values() for grid in _grids(session)]
    aligned = _combinations(grids, domains)
    paired = _combinations(sessions.values(), domains) if misaligned else aligned
    return Patient(name, tuple(images), aligned, paired or aligned, "" if aligned else _reason(sessions, domains))


def _grids(images: Iterable[FoundImage]) -> list[list[FoundImage]]:
    groups: list[list[FoundImage]] = []
    for image in images:
        assert image.facts is not None  # read before
        for group in groups:
            if group[0].facts is not None and same_grid(group[0].facts, image.facts):
                group.append(image)
                break
        else:
            groups.append([image])
    return groups


def _combinations(groups: Iterable[Sequence[FoundImage]], domains: Sequence[str]) -> tuple[Combination, ...]:
    found = []
    for group in groups:
        combination = {image.domain: image for image in group}
        if len(group) == len(combination) and set(combination) == set(domains):
            found.append({domain: combination[domain] for domain in domains})
    return tuple(found)


def _reason(sessions: Mapping[Any, Sequence[FoundImage]], domains: Sequence[str]) -> str:
    have = {image.domain for session in sessions.values() for image in session}
    if missing := [domain for domain in domains if domain not in have]:
        return f"no {', '.join(missing)}"
    whole = [session for session in sessions.values() if {image.domain for image in session} == set(domains)]
    if not whole:
        return "its domains are of different sessions"
    if all(len(session) == len(domains) for session in whole):
        return "its domains lie on different grids: register and resample them"
    return "several images of a domain, and none on the grid of one of each other"


def build_lists(patients: Sequence[Patient], home: Mapping[str, str], root: Path) -> dict[str, list[dict[str, str]]]:
    """
    The lists of a datalist.

    Args:
        patients: all.
        home: the split of each that has one.
        root: the folder that paths are relative to.

    Returns:
        `training` with one image an entry, `training_paired` and `test` with one combination an entry, `validation`
        with combinations where patients have them, else images.
    """
    split = {name: [patient for patient in patients if home.get(patient.name) == name] for name in set(home.values())}
    training, validation, test = (split.get(name, []) for name in ("training", "validation", "test"))
    return {
        "training": [_single(image, root) for patient in training for image in patient.images],
        "training_paired": [_joint(patient, one, root) for patient in training for one in patient.paired],
        "validation": [
            entry
            for patient in validation
            for entry in (
                [_joint(patient, one, root) for one in patient.aligned]
                or [_single(image, root) for image in patient.images]
            )
        ],
        "test": [_joint(patient, one, root) for patient in test for one in patient.aligned],
    }


def _single(image: FoundImage, root: Path) -> dict[str, str]:
    return {"image": _relative(image.path, root), "domain": image.domain, "patient": image.patient}


def _joint(patient: Patient, images: Combination, root: Path) -> dict[str, str]:
    entry = {"patient": patient.name, **{domain: _relative(image.path, root) for domain, image in images.items()}}
    label = next((image.label for image in images.values() if image.label is not None), None)
    return entry if label is None else {**entry, "label": _relative(label, root)}


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def check_labels(images: Sequence[FoundImage]) -> dict[str, str]:
    """The label maps on the grid of no image of their patient, and why; beside DICOM series they are not checked."""
    bad: dict[str, str] = {}
    good: set[Path] = set()
    for image in images:
        if image.label is None or image.label in good:
            continue
        assert image.facts is not None  # read before
        try:
            if image.facts.files or same_grid(facts_of(image.label), image.facts):
                good.add(image.label)
            else:
                bad.setdefault(str(image.label), f"label map, not on the grid of {image.path.name}")
        except ValueError as error:
            bad[str(image.label)] = f"label map, {error}"
    return {label: why for label, why in bad.items() if Path(label) not in good}
