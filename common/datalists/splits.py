"""Assignment of patients to training, validation and test, and the check that no two patients share an image."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from math import floor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from tqdm import tqdm

from ..data.datalist import SPLITS
from .entries import Patient
from .found import FoundImage
from .rules import read_splits

SHARES = (0.7, 0.1, 0.2)


def check_shares(shares: Sequence[float]) -> tuple[float, float, float]:
    """Return the shares of training, validation and test as numbers.

    Raises:
        ValueError: If there are not three, one is negative, or they do not add up to 1.
    """
    try:
        values = tuple(float(share) for share in shares)
    except (TypeError, ValueError):
        values = ()
    if len(values) != 3 or not all(0 <= value <= 1 for value in values) or abs(sum(values) - 1) > 1e-6:
        raise ValueError(
            f"`split` must be the three shares of {', '.join(SPLITS)}, which add up to 1, such as 0.7,0.1,0.2; got"
            f" {shares!r}."
        )
    return values


def given_splits(images: Sequence[FoundImage], split_file: str | Path | None) -> dict[str, str]:
    """Return the splits that a table assigns; that of one image holds for its patient.

    Args:
        images: Images, each with a split or without.
        split_file: File of splits, see `read_splits`.

    Returns:
        Split by patient.

    Raises:
        ValueError: If a patient is in two splits, or both the images and the file assign splits.
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


