"""Building the self-contained zip of a bundle, equal bytes from an equal source, and the index of several zips.

The index, `model_info.json`, has the form that MONAI's bundle download reads.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from ..files import atomic_write, write_json
from ..networks.definition import load_definition
from ..networks.weights import load_weights
from .contents import LIMIT_BYTES, PACKAGE, bundle_contents, check_plain_weights, fetched, sha256

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: no clock
MODE = 0o100644 << 16  # a plain file, readable by all
ZIP = re.compile(r"(?P<name>.+)_v(?P<version>\d[\w.]*)\.zip")
FILE = "model_info.json"


def build_release(bundle: str | Path, output_dir: str | Path, *, thin: bool = False) -> Path:
    """Build `<output_dir>/<name>_v<version>.zip`, atomically.

    It contains one folder `<name>/`: configs (with JSON twins of `train` and `inference`), docs, licence, the weights
    with their `network.json`, and the part of `common` that the configs reach. It runs where MONAI is installed.

    Args:
        bundle: Folder of a bundle in the source tree.
        output_dir: Folder of the zip; an older one of the same name is replaced.
        thin: Leave all Python files out. The release, `<name>_thin_v<version>.zip`, needs the project's wheel.

    Returns:
        Path of the zip.

    Raises:
        FileNotFoundError: If the folder is not a bundle, or has no weights.
        ValueError: If its name, version, weights or sizes are not what a release requires.
    """
    bundle, output_dir = Path(bundle).resolve(), Path(output_dir)
    version = _checked_version(bundle)
    large = fetched(bundle)
    _check_weights(bundle, large)
    contents = bundle_contents(bundle, thin=thin) | large
    if too_large := [path for path, data in contents.items() if len(data) > LIMIT_BYTES and path not in large]:
        raise ValueError(
            f"a bundle's files must not exceed 25 MB, but {', '.join(sorted(too_large))} of {bundle} do: put them"
            " elsewhere, and list them in its large_files.yml."
        )
    name = f"{bundle.name}_thin" if thin else bundle.name
    path = output_dir / f"{name}_v{version}.zip"
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for place, data in sorted(contents.items()):
            archive.writestr(_entry(f"{name}/{place}"), data)
    return path


def describe_release(path: Path) -> str:
    """Say how much a zip holds: its size, and files and share of `common`.

    Args:
        path: Zip of `build_release`.
    """
    with zipfile.ZipFile(path) as archive:
        code = [entry for entry in archive.infolist() if entry.filename.endswith(".py")]
    everything = len(list(PACKAGE.rglob("*.py")))
    size = sum(entry.compress_size for entry in code)
    return (
        f"{path} ({path.stat().st_size / 1e3:.0f} kB; {len(code)} of common's {everything} files, {size / 1e3:.0f} kB)"
    )


def write_index(dist: str | Path, *, base_url: str = "") -> Path:
    """Write `<dist>/model_info.json` with an entry `<name>_v<version>` per zip: its address and SHA-256.

    If it is placed at `models/model_info.json` of a repository's tag, `python -m monai.bundle download --source github`
    finds the latest version with it. `install_release` verifies checksums with it.

    Args:
        dist: Folder of the zips.
        base_url: Address of the zips, such as a release's download address; the zip's name is appended.

    Returns:
        Path of the index.

    Raises:
        FileNotFoundError: If there is no release in the folder.
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


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system, entry.external_attr, entry.compress_type = 3, MODE, zipfile.ZIP_DEFLATED
    return entry


def _checked_version(bundle: Path) -> str:
    metadata = bundle / "configs" / "metadata.json"
    if not metadata.is_file():
        raise FileNotFoundError(f"{bundle} must be a bundle's folder with configs/metadata.json, which is not there.")
    if "_v" in bundle.name:
        raise ValueError(f"a bundle's name must not contain '_v', which MONAI takes for a version: {bundle.name!r}.")
    facts = json.loads(metadata.read_text(encoding="utf-8"))
    if facts["version"] not in facts["changelog"]:
        raise ValueError(f"{metadata}: `changelog` must have an entry of `version` {facts['version']!r}.")
    return str(facts["version"])


def _check_weights(bundle: Path, large: dict[str, bytes]) -> None:
    """Check that the weights are plain, unchanged and fit the network of `network.json`."""
    weights, definition = bundle / "models" / "model.pt", bundle / "models" / "network.json"
    for path in (weights, definition):
        if not path.is_file() and f"models/{path.name}" not in large:
            raise FileNotFoundError(f"{path} is not there: train the bundle (configs/train.yaml) before its release.")
    data = large.get("models/model.pt") or weights.read_bytes()
    check_plain_weights(data, str(weights))
    written_for = json.loads(definition.read_text(encoding="utf-8")).get("checksum")
    if written_for != sha256(data):
        raise ValueError(
            f"{definition} is of weights with the SHA-256 {written_for}, but model.pt has {sha256(data)}. Copy both"
            " from one training."
        )
    if weights.is_file():  # else it came by large_files.yml, with its checksum
        load_weights(load_definition(bundle / "models", {}), weights)
