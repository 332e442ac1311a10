"""Contents of a bundle's release: its own files, the part of `common` that its configs reach, generated JSON twins.

They depend neither on the clock nor on the host. The checks of files are shared by building and installing, and
`large_files.yml` lists weights too large for a repository, which MONAI's Model Zoo keeps elsewhere.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import pickle
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.apps.utils import check_hash, download_url
from monai.bundle import ConfigParser

from .. import __version__
from ..identity import FILE, release_name

PACKAGE = Path(__file__).parents[1]
NAMED = re.compile(r"\bcommon((?:\.\w+)+)")
NOT_RELEASED = ("release", "deploy", "demo", "leaderboard")  # of the source tree alone
IMPORT = re.compile(r"^(\s*- )\$import common$", flags=re.MULTILINE)
LINK_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./\.\./[^)]*\)")
TWINS = ("train", "inference")  # `monai.bundle.load` reads these as JSON only
LIMIT_BYTES = 25 * 2**20  # the Model Zoo's, of a file
LIST = "large_files.yml"
KEYS = ("path", "url", "hash_val", "hash_type")


def bundle_contents(bundle: Path) -> dict[str, bytes]:
    """Collect the files of a release by their paths below its top folder.

    `models/` keeps the deployed network (`model.pt`), what belongs to it (`*.json`) and its README: no discriminator,
    no optimizer, no training state.

    Args:
        bundle: Folder of the bundle in the source tree.

    Raises:
        ValueError: If a config names something that `common` lacks.
    """
    configs = sorted((bundle / "configs").rglob("*.yaml"))
    vendored, name = common_contents(configs)
    contents = {f"common/{path}": data for path, data in vendored.items()}
    for config in configs:
        text = IMPORT.sub(rf"\1$from common import {name} as common", config.read_text(encoding="utf-8"))
        contents[config.relative_to(bundle).as_posix()] = text.encode()
    for twin in TWINS:
        parsed = ConfigParser.load_config_file(str(bundle / "configs" / f"{twin}.yaml"))
        parsed["imports"] = [f"$from common import {name} as common" if line == "$import common" else line
                             for line in parsed["imports"]]  # fmt: skip
        contents[f"configs/{twin}.json"] = (json.dumps(parsed, indent=2) + "\n").encode()
    for path in _plain_files(bundle):
        contents[path.relative_to(bundle).as_posix()] = path.read_bytes()
    for page in (path for path in contents if path.startswith("docs/") and path.endswith(".md")):
        contents[page] = LINK_OUTSIDE.sub(r"\1", contents[page].decode()).encode()
    return contents


def common_contents(configs: list[Path]) -> tuple[dict[str, bytes], str]:
    """Collect the part of `common` that configs reach, and the name of the package in the release's `imports`.

    The command line (`python -m common report`) is included, with the verbs whose code is there.
    """
    files = reached_files(configs, also=[PACKAGE / "__main__.py"])
    contents = {path.as_posix(): (PACKAGE / path).read_bytes() for path in files}
    digest = hashlib.sha256()
    for path, data in sorted(contents.items()):
        digest.update(f"{path}\0{len(data)}\0".encode() + data)
    facts = {"version": __version__, "digest": digest.hexdigest()}
    contents[FILE] = (json.dumps(facts, indent=2) + "\n").encode()
    return contents, release_name(__version__, digest.hexdigest())


def reached_files(configs: Iterable[Path], *, also: Iterable[Path] = (), package: Path = PACKAGE) -> list[Path]:
    """Find the files of a package that configs name, and all that these import, at any depth.

    Args:
        configs: YAML files, whose `common.module.Name` are followed.
        also: Files below `package` from which to start as well.
        package: Folder of `common`.

    Returns:
        Paths below `package`, relative to it, sorted; `__init__.py` first of all.

    Raises:
        ValueError: If a config names something that does not exist, or a reached file imports `common` by its absolute
            name, which in another bundle's process could be another release.
    """
    waiting = [package / "__init__.py", *also]
    for config in configs:
        for dotted in NAMED.findall(config.read_text(encoding="utf-8")):
            waiting += _files(package, dotted.strip(".").split("."), str(config))
    reached: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file not in reached and file.relative_to(package).parts[0].removesuffix(".py") not in NOT_RELEASED:
            reached.add(file)
            waiting += _imports(package, file)
    return sorted(file.relative_to(package) for file in reached)


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


def _files(package: Path, names: list[str], origin: str) -> list[Path]:
    """List the packages and the module that a dotted name passes through; the rest is an attribute."""
    folder, files = package, []
    for name in names:
        if (folder / name / "__init__.py").is_file():
            folder = folder / name
            files.append(folder / "__init__.py")
        elif (folder / f"{name}.py").is_file():
            return [*files, folder / f"{name}.py"]
        else:
            break
    if not files:
        raise ValueError(f"{origin} names common.{'.'.join(names)}, but `common` has no module {names[0]!r}.")
    return files


def _imports(package: Path, file: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "common" for alias in node.names):
            raise ValueError(f"{file} must import `common` by a relative name to be released.")
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level == 0:
            if (node.module or "").split(".")[0] == "common":
                raise ValueError(f"{file} must import `common` by a relative name to be released.")
            continue
        folder = file.parents[node.level - 1]
        names = [*folder.relative_to(package).parts, *(node.module or "").split(".")]
        names = [name for name in names if name]
        for alias in node.names:
            if found := [*names, alias.name]:
                yield from _files(package, found, str(file)) if names else _attribute(package, alias.name)


def _attribute(package: Path, name: str) -> list[Path]:
    """Resolve `from .. import name` at the top of the package: a module, or an attribute such as `__version__`."""
    is_module = (package / name / "__init__.py").is_file() or (package / f"{name}.py").is_file()
    return _files(package, [name], name) if is_module else []


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
