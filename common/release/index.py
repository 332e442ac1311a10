"""`model_info.json`: the index of a release, in the form that MONAI's bundle download reads."""

from __future__ import annotations

import re
from pathlib import Path

from ..metrics.summary import write_json
from .files import sha256

ZIP = re.compile(r"(?P<name>.+)_v(?P<version>\d[\w.]*)\.zip")
FILE = "model_info.json"


def write_index(dist: str | Path, *, base_url: str = "") -> Path:
    """
    Writes `<dist>/model_info.json` with an entry `<name>_v<version>` for each zip: its address and SHA-256.

    Placed at `models/model_info.json` of a repository's tag, `python -m monai.bundle download --source github` finds
    the latest version by it. `install_release` verifies what it installs by its checksums.

    Args:
        dist: the folder of the zips.
        base_url: where the zips will be, such as a release's download address; the zip's name is appended.

    Returns:
        The index's path.

    Raises:
        FileNotFoundError: when there is no release in the folder.
    """
    dist = Path(dist)
    zips = [path for path in sorted(dist.glob("*.zip")) if ZIP.fullmatch(path.name)]
    if not zips:
        raise FileNotFoundError(f"{dist} must hold releases (NAME_vVERSION.zip): `python -m common release --help`.")
    prefix = base_url.rstrip("/") + "/" if base_url else ""
    entries = {
        path.stem: {"checksum": sha256(path.read_bytes()), "hash_type": "sha256", "source": f"{prefix}{path.name}"}
        for path in zips
    }
    return write_json(dist / FILE, entries)
