"""`large_files.yml`: weights too large for a repository, which MONAI's Model Zoo keeps elsewhere."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml
from monai.apps.utils import check_hash, download_url

LIST = "large_files.yml"
KEYS = ("path", "url", "hash_val", "hash_type")


def fetched(bundle: Path) -> dict[str, bytes]:
    """
    The files that a bundle's `large_files.yml` lists, by their path in it: from the bundle's folder, else downloaded.

    Args:
        bundle: the folder that holds the list, or none.

    Raises:
        ValueError: when an entry lacks a key, lies outside of the bundle, or a file has another checksum.
    """
    file = bundle / LIST
    if not file.is_file():
        return {}
    entries = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("large_files", [])
    return {entry["path"]: _content(bundle, _checked(entry, file)) for entry in entries}


def _checked(entry: dict[str, Any], file: Path) -> dict[str, Any]:
    if missing := [key for key in KEYS if not entry.get(key)]:
        raise ValueError(f"{file}: each entry must have {', '.join(KEYS)}; {entry.get('path', entry)} lacks {missing}.")
    path = Path(entry["path"])
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{file}: `path` must lie in the bundle, got {entry['path']!r}.")
    return entry


def _content(bundle: Path, entry: dict[str, Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = bundle / entry["path"]
        if not path.is_file():
            path = Path(folder) / path.name
            download_url(url=entry["url"], filepath=path, hash_val=None)
        if not check_hash(path, entry["hash_val"], entry["hash_type"]):
            raise ValueError(
                f"{entry['path']} must have the {entry['hash_type']} {entry['hash_val']} of {bundle / LIST}, but has"
                " another: the file was changed, or the list is of another version."
            )
        return path.read_bytes()