def draw_splits(
    patients: Iterable[str], shares: Sequence[float] = SHARES, *, seed: int = 0, filled: Iterable[str] = ()
) -> dict[str, str]:
    """Draw the split of each patient.

    Patients are sorted by a hash of seed and name; the first form the test, the next validation, the rest training.
    The order of two patients never changes, so that a new patient moves at most two others, those at the borders.

    Args:
        patients: Names of the patients.
        shares: Fractions of training, validation and test; each that is not 0 gets at least one patient.
        seed: Seed of the order.
        filled: Splits that have patients already and need no further one.

    Returns:
        Split by patient, sorted by name.

    Raises:
        ValueError: If there are too few patients.

    Example:
        >>> draw_splits(["p1", "p2", "p3", "p4"], (0.5, 0.25, 0.25))
        {'p1': 'training', 'p2': 'validation', 'p3': 'test', 'p4': 'training'}
    """
    training, validation, test = check_shares(shares)
    order = sorted(set(patients), key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    number, done = len(order), set(filled)
    need = [int(share > 0 and split not in done) for split, share in zip(SPLITS, (training, validation, test))]
    if number < sum(need):
        wanted = [split for split, least in zip(SPLITS, need) if least]
        raise ValueError(
            f"{number} {'patient' if number == 1 else 'patients'} cannot be split into {', '.join(wanted)}: each needs"
            f" one at least. Add patients, or give a split no share, such as `--split 1,0,0` (now"
            f" {training:g},{validation:g},{test:g})."
        )
    tests = min(max(_rounded(test * number), need[2]), number - need[0] - need[1])
    both = min(max(_rounded((test + validation) * number), tests + need[1]), number - need[0])
    places = ["test"] * tests + ["validation"] * (both - tests) + ["training"] * (number - both)
    return dict(sorted(zip(order, places)))


def assign_splits(
    patients: Sequence[Patient],
    domains: Sequence[str],
    *,
    shares: Sequence[float],
    given: Mapping[str, str],
    draw: bool,
    seed: int,
) -> dict[str, str]:
    """Assign patients to splits.

    Args:
        patients: All patients.
        domains: Domains that a patient of the test must have.
        shares: Fractions of training, validation and test.
        given: Splits that are already assigned.
        draw: Draw the splits of the other patients instead of leaving them out.
        seed: Seed of the draw.

    Returns:
        Split by patient.

    Raises:
        ValueError: If there are too few patients for the shares, or none for the test.
    """
    splits = {patient.name: given[patient.name] for patient in patients if patient.name in given}
    if not draw:
        return splits
    rest = [patient for patient in patients if patient.name not in given]
    complete = [patient.name for patient in rest if not patient.incomplete]
    partial = [patient for patient in rest if patient.incomplete]
    if complete:
        splits |= draw_splits(complete, shares, seed=seed, filled=splits.values())
        return splits | (dict.fromkeys((patient.name for patient in partial), "training") if shares[0] else {})
    if shares[2] and "test" not in splits.values():
        reasons = "; ".join(f"{patient.name}: {patient.incomplete}" for patient in partial[:3])
        raise ValueError(
            f"The test needs patients that have all of {', '.join(domains)} on one grid, and none has ({reasons})."
            " Choose domains with `--domains`, or train without a test by `--split 0.9,0.1,0`."
        )
    return splits | _unpaired(partial, shares, seed=seed, filled=splits.values())


def refuse_leaks(images: Iterable[FoundImage]) -> None:
    """Refuse images that two patients share: the same file, DICOM series or voxels.

    Voxels are compared if shapes agree: first the middle slice, then all. A copy is thus found in spite of another
    name, compression, number format, affine or identity.

    Args:
        images: Images whose facts were read.

    Raises:
        ValueError: If two patients share an image; the message names both patients and both files.
    """
    found = list(images)
    _refuse(found, [image.path.resolve() for image in found], "are the same file")
    _refuse(found, [_facts(image).series or None for image in found], "have the same SeriesInstanceUID")
    alike = _of_two_patients(found, [_facts(image).shape for image in found])
    count = sum(len(group) for group in alike)
    with tqdm(total=count, desc="comparing images of patients", disable=count == 0) as bar:
        for group in alike:
            for same in _of_two_patients(group, [_middle(image, bar) for image in group]):
                _refuse(same, [_whole(image) for image in same], "have the same voxels")


def _rounded(number: float) -> int:
    """Round half up, so that one more patient never adds two to a split, and tolerate the error of 0.7 + 0.1 + 0.2."""
    return floor(number + 0.5 + 1e-9)


def _unpaired(
    patients: Sequence[Patient], shares: Sequence[float], *, seed: int, filled: Iterable[str]
) -> dict[str, str]:
    """Split patients without all domains into training and validation, separately for each set of domains."""
    total = shares[0] + shares[1] or 1.0
    parts = (shares[0] / total, shares[1] / total, 0.0) if shares[0] + shares[1] else (1.0, 0.0, 0.0)
    groups: dict[tuple[str, ...], list[str]] = {}
    for patient in patients:
        groups.setdefault(tuple(sorted({image.domain for image in patient.images})), []).append(patient.name)
    splits: dict[str, str] = {}
    for group in groups.values():
        splits |= draw_splits(group, parts, seed=seed, filled=filled if len(group) > 1 else SPLITS)
    return splits


def _refuse(images: Sequence[FoundImage], keys: Sequence[Hashable], how: str) -> None:
    for first, *others in _of_two_patients(images, keys):
        second = next(image for image in others if image.patient != first.patient)
        raise ValueError(
            f"Patients {first.patient!r} and {second.patient!r} share an image: {str(first.path)!r} and"
            f" {str(second.path)!r} {how}. One of them in training and the other in test would make the scores those of"
            " training data. Give both one name, or remove the copy."
        )


def _of_two_patients(images: Sequence[FoundImage], keys: Sequence[Hashable]) -> list[list[FoundImage]]:
    """Return the groups of images with one key, other than None, that belong to several patients."""
    groups: defaultdict[Hashable, list[FoundImage]] = defaultdict(list)
    for image, key in zip(images, keys, strict=True):
        if key is not None:
            groups[key].append(image)
    return [group for group in groups.values() if len({image.patient for image in group}) > 1]


def _facts(image: FoundImage) -> Any:
    return image.facts


def _middle(image: FoundImage, bar: Any) -> bytes | None:
    bar.update()
    files = _facts(image).files
    return _pixels([files[len(files) // 2]]) if files else _voxels(image.path, _facts(image).shape[-1] // 2)


def _whole(image: FoundImage) -> bytes | None:
    return _pixels(_facts(image).files) if _facts(image).files else _voxels(image.path, slice(None))


def _voxels(path: Path, place: int | slice) -> bytes | None:
    """Hash the values, whatever their number format; None for a truncated file, which training will report."""
    try:
        image: Any = nib.load(path)
        return hashlib.sha256(np.asarray(image.dataobj[..., place], dtype=np.float64).tobytes()).digest()
    except Exception:  # damaged data may raise any exception in nibabel
        return None


def _pixels(files: Iterable[Path]) -> bytes:
    from pydicom import dcmread

    content = hashlib.sha256()
    for file in files:
        content.update(bytes(dcmread(file).get("PixelData", b"")))
    return content.digest()
