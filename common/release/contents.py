"""Contents of a bundle's release: its own files, the part of `common` that its configs reach, generated JSON twins.

They depend neither on the clock nor on the host. The checks of files are shared by building and installing, and
`large_files.yml` lists weights too large for a repository, which MONAI's Model Zoo keeps elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.apps.utils import check_hash, download_url

from .. import __version__
from ..identity import FILE, release_name
from .reach import reached_part
from .thin import thin_config, thin_page

PACKAGE = Path(__file__).parents[1]
IMPORT = re.compile(r"^(\s*- )\$import common$", flags=re.MULTILINE)
LINK_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./\.\./[^)]*\)")
README = "docs/README.md"
TWINS = ("train", "inference")  # `monai.bundle.load` reads these as JSON only
LIMIT_BYTES = 25 * 2**20  # the Model Zoo's, of a file
LIST = "large_files.yml"
KEYS = ("path", "url", "hash_val", "hash_type")


def bundle_contents(bundle: Path, *, thin: bool = False) -> dict[str, bytes]:
    """Collect the files of a release by their paths below its top folder.

    `models/` keeps the deployed network (`model.pt`), what belongs to it (`*.json`) and its README: no discriminator,
    no optimizer, no training state.

    Args:
        bundle: Folder of the bundle in the source tree.
        thin: Leave `common` out: the configs take it from the project's wheel.

    Raises:
        ValueError: If a config names something that `common` lacks.
    """
    vendored, name = common_contents(bundle)
    contents = {} if thin else {f"common/{path}": data for path, data in vendored.items()}
    for config in sorted((bundle / "configs").rglob("*.yaml")):
        text, place = config.read_text(encoding="utf-8"), config.relative_to(bundle).as_posix()
        text = thin_config(text, str(config)) if thin else IMPORT.sub(rf"\1$from common import {name} as common", text)
        contents[place] = text.encode()
    for twin in TWINS:
        parsed = yaml.safe_load(contents[f"configs/{twin}.yaml"])
        contents[f"configs/{twin}.json"] = (json.dumps(parsed, indent=2) + "\n").encode()
    for path in _plain_files(bundle):
        contents[path.relative_to(bundle).as_posix()] = path.read_bytes()
    for page in (path for path in contents if path.startswith("docs/") and path.endswith(".md")):
        text = LINK_OUTSIDE.sub(r"\1", contents[page].decode())
        contents[page] = (thin_page(text) if thin and page == README else text).encode()
    return contents


def common_contents(bundle: Path) -> tuple[dict[str, bytes], str]:
    """Collect the part of `common` that a bundle needs, and the name of the package in the release's `imports`.

    It is what its configs and the definition of its network reach, and the commands that its pages show.
    """
    sources = [*sorted((bundle / "configs").rglob("*.yaml")), *sorted(bundle.glob("models/*.json"))]
    texts = {str(path): path.read_text(encoding="utf-8") for path in sources}
    pages = [path.read_text(encoding="utf-8") for path in sorted(bundle.glob("docs/**/*.md"))]
    part = reached_part(texts, PACKAGE, pages=pages)
    digest = hashlib.sha256()
    for path, data in sorted(part.files.items()):
        digest.update(f"{path}\0{len(data)}\0".encode() + data)
    facts = {"version": __version__, "digest": digest.hexdigest(), "verbs": part.verbs, "left_out": part.left_out}
    contents = part.files | {FILE: (json.dumps(facts, indent=2) + "\n").encode()}
    return contents, release_name(__version__, digest.hexdigest())


def fetched(bundle: Path) -> dict[str, bytes]:
    """Return the files that `large_files.yml` lists, by path: from the bundle's folder, else downloaded.

    Args:
        bundle: Folder that may contain the list.

    Raises:
        ValueError: If an entry lacks a key, lies outside the bundle, or a file has another checksum.
    """
    file = bundle / LIST
    if not file.is_file():
        return {}
    entries = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("large_files", [])
    return {entry["path"]: _content(bundle, _checked(entry, file)) for entry in entries}


def check_plain_weights(data: bytes, name: str) -> None:
    """Refuse a `model.pt` that is not a flat dict of plain tensors; nothing in it is executed.

    Args:
        data: Content of the file.
        name: Name of the file, for the message.

    Raises:
        ValueError: If it is anything else.
    """
    try:
        state: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{name} must be a file of plain tensors, but could not be read as one: loading anything else would run its"
            " code. Ask its publisher for `torch.save(network.state_dict(), ...)`."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{name} must be a flat dict of tensors (a state dict), got a {type(state).__name__}.")


def sha256(data: bytes) -> str:
    """Compute the checksum of a file's content."""
    return hashlib.sha256(data).hexdigest()


def _plain_files(bundle: Path) -> list[Path]:
    """Collect the files that are copied unchanged."""
    patterns = ("LICENSE", "large_files.yml", "configs/*.json", "configs/*.conf", "docs/**/*", "models/model.pt")
    found = {path for pattern in (*patterns, "models/*.json", "models/README.md") for path in bundle.glob(pattern)}
    return sorted(path for path in found if path.is_file())


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
