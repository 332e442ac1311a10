"""Pairing of a patient's images, the entries of a datalist, and the report of what it holds and leaves out."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.datalist import SPLITS
from .found import FoundImage
from .rules import read_splits
from .series import facts_of, same_grid

SHOWN = 5  # names listed per reason
Combination = Mapping[str, FoundImage]  # one image per domain


@dataclass(frozen=True, eq=False)
class Patient:
    """A patient and the combinations of images, one per domain, that can be paired.

    Args:
        name: Name of the patient.
        images: All images of the patient.
        aligned: Combinations on one grid.
        paired: Combinations for `training_paired`: aligned or, on request, on different grids.
        incomplete: Why there is no aligned combination; "" where there is one.
    """

    name: str
    images: tuple[FoundImage, ...]
    aligned: tuple[Combination, ...]
    paired: tuple[Combination, ...]
    incomplete: str


def by_patient(images: Iterable[FoundImage], domains: Sequence[str], *, misaligned: bool = False) -> list[Patient]:
    """Group images by patient, and pair those of a patient.

    Images are paired within a session. A grid must have exactly one image of each domain: with two, it is unknown
    which belong together.

    Args:
        images: Images whose facts were read.
        domains: Domains that every pair must have.
        misaligned: Pair the images of a session for `training_paired` even on different grids.

    Returns:
        Patients, sorted by name.
    """
    grouped: defaultdict[str, list[FoundImage]] = defaultdict(list)
    for image in images:
        grouped[image.patient].append(image)
    return [_patient(name, grouped[name], domains, misaligned=misaligned) for name in sorted(grouped)]


def build_lists(patients: Sequence[Patient], splits: Mapping[str, str], root: Path) -> dict[str, list[dict[str, str]]]:
    """Build the lists of a datalist.

    Args:
        patients: All patients.
        splits: Split by patient, of those that are assigned to one.
        root: Folder that paths are relative to.

    Returns:
        `training` with one image per entry, `training_paired` and `test` with one combination per entry, `validation`
        with combinations for patients that have them, else single images.
    """
    training, validation, test = (
        [patient for patient in patients if splits.get(patient.name) == split] for split in SPLITS
    )
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


def check_labels(images: Sequence[FoundImage]) -> dict[str, str]:
    """Return the label maps that share a grid with no image of their patient, and why; DICOM is not checked."""
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


def datalist_report(
    content: Mapping[str, Any], patients: Sequence[Patient], splits: Mapping[str, str], left_out: Mapping[str, str]
) -> str:
    """Write a table of patients and images by split and domain, and what was left out.

    Args:
        content: The datalist.
        patients: All patients found.
        splits: Split by patient, of those that are assigned to one.
        left_out: Reason by name of what was left out.
    """
    domains = content["domains"]
    head = ["", "patients", *domains, "with all", "with label"]
    rows = [[key, *_counts(content[key], domains)] for key in ("training", "training_paired", "validation", "test")]
    lines = _table([head, *rows])
    not_tested = {p.name: p.incomplete for p in patients if p.incomplete and splits.get(p.name) == "test"}
    lines += _reasons(
        "without all domains on one grid",
        {p.name: p.incomplete for p in patients if p.incomplete and splits.get(p.name) in SPLITS[:2]},
    )
    without = {p.name: p.incomplete or "not named in the split file" for p in patients if p.name not in splits}
    lines += _reasons("patients left out", {**without, **not_tested})
    lines += _reasons("images left out", left_out)
    lines += _reasons("look at", _similar([patient.name for patient in patients]))
    return "\n".join(lines)


def moved_patients(earlier: Path, splits: Mapping[str, str]) -> str:
    """Return a warning about patients whose split differs from an earlier datalist's; "" if there are none."""
    try:
        before = read_splits(earlier)
    except (ValueError, OSError):
        return ""
    moved = {name: f"{before[name]} -> {split}" for name, split in splits.items() if before.get(name, split) != split}
    if not moved:
        return ""
    shown = ", ".join(f"{name} ({change})" for name, change in list(moved.items())[:SHOWN])
    return (
        f"warning: {len(moved)} patients change their split from the earlier {earlier.name}: {shown}. Networks trained"
        f" with it have seen other patients; `--split_file {earlier.name}` keeps them where they were."
    )


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
    return "several images of a domain, and no grid with one of each domain"


def _single(image: FoundImage, root: Path) -> dict[str, str]:
    return {"image": _relative(image.path, root), "domain": image.domain, "patient": image.patient}


def _joint(patient: Patient, images: Combination, root: Path) -> dict[str, str]:
    entry = {"patient": patient.name, **{domain: _relative(image.path, root) for domain, image in images.items()}}
    label = next((image.label for image in images.values() if image.label is not None), None)
    return entry if label is None else {**entry, "label": _relative(label, root)}


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _counts(entries: Sequence[Mapping[str, str]], domains: Sequence[str]) -> list[object]:
    images = Counter(
        domain for entry in entries for domain in domains if domain in entry or entry.get("domain") == domain
    )
    together = sum(all(domain in entry for domain in domains) for entry in entries)
    labels = sum("label" in entry for entry in entries)
    return [len({entry["patient"] for entry in entries}), *(images[domain] for domain in domains), together, labels]


def _table(rows: Sequence[Sequence[object]]) -> list[str]:
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]).rstrip()
        for row in texts
    ]


def _reasons(title: str, reasons: Mapping[str, str]) -> list[str]:
    if not reasons:
        return []
    names = defaultdict(list)
    for name, why in reasons.items():
        names[why].append(name)
    lines = [f"{title}: {len(reasons)}"]
    for why, found in sorted(names.items()):
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        lines.append(f"  {len(found)}  {why}: {', '.join(found[:SHOWN])}{more}")
    return lines


def _similar(names: Sequence[str]) -> dict[str, str]:
    """Return names that differ only in capitals and punctuation, and may be one patient."""
    alike = defaultdict(list)
    for name in names:
        alike["".join(c for c in name.casefold() if c.isalnum()) or name].append(name)
    why = "names of patients that may be one"
    return {" and ".join(group): why for group in alike.values() if len(group) > 1}
