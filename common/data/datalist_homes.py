"""The split of each patient: as a table says, else drawn, with the test among those who can be scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .datalist import SPLITS
from .datalist_csv import read_splits
from .datalist_entries import Patient
from .datalist_found import FoundImage
from .datalist_split import draw_splits


def given_splits(images: Sequence[FoundImage], split_file: str | Path | None) -> dict[str, str]:
    """
    The splits that a table states; one of a patient holds for all of its images.

    Args:
        images: maybe each with its split.
        split_file: see `read_splits`.

    Raises:
        ValueError: when a patient is in two splits, or both tables state some.
    """
    given = read_splits(split_file) if split_file else {}
    if split_file and any(image.split for image in images):
        raise ValueError("The table of `rule` has a column 'split': leave it empty, or give no `split_file`.")
    for image in images:
        if image.split and given.setdefault(image.patient, image.split) != image.split:
            raise ValueError(
                f"Patient {image.patient!r} is in {given[image.patient]!r} and, with {image.path.name}, in"
                f" {image.split!r}: a patient belongs to one split, or the scores are those of training data."
            )
    return given


def homes(
    patients: Sequence[Patient],
    domains: Sequence[str],
    *,
    shares: Sequence[float],
    given: Mapping[str, str],
    draw: bool,
    seed: int,
) -> dict[str, str]:
    """
    The split of each patient that gets one.

    Args:
        patients: all.
        domains: that a patient of the test must have.
        shares: of training, validation and test.
        given: splits that are settled.
        draw: the splits of the others; or leave them out.
        seed: of the draw.

    Raises:
        ValueError: when there are too few patients for the shares, or none for the test.
    """
    home = {patient.name: given[patient.name] for patient in patients if patient.name in given}
    if not draw:
        return home
    rest = [patient for patient in patients if patient.name not in given]
    complete = [patient.name for patient in rest if not patient.incomplete]
    partial = [patient for patient in rest if patient.incomplete]
    if complete:
        home |= draw_splits(complete, shares, seed=seed, filled=home.values())
        return home | (dict.fromkeys((patient.name for patient in partial), "training") if shares[0] else {})
    if shares[2] and "test" not in home.values():
        reasons = "; ".join(f"{patient.name}: {patient.incomplete}" for patient in partial[:3])
        raise ValueError(
            f"The test needs patients that have all of {', '.join(domains)} on one grid, and none has ({reasons})."
            " Choose domains with `--domains`, or train without a test by `--split 0.9,0.1,0`."
        )
    return home | _unpaired(partial, shares, seed=seed, filled=home.values())


def _unpaired(
    patients: Sequence[Patient], shares: Sequence[float], *, seed: int, filled: Iterable[str]
) -> dict[str, str]:
    """Training and validation of patients none of whom has all domains; each set of domains is split for itself."""
    total = shares[0] + shares[1] or 1.0
    parts = (shares[0] / total, shares[1] / total, 0.0) if shares[0] + shares[1] else (1.0, 0.0, 0.0)
    groups: dict[tuple[str, ...], list[str]] = {}
    for patient in patients:
        groups.setdefault(tuple(sorted({image.domain for image in patient.images})), []).append(patient.name)
    home: dict[str, str] = {}
    for group in groups.values():
        home |= draw_splits(group, parts, seed=seed, filled=filled if len(group) > 1 else SPLITS)
    return home
