"""Cache of prepared volumes: in memory, or on disk across trainings and then memory-mapped."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import monai
import torch
from monai.data import ImageReader, MetaTensor
from monai.transforms import Compose
from tqdm import tqdm

from .. import __version__
from ..images.names import file_name, source_path
from ..tensor_files import DamagedFileError, read_tensors, save_atomically
from .many import LazyVolumes, are_many
from .patches import PatchVolume

logger = logging.getLogger(__name__)

T = TypeVar("T")

SUFFIX = ".volume"  # no other file in the folder is touched
GB = 10**9
OVERHEAD = 8192  # bytes of a file besides its tensors, at most


class VolumeCache:
    """A folder of prepared volumes, which several trainings may share at the same time.

    An entry is named after its source (path, size and modification time of each file), the settings of its
    preparation, and the versions of MONAI and this package. It is prepared again when one of them changes or the
    checksum is wrong.

    Args:
        folder: Folder of the entries; None: volumes stay in memory, and nothing is kept.
        limit_gb: Maximal size of all entries, in 10^9 bytes; the least recently used ones make room for new ones.

    Raises:
        ValueError: If `limit_gb` is not above 0.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scan = Path(folder, "scan.nii")
        ...     _ = scan.write_bytes(b"voxels")
        ...     for _ in range(2):
        ...         content = VolumeCache(folder).get(scan, Compose([]), dict)
        ...     Path(content["image"]).name, len(list(Path(folder).glob("*.volume")))
        ('scan.nii', 1)
    """

    def __init__(self, folder: str | Path | None = None, *, limit_gb: float = 100.0) -> None:
        if limit_gb <= 0:
            raise ValueError(f"`limit_gb` must be above 0, got {limit_gb}: to keep nothing, set `cache_dir` to null.")
        self.folder = None if folder is None else Path(folder)
        self.limit = limit_gb * GB
        self._used: set[Path] = set()
        self._added = 0  # entries since the start
        self._total = 0.0  # bytes of all entries when they were listed last, and of those that were added since

    def get(
        self,
        source: str | Path,
        prepare: Callable,
        arrange: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        hold: bool = True,
    ) -> dict[str, Any]:
        """Return `arrange(prepare({"image": source}))`, memory-mapped from its entry, which is made if need be.

        Args:
            source: An image file, or a folder of them.
            prepare: Transforms that load and prepare the image.
            arrange: A named function from their result to tensors, numbers and strings by name.
            hold: Whether the entry stays as long as this object lives; else it may make room for others, and is made
                again when it is asked for again.

        Raises:
            ValueError: If `prepare` cannot be described, or the held entries exceed the limit.
            DiskFullError: If the disk is full; nothing of the entry is left.
        """
        if self.folder is None:
            return arrange(prepare({"image": str(source)}))
        key = _key(Path(source).resolve(), prepare, arrange)
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{SUFFIX}"
        content = _read(path, key)
        if content is None:
            content = {"key": key, **arrange(prepare({"image": str(source)}))}
            self._make_room(path.parent, sum(each.nbytes for each in content.values() if torch.is_tensor(each)))
            save_atomically(content, path)
            content = _read(path, key) or content  # another process may have made room
        if hold:
            self._used.add(path)
        return content

    def _make_room(self, folder: Path, needed: int) -> None:
        """Remove the least recently used entries; a mapped one would keep its disk space."""
        self._added += 1
        self._total += needed + OVERHEAD
        # The folder is listed again after the 1st, 2nd, 4th, 8th ... entry, and when it may be full: else the time of a
        # first training would grow with the square of its volumes.
        if self._added & (self._added - 1) and self._total <= self.limit:
            return
        entries = _entries(folder)
        total = needed + OVERHEAD + sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total > self.limit and path not in self._used:
                with suppress(PermissionError):  # Windows removes no mapped file
                    path.unlink(missing_ok=True)
                    total -= size
        self._total = total
        if total > self.limit:
            raise ValueError(
                f"`cache_gb` must be enough for all volumes of a training, got {self.limit / GB:g}: {len(self._used)}"
                f" are in use, and the next needs {needed / GB:.2g} more. Raise it, or set `cache_dir` to null."
            )


def cache_volumes(
    entries: Sequence[dict[str, Any]], transform: Callable, *, key: str = "image", cache: VolumeCache | None = None
) -> Sequence[torch.Tensor]:
    """Load and encode volumes once, with a progress bar; many volumes when they are drawn, see `common.data.many`.

    Args:
        entries: Data items; `entries[i][key]` is the path of a volume.
        transform: Maps `{"image": path}` to `{"image": (C, X, Y, Z) in [-1, 1]}`, axial slices along Z.
        key: Name of the image in an entry.
        cache: Where encoded volumes are kept and memory-mapped from, for data larger than memory; default: in memory.

    Returns:
        One tensor of shape (C, X, Y, Z) per entry, which knows its file; each axial slice is contiguous in memory.

    Raises:
        ValueError: If there is no entry.
    """
    if not entries:
        raise ValueError("`entries` must hold at least one volume to cache, got none.")
    return _loaded([entry[key] for entry in entries], partial(_volume, transform=transform), _bytes, cache)


def load_patch_volumes(
    entries: Sequence[dict[str, Any]],
    transform: Callable,
    *,
    mask_key: str | None = None,
    cache: VolumeCache | None = None,
) -> Sequence[PatchVolume]:
    """Load and encode volumes once, with their masks; many volumes when they are drawn, see `common.data.many`.

    Args:
        entries: Data items `{"image": path}`.
        transform: Maps an item to `image` (1, X, Y, Z) in [-1, 1] and, under `mask_key`, a mask of equal shape.
        mask_key: Key of the mask; None: the volumes have no mask.
        cache: Where encoded volumes are kept and memory-mapped from, for data larger than memory; default: in memory.

    Raises:
        ValueError: If there is no entry.
    """
    if not entries:
        raise ValueError("`entries` must hold at least one volume to draw patches from, got none.")
    load = partial(_patch_volume, transform=transform, mask_key=mask_key)
    return _loaded([entry["image"] for entry in entries], load, PatchVolume.nbytes, cache)


def _loaded(
    paths: Sequence[str], load: Callable[..., T], size: Callable[[T], int], cache: VolumeCache | None
) -> Sequence[T]:
    cache = cache or VolumeCache()
    if are_many(paths):
        tell_of_many(len(paths), cache)
        mapped = cache.folder is not None
        return LazyVolumes(paths, partial(load, cache=cache, hold=False), size=size, mapped=mapped)
    return [load(path, cache=cache, hold=True) for path in tqdm(paths, desc="loading volumes")]


def tell_of_many(number: int, cache: VolumeCache) -> None:
    """Log that volumes are loaded when they are drawn."""
    cure = (
        "" if cache.folder else ", each time anew unless `cache_dir` names a folder with room for the decoded volumes"
    )
    logger.info(f"{number:,} volumes are not loaded now, but each when it is drawn{cure}.")


def _volume(path: str, *, transform: Callable, cache: VolumeCache, hold: bool) -> torch.Tensor:
    content = cache.get(path, transform, _encoded, hold=hold)
    return MetaTensor(content["image"], meta={"filename_or_obj": content["file"]})


def _patch_volume(
    path: str, *, transform: Callable, mask_key: str | None, cache: VolumeCache, hold: bool
) -> PatchVolume:
    content = cache.get(path, transform, partial(_with_mask, mask_key=mask_key), hold=hold)
    mask = None if content["mask"] is None else content["mask"].numpy()
    return PatchVolume(content["image"], mask, name=content["name"])


def _bytes(volume: torch.Tensor) -> int:
    return volume.nbytes


def slice_by_slice(volume: torch.Tensor) -> torch.Tensor:
    """Return a volume (..., Z) as a plain tensor whose axial slices are each contiguous in memory.

    Example:
        >>> slice_by_slice(torch.zeros(1, 4, 5, 6)).stride()
        (20, 5, 1, 20)
    """
    plain = torch.as_tensor(volume).as_subclass(torch.Tensor)
    return plain.movedim(-1, 0).contiguous().movedim(0, -1)


class _Settings(pickle.Pickler):
    """Serialise the settings of transforms, without the state of readers, which remember the last file."""

    def reducer_override(self, obj: Any) -> Any:
        return (type(obj), ()) if isinstance(obj, ImageReader) else NotImplemented


def _key(source: Path, *steps: Callable) -> str:
    """Return the key of an entry, which states everything that it depends on."""
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    settings = io.BytesIO()
    try:
        _Settings(settings).dump(Compose(steps).flatten().transforms)  # a `Compose` has a random state
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"`prepare` must be made of named functions and classes to be cached ({error}), or `cache_dir` be null."
        ) from error
    versions = (monai.__version__, __version__)
    return json.dumps([str(source), stats, hashlib.sha256(settings.getvalue()).hexdigest(), versions])


def _read(path: Path, key: str) -> dict[str, Any] | None:
    """Return the content of an entry and mark it as used; None if it is absent, damaged or has another key."""
    if not path.is_file():
        return None
    try:
        content = read_tensors(path, mmap=True)
        if not isinstance(content, dict) or content.get("key") != key:
            raise DamagedFileError("it is not an entry of this name")
    except (DamagedFileError, OSError) as error:
        logger.warning(f"The cached volume {str(path)!r} is damaged and is made again ({error}).")
        return None
    with suppress(OSError):  # the folder may be read-only
        os.utime(path)
    return content


def _entries(folder: Path) -> list[tuple[int, int, Path]]:
    """Return time of last use, size and path of each entry, least recently used first."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(FileNotFoundError):  # another process may make room at the same time
            stat = path.stat()
            found.append((stat.st_mtime_ns, stat.st_size, path))
    return sorted(found)


def _encoded(item: dict[str, Any]) -> dict[str, Any]:
    """Arrange an encoded volume for the cache."""
    return {"image": slice_by_slice(item["image"]), "file": source_path(item["image"])}


def _with_mask(item: dict[str, Any], mask_key: str | None) -> dict[str, Any]:
    """Arrange a volume to draw patches from for the cache."""
    mask = None if mask_key is None else slice_by_slice(item[mask_key])[0].bool()
    return {"image": slice_by_slice(item["image"]).float(), "mask": mask, "name": file_name(item["image"])}
