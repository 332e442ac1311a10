"""Installing a release's zip: its checksum, paths and weights are checked before anything is unpacked."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from monai.apps.utils import download_url

from ..dicom.zip_files import check_members
from ..errors import disk_full_names
from ..files import partial_name, partials_of_the_dead
from .contents import check_plain_weights, sha256

LIMIT_UNPACKED = 2 * 2**30  # bytes; a release has a few MB
REQUIRED = ("configs/metadata.json", "configs/inference.yaml")


def install_release(
    archive: str | Path, bundle_dir: str | Path, *, checksum: str | None = None, index: str | Path | None = None
) -> Path:
    """Unpack a release as `<bundle_dir>/<name>`, atomically.

    Args:
        archive: Path of a zip, or its http(s) address.
        bundle_dir: Folder of the bundles, in which no bundle of the same name may exist.
        checksum: SHA-256 of the zip.
        index: A `model_info.json` from which to take the checksum.

    Returns:
        Folder of the bundle.

    Raises:
        FileNotFoundError: If the zip or its entry in the index does not exist.
        FileExistsError: If the bundle exists.
        ValueError: If the checksum differs, a path leads outside, an entry is a link, the weights are not plain
            tensors, or it is not a release. Nothing has been unpacked then.
        DiskFullError: If there is not enough space; nothing is left behind.
    """
    name, data = _read(str(archive))
    expected = checksum or (None if index is None else _listed(Path(index), name))
    if expected is not None and sha256(data) != expected.lower():
        raise ValueError(
            f"{archive} must have the SHA-256 {expected}, but has {sha256(data)}: it was changed or damaged on its way."
            " Nothing was unpacked; download it again, or ask its publisher."
        )
    try:
        opened = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} must be a zip, but could not be read as one ({error}).") from error
    with opened as zipped:
        top = _checked_names(zipped, str(archive))
        for entry in zipped.namelist():
            if PurePosixPath(entry).suffix in (".pt", ".pth", ".ckpt"):
                check_plain_weights(zipped.read(entry), f"{entry} in {archive}")
        return _unpack(zipped, Path(bundle_dir), top)


def _read(archive: str) -> tuple[str, bytes]:
    """Return file name and content."""
    if not archive.startswith(("http://", "https://")):
        path = Path(archive)
        if not path.is_file():
            raise FileNotFoundError(f"{archive} is not there: give a release's zip, or its address.")
        return path.name, path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / archive.rpartition("/")[2]
        with disk_full_names(path):
            download_url(url=archive, filepath=path, progress=True)
        return path.name, path.read_bytes()


def _listed(index: Path, name: str) -> str:
    entries = json.loads(index.read_text(encoding="utf-8"))
    key = name.removesuffix(".zip")
    if key not in entries:
        raise FileNotFoundError(f"{index} has no entry {key!r}; it has {', '.join(sorted(entries))}.")
    return str(entries[key]["checksum"])


def _checked_names(zipped: zipfile.ZipFile, archive: str) -> str:
    """Return the top folder; every entry is a plain file below it."""
    check_members(zipped.infolist(), archive)
    tops = {PurePosixPath(name).parts[0] for name in zipped.namelist()}
    size = sum(entry.file_size for entry in zipped.infolist())
    if size > LIMIT_UNPACKED:
        raise ValueError(
            f"{archive} would unpack to {size / 1e9:.3g} GB, more than any release has. Nothing was unpacked."
        )
    if len(tops) != 1:
        raise ValueError(f"{archive} must have one top folder, the bundle's name, got {sorted(tops)[:5]}.")
    (top,) = tops
    if missing := [name for name in REQUIRED if f"{top}/{name}" not in zipped.namelist()]:
        raise ValueError(f"{archive} must be a bundle's release, but {', '.join(missing)} is not in it.")
    return top


def _unpack(zipped: zipfile.ZipFile, bundle_dir: Path, top: str) -> Path:
    bundle = bundle_dir / top
    if bundle.exists():
        raise FileExistsError(f"{bundle} exists. Remove it, or give another --bundle_dir.")
    needed = sum(entry.file_size for entry in zipped.infolist())
    with disk_full_names(bundle, needed=needed):
        bundle_dir.mkdir(parents=True, exist_ok=True)
        partial = partial_name(bundle)
        for left in (partial, *partials_of_the_dead(bundle)):
            shutil.rmtree(left, ignore_errors=True)
    try:
        with disk_full_names(bundle, needed=needed):
            zipped.extractall(partial)
            (partial / top).rename(bundle)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return bundle
