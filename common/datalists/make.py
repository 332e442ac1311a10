"""Make a `datalist.json` from file names, a table or DICOM headers: the verb `datalist`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ..data.datalist import DATALIST_NAME, SPLITS
from ..files import write_json
from .dicom_rules import find_in_dicom
from .entries import build_lists, by_patient, check_labels, datalist_report, moved_patients
from .found import Findings, FoundImage, domain_names
from .rules import attach_labels, find_by_pattern, find_in_csv
from .series import facts_of
from .splits import SHARES, assign_splits, check_shares, given_splits, refuse_leaks


class MadeDatalist(NamedTuple):
    """A datalist and its report.

    Attributes:
        path: Path of the file, written or not.
        content: The datalist.
        report: Counts, what was left out and why, as text.
    """

    path: Path
    content: dict[str, Any]
    report: str


def make_datalist(
    folder: str | Path,
    rule: str,
    *,
    output: str | Path | None = None,
    split: Sequence[float] | None = None,
    split_file: str | Path | None = None,
    seed: int = 0,
    name: str | None = None,
    domains: Mapping[Any, Any] | Sequence[Any] | str | None = None,
    label: str | None = None,
    misaligned: bool = False,
    replace: bool = False,
    dry_run: bool = False,
) -> MadeDatalist:
    """Find images, split their patients, and write the datalist that the bundles read.

    Args:
        folder: Folder of the data.
        rule: A pattern such as `{patient}_{domain}.nii.gz` (see `compile_pattern`), `csv:FILE` (see `find_in_csv`),
            or `dicom:kernel`, `dicom:contrast` or `dicom:sequence` (see `find_in_dicom`).
        output: The file to write, with paths relative to its folder; default: `datalist.json` in `folder`.
        split: Fractions of training, validation and test; default 0.7, 0.1, 0.2. They are drawn among the patients
            that have all domains on one grid; the others go to training or, if no patient has all domains, are split
            into training and validation.
        split_file: An earlier datalist, or a CSV file with the columns patient and split. Patients that it does not
            name are left out, or drawn if `split` is given as well.
        seed: Seed of the split.
        name: Name of the data, recorded in `network.json` with the patient counts; default: the folder's name.
        domains: Wanted domains, or `{found: wanted}` names; default: all that are found.
        label: Pattern of label maps, with `{patient}`.
        misaligned: Fill `training_paired` with a patient's images even if their grids differ.
        replace: Overwrite an existing file.
        dry_run: Write nothing.

    Returns:
        The datalist and its report.

    Raises:
        FileExistsError: If the output exists, without `replace`.
        FileNotFoundError: If the folder, or a file that a table names, does not exist.
        ValueError: If nothing matches, two patients share an image, or a split or domain would be empty.
    """
    root = Path(folder)
    path = _output(root, output, free=replace or dry_run)
    names = domain_names(domains)
    findings = _find(root, rule, names, label)
    images = _with_facts(findings, root)
    if not images:
        raise ValueError(_nothing(root, rule, findings))
    refuse_leaks(images)
    for file, why in (bad := check_labels(images)).items():
        findings.left_out[Path(file).name] = why
    images = [dataclasses.replace(image, label=None) if str(image.label) in bad else image for image in images]
    wanted = list(dict.fromkeys(names.values())) if names else sorted({image.domain for image in images})
    patients = by_patient(images, wanted, misaligned=misaligned)
    shares, given = check_shares(SHARES if split is None else split), given_splits(images, split_file)
    draw = split is not None or not given
    splits = assign_splits(patients, wanted, shares=shares, given=given, draw=draw, seed=seed)
    lists = build_lists(patients, splits, path.parent)
    _refuse_empty(lists, wanted, drawn=shares if draw else ())
    parameters = {"rule": _public(rule), "domains": names or wanted, "seed": seed, "split": shares}
    if split_file:
        parameters["split_file"] = Path(split_file).name
    content = {"name": name or root.resolve().name, "domains": wanted, "parameters": parameters, **lists}
    content = json.loads(json.dumps(content))  # as it will be read from the file
    report = datalist_report(content, patients, splits, findings.left_out)
    if path.exists() and (moved := moved_patients(path, splits)):
        report += f"\n{moved}"
    if not dry_run:
        write_json(path, content)
    return MadeDatalist(path, content, report)


def _output(root: Path, output: str | Path | None, *, free: bool) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"`folder` {str(root)!r} is not a folder. Give the folder of your images.")
    path = root / DATALIST_NAME if output is None else Path(output)
    path = path / DATALIST_NAME if path.is_dir() else path
    if path.exists() and not free:
        raise FileExistsError(
            f"{str(path)!r} exists. Write another file with `--output`, or write over it with `--replace`; with"
            " `--split_file` and its name its patients stay in their splits."
        )
    return path.resolve()


def _find(root: Path, rule: str, names: Mapping[str, str] | None, label: str | None) -> Findings:
    kind, _, rest = rule.partition(":")
    if kind == "csv":
        findings = find_in_csv(root, root / rest if (root / rest).is_file() else Path(rest), names=names)
    elif kind == "dicom":
        findings = find_in_dicom(root, rest, names=names)
    else:
        findings = find_by_pattern(root, rule, names=names, labels=label)
    if label and findings.images:
        findings.images = attach_labels(root, label, findings.images)
    return findings


def _with_facts(findings: Findings, root: Path) -> list[FoundImage]:
    """Read the headers of images, and leave out those that cannot be read."""
    images = []
    for image in tqdm(findings.images, desc="reading headers", disable=not findings.images):
        try:
            images.append(image if image.facts else dataclasses.replace(image, facts=facts_of(image.path)))
        except ValueError as error:
            findings.left_out[_below(image.path, root)] = str(error)
    return images


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _nothing(root: Path, rule: str, findings: Findings) -> str:
    seen = [f"{name}: {why}" for name, why in list(findings.left_out.items())[:3]]
    return (
        f"`rule` {rule!r} finds no image in {str(root)!r}. "
        + (f"Left out were {len(findings.left_out)}, such as {'; '.join(seen)}. " if seen else "It holds no image. ")
        + "Correct the rule; a pattern matches the whole path below the folder, such as '**/{patient}_{domain}.nii.gz'."
    )


def _refuse_empty(
    lists: Mapping[str, Sequence[Mapping[str, str]]], domains: Sequence[str], *, drawn: Sequence[float]
) -> None:
    """Raise ValueError if a split that should have patients has none, or training lacks a domain."""
    for split, share in zip(SPLITS, drawn):
        if share and not lists[split]:
            raise ValueError(
                f"{split} would be empty, with a share of {share:g}. Add patients, or give it no share (`--split`)."
            )
    have = {entry["domain"] for entry in lists["training"]}
    missing = [domain for domain in domains if domain not in have]
    if lists["training"] and missing:
        raise ValueError(
            f"training would have no image of {', '.join(missing)}, of the domains {', '.join(domains)}. Try another"
            " `--seed`, give training a larger share, or choose with `--domains`."
        )


def _public(rule: str) -> str:
    """Remove the folders of a table: the rule is recorded in `network.json`, which is passed on with the weights."""
    return f"csv:{Path(rule[4:]).name}" if rule.startswith("csv:") else rule
