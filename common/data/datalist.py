"""Read and check a `datalist.json` (MONAI's decathlon format)."""

from __future__ import annotations

import copy
import functools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from ..files import read_json

DATALIST_NAME = "datalist.json"
LISTS = ("training", "training_paired", "validation", "test")
SPLITS = ("training", "validation", "test")
NOT_A_PATH = ("patient", "domain")  # texts of an entry
Data = str | Path | Sequence[Mapping[str, Any]]  # a folder or file, or the entries of one list
LONGEST_SHOWN = 60  # characters of a value in an error


def read_datalist(dataset_dir: str | Path) -> tuple[dict[str, Any], Path]:
    """Read and check the datalist of a data folder.

    Args:
        dataset_dir: A folder with a `datalist.json`, or a datalist file of any name.

    Returns:
        The datalist, and the folder that its relative paths start from.

    Raises:
        FileNotFoundError: If the folder or its datalist does not exist, or the datalist names an absent file.
        ValueError: If it is not JSON, or a patient is in two of `training`, `validation` and `test`.
    """
    path = _datalist_file(dataset_dir)
    return copy.deepcopy(_read(path, *_version(path))), path.parent


def _datalist_file(dataset_dir: str | Path) -> Path:
    path = Path(dataset_dir)
    if not path.exists():
        raise FileNotFoundError(
            f"`dataset_dir` {str(path)!r} does not exist. Give an existing folder with `--dataset_dir`, or make the"
            f" default data, see `python -m common phantom --help` (in the project or its wheel)."
        )
    path = path / DATALIST_NAME if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(path.parent)!r} has no {DATALIST_NAME}: it must list the volumes of "
            f"{', '.join(SPLITS)} (see docs/data.md)."
        )
    return path


def _version(path: Path) -> tuple[Any, ...]:
    """Return what changes when a file is written again; a training reads its datalist many times, once in full."""
    facts = path.stat()
    return os.getcwd(), facts.st_mtime_ns, facts.st_size, facts.st_ino


@functools.lru_cache(maxsize=4)
def _read(path: Path, *version: Any) -> dict[str, Any]:
    datalist = read_json(path, cure="it must hold lists such as 'training': write it again or correct that line")
    check_form(datalist, path)
    _refuse_leakage(datalist, path)
    return datalist


@functools.lru_cache(maxsize=4)
def _loaded(path: Path, key: str, *version: Any) -> tuple[dict[str, Any], ...]:
    """Return the entries of a list with absolute paths, whose files were there when they were first asked for."""
    datalist, root = _read(path, *version), path.parent
    entries = datalist.get(key, [])
    if not entries:
        filled = sorted(k for k, value in datalist.items() if isinstance(value, list) and value)
        raise ValueError(f"The datalist in {str(root)!r} has no list {key!r}, or an empty one; it has {filled}.")
    resolved: dict[str, str] = {}  # folders: a long list has few of them
    return tuple(_absolute(entry, root, key, resolved) for entry in entries)


def load_datalist(data: Data, key: str) -> list[dict[str, Any]]:
    """Load the entries of one list of a datalist.

    Args:
        data: Data folder or datalist, see `read_datalist`; or entries, which are returned as they are.
        key: `training`, `training_paired`, `validation` or `test`.

    Returns:
        The entries, with absolute paths.

    Raises:
        ValueError: If the list is absent or empty.
        FileNotFoundError: If an entry names a file that does not exist.
    """
    return [dict(entry) for entry in _entries(data, key)]


def _entries(data: Data, key: str) -> Sequence[Mapping[str, Any]]:
    """Return the entries that `load_datalist` copies."""
    if not isinstance(data, (str, Path)):
        return _checked_entries(data, key)
    path = _datalist_file(data)
    return _loaded(path, key, *_version(path))


