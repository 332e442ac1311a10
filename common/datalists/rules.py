"""Rules that find images: patterns of file names such as `{patient}_{domain}.nii.gz`, and tables in CSV."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..data.datalist import SPLITS
from ..dicom.files import is_dicom
from ..images.nifti import VOLUME_SUFFIXES
from .found import Findings, FoundImage, check_domain, renamed, unwanted, visible

PART = re.compile(r"\{(?P<name>\w*)\}|(?P<wild>\*\*/|\*\*|\*|\?)")
WILD = {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
REQUIRED = ("patient", "domain", "image")  # columns of a table


def find_by_pattern(
    folder: Path, pattern: str, *, names: Mapping[str, str] | None = None, labels: str | None = None
) -> Findings:
    """Find the NIfTI files and folders of DICOM series whose path below a folder matches a pattern.

    Args:
        folder: Folder to search, at any depth; hidden files are ignored.
        pattern: Pattern of paths, see `compile_pattern`.
        names: Wanted domains, see `domain_names`.
        labels: Pattern of label maps, which are not images, see `attach_labels`.
    """
    wanted = compile_pattern(pattern.rstrip("/"), domains=sorted(names or (), key=len, reverse=True))
    any_domain = compile_pattern(pattern.rstrip("/"))
    label = compile_pattern(labels, required=["patient"]) if labels else None
    findings = Findings()
    for name in _candidates(folder, series=not pattern.lower().endswith(VOLUME_SUFFIXES)):
        if label and label.fullmatch(name):
            continue
        match = wanted.fullmatch(name)
        if match is None:
            other = any_domain.fullmatch(name)
            findings.left_out[name] = unwanted(other["domain"], names) if other and names else "does not match the rule"
            continue
        parts = match.groupdict()
        domain = renamed(parts.pop("domain"), names)
        assert domain is not None  # the expression has no other
        check_domain(domain)
        findings.images.append(FoundImage(folder / name, parts.pop("patient").strip(), domain, session=parts))
    return findings


def find_in_csv(folder: Path, file: Path, *, names: Mapping[str, str] | None = None) -> Findings:
    """Find the images that a CSV file lists.

    Args:
        folder: Folder that relative paths start from.
        file: Table with a header line, separated by commas, semicolons or tabs. Columns: patient, domain, image, and
            optionally session, label and split.
        names: Wanted domains, see `domain_names`.

    Raises:
        FileNotFoundError: If the table, or a file that it names, does not exist.
        ValueError: If a column or value is missing, or a split has an unknown name.
    """
    findings = Findings()
    for line, row in _rows(file, REQUIRED):
        where = f"{file.name}, line {line}"
        for name in REQUIRED:
            if not row[name]:
                raise ValueError(f"{where}: {name!r} is empty; every image needs {', '.join(REQUIRED)}.")
        path, label = folder / row["image"], folder / row["label"] if row.get("label") else None
        for given in (path, label):
            if given is not None and not os.path.exists(given):
                raise FileNotFoundError(f"{where}: {str(given)!r} does not exist. Correct the path or remove the line.")
        split = _split(row["split"], where) if row.get("split") else None
        domain = renamed(row["domain"], names)
        if domain is None:
            findings.left_out[row["image"]] = unwanted(row["domain"], names or {})
            continue
        check_domain(domain)
        session = {"session": row["session"]} if row.get("session") else {}
        findings.images.append(FoundImage(path, row["patient"], domain, session=session, label=label, split=split))
    return findings


def attach_labels(folder: Path, pattern: str, images: Sequence[FoundImage]) -> list[FoundImage]:
    """Attach the label maps of patients to their images.

    Args:
        folder: Folder to search.
        pattern: Pattern with `{patient}`, and maybe further names of the images' own pattern, which must agree.
        images: Images found by any rule.

    Returns:
        The images, with label maps.

    Raises:
        ValueError: If the pattern has `{domain}`, matches no file, or matches two of one patient.
    """
    expression = compile_pattern(pattern, required=["patient"])
    shared = set(expression.groupindex) - {"patient"}
    known = {name for image in images for name in image.session}
    if shared - known:
        raise ValueError(
            f"`label` {pattern!r} names {{{', '.join(sorted(shared - known))}}}, which `rule` does not: a label map"
            " belongs to a patient, for all of its domains. Use `*` there."
        )
    labels: dict[tuple[str, ...], Path] = {}
    for name in _candidates(folder, series=False):
        if match := expression.fullmatch(name):
            key = (match["patient"].strip(), *(match[part] for part in sorted(shared)))
            if key in labels:
                raise ValueError(f"`label` {pattern!r} matches {labels[key].name} and {name} for {' '.join(key)!r}.")
            labels[key] = folder / name
    if not labels:
        raise ValueError(f"`label` {pattern!r} matches no file in {str(folder)!r}.")
    keys = [(image.patient, *(image.session.get(part, "") for part in sorted(shared))) for image in images]
    return [replace(image, label=labels.get(key, image.label)) for image, key in zip(images, keys)]


def read_splits(file: str | Path) -> dict[str, str]:
    """Read the split of each patient.

    Args:
        file: An earlier datalist, or a CSV file with the columns patient and split.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is neither, or assigns a patient to two splits.
    """
    path = Path(file)
    splits: dict[str, str] = {}
    for patient, split, where in _json_splits(path) if path.suffix == ".json" else _csv_splits(path):
        if splits.setdefault(patient, split) != split:
            raise ValueError(
                f"{where}: patient {patient!r} is in {splits[patient]!r} and {split!r}; a patient belongs to one split,"
                " or the scores are those of training data."
            )
    return splits


def compile_pattern(
    pattern: str, *, required: Sequence[str] = ("patient", "domain"), domains: Sequence[str] = ()
) -> re.Pattern[str]:
    """Compile a pattern of paths below a folder into a regular expression.

    `{name}` matches one or more characters of one folder or file name, and the same text if the name comes twice; the
    first of several names is as long as possible. `*`, `?` and `**` are as in the shell.

    Args:
        pattern: Pattern with `/` between folders.
        required: Names that the pattern must have.
        domains: What `{domain}` may be; default: anything.

    Returns:
        An expression with one named group per name.

    Raises:
        ValueError: If a required name is missing, or a name is not an identifier.

    Example:
        >>> compile_pattern("{patient}/{domain}/*.nii.gz").fullmatch("p1/T1/brain.nii.gz").groupdict()
        {'patient': 'p1', 'domain': 'T1'}
    """
    expression, end, names = "", 0, set()
    for match in PART.finditer(pattern):
        expression += re.escape(pattern[end : match.start()])
        end, name = match.end(), match["name"]
        if name is None:
            expression += WILD[match["wild"]]
        elif not name.isidentifier():
            raise ValueError(f"Pattern {pattern!r}: {{{name}}} must hold a name such as {{patient}}, got {name!r}.")
        elif name in names:
            expression += f"(?P={name})"
        else:
            names.add(name)
            choice = "|".join(map(re.escape, domains)) if name == "domain" and domains else "[^/]+"
            expression += f"(?P<{name}>{choice})"
    for name in required:
        if name not in names:
            raise ValueError(
                f"Pattern {pattern!r} must have {' and '.join(f'{{{part}}}' for part in required)}, such as"
                f" '{'_'.join(f'{{{part}}}' for part in required)}.nii.gz'; {{{name}}} is missing."
            )
    return re.compile(expression + re.escape(pattern[end:]))


def _candidates(folder: Path, *, series: bool) -> Iterator[str]:
    """Yield the paths of NIfTI files and, with `series`, of folders with DICOM and no NIfTI files."""
    for root, folders, files in os.walk(folder):
        folders[:] = visible(folders)
        place = Path(root).relative_to(folder)
        volumes = [name for name in visible(files) if name.lower().endswith(VOLUME_SUFFIXES)]
        yield from ((place / name).as_posix() for name in volumes)
        if series and not volumes and any(is_dicom(Path(root, name)) for name in visible(files)):
            yield place.as_posix()


def _json_splits(path: Path) -> list[tuple[str, str, str]]:
    try:
        lists = json.loads(_text(path))
        return [
            (str(entry["patient"]), "training" if key == "training_paired" else key, path.name)
            for key in (*SPLITS, "training_paired")
            for entry in lists.get(key, [])
        ]
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not a datalist whose entries name their `patient` ({error!r}).") from error


def _csv_splits(path: Path) -> list[tuple[str, str, str]]:
    found = []
    for line, row in _rows(path, ("patient", "split")):
        where = f"{path.name}, line {line}"
        found.append((row["patient"], _split(row["split"], where), where))
    return found


def _split(name: str, where: str) -> str:
    if name not in SPLITS:
        raise ValueError(f"{where}: 'split' must be one of {', '.join(SPLITS)}, got {name!r}.")
    return name


def _rows(path: Path, required: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return line numbers and rows, stripped; blank lines are skipped."""
    text = _text(path)
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [str(name).strip().lower() for name in reader.fieldnames or ()]
        if missing := [name for name in required if name not in columns]:
            raise ValueError(
                f"{path.name} must have the columns {', '.join(required)} in its first line, got {columns};"
                f" {', '.join(missing)} is missing."
            )
        reader.fieldnames = columns
        rows = [
            (reader.line_num, {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)})
            for row in reader
        ]
    except csv.Error as error:
        raise ValueError(f"{path.name}, line {reader.line_num}, is not CSV ({error}).") from error
    return [(line, row) for line, row in rows if any(row.values())]


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"The table {str(path)!r} does not exist.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} must be UTF-8 text ({error}): save it again as CSV UTF-8.") from error
