"""Which images have their outputs already: whole, of the same weights and choices, and younger than the image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.dicom_items import part_file
from ..transforms.save import output_layout
from .dicom_output import BOTH, DICOM, NIFTI
from .sidecar import RunRecord, described

ENTRIES = {NIFTI: {"file"}, DICOM: {"folder"}, BOTH: {"file", "folder"}}


def sidecar_path(image: Any, record: RunRecord, *, output_dir: str | Path, data_root_dir: str) -> Path:
    """
    Where the sidecar of an image's outputs goes; their names differ by their suffixes alone.

    Args:
        image: the path of an image, or a list that begins with a name, see `find_images`.
        record: of the run; its target is part of the name.
        output_dir: where the outputs go.
        data_root_dir: outputs keep their path below it.
    """
    layout = output_layout(output_dir, record.target, data_root_dir=data_root_dir, extension=".json")
    return Path(layout.filename(_parts(image)[0]))


def is_finished(sidecar: Path, image: Any, record: RunRecord, *, output_format: str) -> bool:
    """
    Whether the outputs beside a sidecar are those that this run would write.

    The sidecar must name the same bundle, version, target, choices, network and weights, and the format asked for; all
    outputs must be there, with its checksums; and no file of the image may be younger than it.

    Args:
        sidecar: see `sidecar_path`.
        image: see there.
        record: of the run.
        output_format: `nifti`, `dicom` or `both`.
    """
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        outputs = facts["output"]
        kinds = {kind for entry in outputs for kind in ("file", "folder") if kind in entry}
        places = [sidecar.parent / (entry.get("file") or entry["folder"]) for entry in outputs]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    if kinds != ENTRIES.get(output_format) or not _same(facts, record.identity()):
        return False
    if _youngest(_parts(image)) > sidecar.stat().st_mtime:
        return False
    return all(place.exists() and described(place) == entry for place, entry in zip(places, outputs))


def _same(facts: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    """JSON has no tuples, so both go through it."""
    wanted = json.loads(json.dumps(identity))
    return all(name in facts and facts[name] == value for name, value in wanted.items())


def _parts(image: Any) -> list[str]:
    return [str(image)] if isinstance(image, (str, Path)) else [str(part) for part in image]


def _youngest(parts: list[str]) -> float:
    """When the files of an image were last changed, in s; of what came out of a zip, when the zip was."""
    archive = next((place for place in Path(parts[0]).parents if place.exists()), None)
    if archive is not None and archive.is_file():
        return archive.stat().st_mtime
    paths = [Path(part_file(part)) for part in parts]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)