def load_domain(data: Data, key: str, domain: str) -> list[dict[str, str]]:
    """Load the images of one domain in a list, whose entries are one image or all images of a patient.

    Args:
        data: Data folder, datalist or entries, see `load_datalist`.
        key: `training`, `training_paired`, `validation` or `test`.
        domain: Name of the domain.

    Returns:
        Items `{"image": absolute path, "patient": name}`.

    Raises:
        ValueError: If the list has no image of that domain.
    """
    entries = _entries(data, key)
    place = str(data) if isinstance(data, (str, Path)) else "the given entries"
    found = [
        {
            "image": image_of(entry, domain if domain in entry else "image", place),
            "patient": str(entry.get("patient", "?")),
        }
        for entry in entries
        if domain in entry or entry.get("domain") == domain
    ]
    if not found:
        raise ValueError(
            f"List {key!r} of the datalist in {place!r} has no image of domain {domain!r}: its entries have"
            f" the domains {sorted({str(entry.get('domain')) for entry in entries})} and the keys"
            f" {sorted({name for entry in entries for name in entry})}."
        )
    return found


def check_validation(data: Data, domains: Sequence[str], targets: Sequence[str] | None = None) -> None:
    """Refuse, before anything is fitted or written, a validation list with no image that a training can translate.

    Args:
        data: Data folder, datalist or entries, see `load_datalist`.
        domains: Names of the source domains, and of the targets where these may be sources.
        targets: Targets; an image of the only target is not translated. Default: images of all domains are.

    Raises:
        ValueError: If the list is absent or empty, or has no such image.
    """
    entries = _entries(data, "validation")
    place = str(data) if isinstance(data, (str, Path)) else "the given entries"
    sources = [domain for domain in domains if list(targets or ()) != [domain]]
    if not any(domain in entry or entry.get("domain") == domain for entry in entries for domain in sources):
        raise ValueError(
            f"The validation list of the datalist in {place!r} must have an image of {' or '.join(sources)}:"
            f' an entry {{"image": ..., "domain": {sources[0]!r}}}, or one that names the volumes of a patient by their'
            f" domains. Its entries have the domains {sorted({str(entry.get('domain')) for entry in entries})} and the"
            f" keys {sorted({name for entry in entries for name in entry})}."
        )


def describe(dataset_dir: str | Path) -> dict[str, Any]:
    """Describe training data for `network.json`: name and parameters of the datalist, and numbers of patients."""
    path = _datalist_file(dataset_dir)
    datalist = _read(path, *_version(path))
    counts = {key: len(patients(datalist.get(key, []))) for key in SPLITS}
    return {
        "name": datalist.get("name", path.parent.name),
        "parameters": copy.deepcopy(datalist.get("parameters", {})),
        "patients": counts,
    }


def has_list(dataset_dir: str | Path, key: str) -> bool:
    """Return whether a datalist has a list of that name with an entry in it."""
    path = _datalist_file(dataset_dir)
    return bool(_read(path, *_version(path)).get(key))


def label_names(dataset_dir: str | Path) -> dict[int, str]:
    """Return the names of a datalist's label values, such as `{1: "oedema"}`; empty if it has none."""
    path = _datalist_file(dataset_dir)
    datalist = _read(path, *_version(path))
    return {int(value): name for value, name in datalist.get("label_names", {}).items()}


def patients(entries: Iterable[dict[str, Any]]) -> list[str]:
    """Return the distinct patients of entries, in order of first appearance."""
    return list(dict.fromkeys(str(entry.get("patient", "?")) for entry in entries))


def check_form(datalist: Mapping[str, Any], path: Path) -> None:
    """Check the form of a datalist before anything in it is used: a file from elsewhere can hold any JSON.

    Args:
        datalist: Parsed content.
        path: Its file, for messages.

    Raises:
        ValueError: If a list is not a list, an entry not an object, a patient or domain not a name, a text empty or
            with a NUL, or `label_names` does not map whole numbers to names.

    Example:
        >>> check_form({"test": ["scan.nii.gz"]}, Path("datalist.json"))
        Traceback (most recent call last):
        ...
        ValueError: 'datalist.json': 'test' must list entries such as {"image": "P1.nii.gz", "patient": "P1"}, got ...
    """
    for key in LISTS:
        entries = datalist.get(key, [])
        if not isinstance(entries, list):
            raise ValueError(f"{str(path)!r}: {key!r} must be a list of entries, got {_shown(entries)}: correct it.")
        for entry in entries:
            _check_entry(entry, key, path)
    names = datalist.get("label_names", {})
    if not isinstance(names, dict) or not all(_is_whole(value) and isinstance(names[value], str) for value in names):
        raise ValueError(f'{str(path)!r}: `label_names` must be such as {{"1": "oedema"}}, got {_shown(names)}.')


