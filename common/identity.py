"""Identity of a release of `common`, and what it left out.

Two releases in one process would silently share the one imported first. A release has what its configs need; a name
that it lacks is refused with the place where it is.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
FILE = "release.json"  # beside this file, in a released bundle only
NAME = re.compile(r"release_(?P<version>\w+)_(?P<digest>[0-9a-f]{8})")

logger = logging.getLogger(__name__)


def release_name(version: str, digest: str) -> str:
    """Return the identifier that a released config imports from `common`.

    Example:
        >>> release_name("0.1.0", "0123abcd" + 56 * "0")
        'release_0_1_0_0123abcd'
    """
    return f"release_{re.sub(r'[^0-9A-Za-z]', '_', version)}_{digest[:8]}"


def require_release(name: str, version: str) -> None:
    """Refuse a config of another release than the imported `common`.

    A released bundle's configs contain `$from common import release_<version>_<digest> as common`. A `common` installed
    from source has no digest: only its version must agree.

    Args:
        name: Name that the config imports.
        version: Version of the imported `common`.

    Raises:
        ImportError: If the releases differ; the message names both and their folders.
    """
    own = _own_name(version)
    if name == own or (not _vendored() and name.rpartition("_")[0] == own.rpartition("_")[0]):
        if not _vendored():
            logger.info(f"`common` {version} is installed in {PACKAGE}: it is used instead of the bundle's own copy.")
        return
    place = next((str(folder) for folder in _copies() if _name_in(folder) == name), "the bundle's own folder")
    found = _readable(own) if _vendored() else version
    raise ImportError(
        f"this bundle needs `common` {_readable(name)} (in {place}), but `common` {found} of"
        f" {PACKAGE} is imported in this process already. Bundles of two releases cannot share a process: run each in a"
        " process of its own, or take both from one release."
    )


def refuse_left_out(package: str, name: str) -> None:
    """Refuse a name that the source tree exports and this release does not contain.

    Args:
        package: Dotted name of the package that was asked.
        name: Attribute that it lacks.

    Raises:
        ImportError: If the release left it out. Other names are left to the caller.
    """
    facts = _facts(PACKAGE)
    if name in facts.get("left_out", {}).get(package, []):
        raise ImportError(
            f"{package}.{name} is not in this release ({PACKAGE.parent}), which has only what its own configs need:"
            f" install the wheel of monai-translation-bundles {facts['version']}, which has all of `common`."
        )


def released_verbs() -> list[str] | None:
    """Return the commands of `python -m common` that a release contains; None outside of a release: all."""
    return _facts(PACKAGE).get("verbs")


@cache
def _facts(package: Path) -> dict[str, Any]:
    """Read what a release's folder of `common` declares; empty if it declares nothing."""
    file = package / FILE
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _vendored() -> bool:
    return (PACKAGE / FILE).is_file()


def _own_name(version: str) -> str:
    return _name_in(PACKAGE) or release_name(version, "00000000")


def _name_in(package: Path) -> str | None:
    """Return the release that a folder of `common` declares; None if it declares none."""
    facts = _facts(package)
    return release_name(facts["version"], facts["digest"]) if facts else None


def _copies() -> list[Path]:
    return [Path(folder) / "common" for folder in sys.path]


def _readable(name: str) -> str:
    """Return the name of a release in readable form.

    Example:
        >>> _readable("release_0_1_0_0123abcd")
        '0.1.0 (0123abcd)'
    """
    match = NAME.fullmatch(name)
    return f"{match['version'].replace('_', '.')} ({match['digest']})" if match else name
