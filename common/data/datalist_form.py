"""The form of a datalist, checked before anything of it is used: a file from elsewhere can hold any JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LISTS = ("training", "training_paired", "validation", "test")
LONGEST_SHOWN = 60


def check_form(datalist: Mapping[str, Any], path: Path) -> None:
    """
    Args:
        datalist: as parsed.
        path: of its file, for messages.

    Raises:
        ValueError: when a list is none, an entry is no object, a patient or a domain is no name, a text is empty or has
            a NUL, or `label_names` does not map whole numbers to names.

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
    """
    The path that an entry has under a key.

    Args:
        entry: of a datalist.
        key: such as `image` or a domain.
        place: of the datalist, for messages.

    Raises:
        ValueError: when there is none.
    """
    if not isinstance(entry.get(key), str):
        raise ValueError(
            f"The datalist in {place!r}: the entry {_shown(dict(entry))} must have a path under {key!r}, got"
            f" {_shown(entry.get(key))}. Correct it, or remove the entry."
        )
    return str(entry[key])


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