def image_of(entry: Mapping[str, Any], key: str, place: str) -> str:
    """Return the path that an entry has under a key.

    Args:
        entry: Entry of a datalist.
        key: Key of the path, such as `image` or a domain.
        place: Path of the datalist, for messages.

    Raises:
        ValueError: If the entry has no path under the key.
    """
    if not isinstance(entry.get(key), str):
        raise ValueError(
            f"The datalist in {place!r}: the entry {_shown(dict(entry))} must have a path under {key!r}, got"
            f" {_shown(entry.get(key))}. Correct it, or remove the entry."
        )
    return str(entry[key])


def _refuse_leakage(datalist: dict[str, Any], path: Path) -> None:
    """Refuse patients in two splits; `training_paired` belongs to the training split."""
    assigned: dict[str, str] = {}
    for key in LISTS:
        split = "training" if key.startswith("training") else key
        for entry in datalist.get(key, []):
            patient = entry.get("patient")
            if patient is not None and assigned.setdefault(patient, split) != split:
                raise ValueError(
                    f"{str(path)!r}: patient {patient!r} is in both {assigned[patient]!r} and {key!r}; a split is by"
                    " patient, or the scores are those of training data. Keep each patient in one split."
                )


def _checked_entries(entries: Sequence[Mapping[str, Any]], key: str) -> Sequence[Mapping[str, Any]]:
    """Return given entries, such as those that a program sets as MONAI's `train_dataset_data`."""
    if not entries or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError(
            f"The entries for {key!r} must be objects such as {{'image': path, 'domain': name}}, got {_shown(entries)}."
        )
    return entries


def _absolute(entry: dict[str, Any], root: Path, key: str, resolved: dict[str, str]) -> dict[str, Any]:
    absolute = dict(entry)
    for name, value in entry.items():
        if isinstance(value, str) and name not in NOT_A_PATH:
            path = os.path.join(root, value)
            if not os.path.exists(path) and "\\" in value:  # made on Windows
                path = os.path.join(root, PureWindowsPath(value).as_posix())
            if not os.path.exists(path):
                raise FileNotFoundError(
                    f"The datalist in {str(root)!r} names a file that does not exist: {str(Path(path))!r} ({name!r} of"
                    f" {entry.get('patient', 'an entry')!r} in {key!r}). Correct the path, or remove the entry."
                )
            absolute[name] = _resolve(path, resolved)
    return absolute


def _resolve(path: str, folders: dict[str, str]) -> str:
    """Return the path without links, as `Path.resolve` does; folders are resolved once."""
    folder, name = os.path.split(path)
    if not name or name in (os.curdir, os.pardir) or os.path.islink(path):
        return os.path.realpath(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)


def _check_entry(entry: Any, key: str, path: Path) -> None:
    if not isinstance(entry, dict):
        raise ValueError(
            f"{str(path)!r}: {key!r} must list entries such as"
            f' {{"image": "P1.nii.gz", "patient": "P1"}}, got {_shown(entry)}.'
        )
    for name, value in entry.items():
        named = value is None or isinstance(value, (str, int))
        if name in ("patient", "domain") and not named:
            raise ValueError(f"{str(path)!r}: {name!r} in {key!r} must be a name, got {_shown(value)}.")
        if isinstance(value, str) and (not value or "\0" in value):
            raise ValueError(f"{str(path)!r}: {name!r} of an entry in {key!r} is empty or has a NUL, got {value!r}.")


def _is_whole(text: str) -> bool:
    return text.lstrip("-").isascii() and text.lstrip("-").isdigit()


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
