"""Shards of an archive: the images that one of several processes translates, without those that are finished already.

The processes need not communicate. An image is finished if its output is complete, has the same weights and choices,
and is younger than the image.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import distributed

from ..data.inference_images import common_folder
from ..dicom.derived.maps import require_highdicom
from ..dicom.derived.rules import derived_rule
from ..dicom.reader import part_file
from ..images.names import is_map, output_layout, refuse_equal_names
from .cases import Failure, failed_cases, raise_failures, run_cases
from .outputs import BOTH, DICOM, NIFTI
from .sidecar import RunRecord, described

logger = logging.getLogger(__name__)

POLL = 0.2  # s
ENTRIES = {NIFTI: {"file"}, DICOM: {"folder"}, BOTH: {"file", "folder"}}


def own_shard() -> tuple[int, int]:
    """Return this process's number and the number of processes, from `RANK` and `WORLD_SIZE`, as `torchrun` sets them.

    Raises:
        ValueError: If they are not set, or are not such numbers.

    Example:
        >>> from unittest.mock import patch
        >>> with patch.dict(os.environ, RANK="1", WORLD_SIZE="4"):
        ...     own_shard()
        (1, 4)
    """
    try:
        number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError) as error:
        raise ValueError(
            "`multi_gpu_inference.yaml` needs the environment variables RANK and WORLD_SIZE as whole numbers, got"
            f" {os.environ.get('RANK')!r} and {os.environ.get('WORLD_SIZE')!r}: start it with `torchrun`, or set them"
            " (docs/many_gpus.md)."
        ) from error
    return _checked((number, count))


def run_shard(evaluator: Any) -> None:
    """Run the cases of this process as `run_cases` does, and report the failures of all processes of a `torchrun`.

    If a process ends with an error, `torchrun` ends all others. So each process leaves its failures in the store of
    `torchrun` and waits for all others; then rank 0 raises. Elsewhere (a Slurm array), each process raises its own.

    Args:
        evaluator: MONAI's evaluator, see `run_cases`.

    Raises:
        FailedCasesError: If cases failed; on rank 0, or in each process outside of `torchrun`.
    """
    if not distributed.is_torchelastic_launched():
        run_cases(evaluator)
        return
    store, rank, processes = next(distributed.rendezvous("env://"))  # before the work: others must not wait in vain
    failures = failed_cases(evaluator)
    told = [(failure.name, failure.why) for failure in failures]
    store.set(_key(rank), json.dumps([len(evaluator.data_loader), told]))
    together = _of_all(store, processes)  # all ranks wait: the first node to leave might take the store with it
    if rank == 0:
        raise_failures(*together)


def cases_to_do(
    images: Sequence[dict[str, Any]],
    record: RunRecord,
    *,
    output_dir: str | Path,
    output_format: str,
    share: Sequence[int] = (0, 1),
    skip_done: bool = False,
) -> list[dict[str, Any]]:
    """Return the images that this process translates.

    The shards depend only on the images, not on what is finished, so that processes may start at any time: the n-th
    output in the order of names belongs to process n modulo the number of processes. Images that would have the same
    output are in one shard.

    Args:
        images: Data items of all processes, see `find_images`.
        record: Provenance record of this run.
        output_dir: Folder of the outputs.
        output_format: Output format, `nifti`, `dicom` or `both`.
        share: Shard as this process's number, from 0, and the number of processes.
        skip_done: Whether to leave out images whose outputs exist, see `is_finished`.

    Raises:
        ValueError: If `share` is not two such numbers, no derived series can be written for the bundle, or the outputs
            of two images would have one name.
        ModuleNotFoundError: If a map of half-widths shall be written as DICOM, without the package that does so.
    """
    number, count = _checked(share)
    if output_format != NIFTI:
        derived_rule(record.root)
        if record.uncertainty is not None:
            require_highdicom()
    if not images:
        return []
    root = common_folder(images)
    refuse_equal_names((_parts(item["image"])[0] for item in images), data_root_dir=root)
    if (number, count) == (0, 1) and not skip_done:
        return list(images)
    places = [sidecar_path(item["image"], record, output_dir=output_dir, data_root_dir=root) for item in images]
    mine = set(sorted(set(places))[number::count])
    own = [(item, place) for item, place in zip(images, places) if place in mine]
    if not skip_done:
        return [item for item, _ in own]
    left = [item for item, place in own if not is_finished(place, item["image"], record, output_format=output_format)]
    logger.info(f"Shard {number} of {count}: {len(own)} images, {len(own) - len(left)} of them finished earlier.")
    return left


def is_finished(sidecar: Path, image: Any, record: RunRecord, *, output_format: str) -> bool:
    """Return whether the outputs beside a sidecar are those that this run would write.

    The sidecar must name the same bundle, version, target, choices, network and weights, and the requested format; all
    outputs must exist with its checksums; and no file of the image may be younger than the sidecar.

    Args:
        sidecar: Path of the sidecar, see `sidecar_path`.
        image: Path of the image, or a list that begins with a name, see `find_images`.
        record: Provenance record of this run.
        output_format: Output format, `nifti`, `dicom` or `both`.
    """
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        outputs = facts["output"]
        images = [entry for entry in outputs if not is_map(str(entry.get("file") or entry["folder"]))]
        kinds = {kind for entry in images for kind in ("file", "folder") if kind in entry}
        places = [sidecar.parent / (entry.get("file") or entry["folder"]) for entry in outputs]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    if kinds != ENTRIES.get(output_format) or not _same(facts, record.identity()):
        return False
    if _youngest(_parts(image)) > sidecar.stat().st_mtime:
        return False
    return all(place.exists() and described(place) == entry for place, entry in zip(places, outputs))


def sidecar_path(image: Any, record: RunRecord, *, output_dir: str | Path, data_root_dir: str) -> Path:
    """Return the path of the sidecar of an image's outputs, whose names differ only in their suffixes.

    Args:
        image: Path of an image, or a list that begins with a name, see `find_images`.
        record: Provenance record of this run, whose target is part of the name.
        output_dir: Folder of the outputs.
        data_root_dir: Folder below which the sources' subfolders are kept in `output_dir`.
    """
    layout = output_layout(output_dir, record.target, data_root_dir=data_root_dir, extension=".json")
    return Path(layout.filename(_parts(image)[0]))


def _same(facts: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    """Return whether the facts of a sidecar hold an identity, which is converted to JSON first: JSON has no tuples."""
    wanted = json.loads(json.dumps(identity))
    return all(name in facts and facts[name] == value for name, value in wanted.items())


def _parts(image: Any) -> list[str]:
    return [str(image)] if isinstance(image, (str, Path)) else [str(part) for part in image]


def _youngest(parts: list[str]) -> float:
    """Return when the files of an image were last changed, in s; for files from a zip, when the zip was changed."""
    archive = next((place for place in Path(parts[0]).parents if place.exists()), None)
    if archive is not None and archive.is_file():
        return archive.stat().st_mtime
    paths = [Path(part_file(part)) for part in parts]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


def _of_all(store: Any, processes: int) -> tuple[list[Failure], int]:
    """Return the failures and the number of cases of all ranks, after waiting for the slowest, maybe for hours."""
    failures, total = [], 0
    for rank in range(processes):
        while not store.check([_key(rank)]):
            time.sleep(POLL)
        count, failed = json.loads(store.get(_key(rank)))
        total += count
        failures += [Failure(*pair) for pair in failed]
    return sorted(failures), total


def _key(rank: int) -> str:
    return f"common/failed_cases/{rank}"


def _checked(share: Sequence[int]) -> tuple[int, int]:
    if isinstance(share, (list, tuple)) and len(share) == 2 and all(type(value) is int for value in share):
        number, count = share
        if 0 <= number < count:
            return number, count
    raise ValueError(
        "`share` must be the number of this process, from 0, and the number of processes, such as [0, 2], got"
        f" {share!r}."
    )
