"""What goes into a bundle's release: its own files, `common`, generated JSON twins; no clock, no host."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from monai.bundle import ConfigParser

from .. import __version__
from ..identity import FILE, release_name
from .vendor import PACKAGE, reached_files

IMPORT = re.compile(r"^(\s*- )\$import common$", flags=re.MULTILINE)
LINK_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./\.\./[^)]*\)")
TWINS = ("train", "inference")  # `monai.bundle.load` reads these as JSON only


def bundle_contents(bundle: Path) -> dict[str, bytes]:
    """
    The files of a release, by their path below its top folder.

    `models/` keeps the deployed network (`model.pt`), what belongs to it (`*.json`) and its README: no discriminator,
    no optimizer, no training state.

    Args:
        bundle: its folder in the source tree.

    Raises:
        ValueError: when a config names what `common` lacks.
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
    """
    The part of `common` that configs reach, and the name that its release has in their `imports`.

    The command line (`python -m common report`) goes along, with the verbs whose code is there.
    """
    files = reached_files(configs, also=[PACKAGE / "__main__.py"])
    contents = {path.as_posix(): (PACKAGE / path).read_bytes() for path in files}
    digest = hashlib.sha256()
    for path, data in sorted(contents.items()):
        digest.update(f"{path}\0{len(data)}\0".encode() + data)
    facts = {"version": __version__, "digest": digest.hexdigest()}
    contents[FILE] = (json.dumps(facts, indent=2) + "\n").encode()
    return contents, release_name(__version__, digest.hexdigest())


def _plain_files(bundle: Path) -> list[Path]:
    """What is copied as it is."""
    patterns = ("LICENSE", "large_files.yml", "configs/*.json", "configs/*.conf", "docs/**/*", "models/model.pt")
    found = {path for pattern in (*patterns, "models/*.json", "models/README.md") for path in bundle.glob(pattern)}
    return sorted(path for path in found if path.is_file())
