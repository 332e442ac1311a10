"""Align the pairs of a datalist, for trainings that need aligned ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.datalist import DATALIST_NAME, load_datalist, read_datalist
from ..files import safe_name, write_json
from ..transforms.guards.findings import PASSED
from .files import Pair, align_pairs
from .volumes import Options

logger = logging.getLogger(__name__)

MASK = "{}_mask"  # key of a datalist


def align_datalist(
    data: str | Path,
    output_dir: str | Path,
    *,
    fixed: str,
    moving: str,
    lists: Sequence[str] = ("training_paired",),
    doubtful: bool = False,
    **options: Any,
) -> str:
    """Align the pairs of a datalist, and write one whose entries name the aligned volumes.

    The new list has the volumes under `moving`, and what was measured of them under `<moving>_mask`. Pairs whose
    alignment is doubtful are left out. Other lists stay as they are: scores against an aligned scan are no scores
    against the truth.

    Args:
        data: Data folder or datalist.
        output_dir: Folder of the new datalist and of the volumes. What is there of the same files and options is kept.
        fixed: Key of the volumes that stay.
        moving: Key of those that are moved.
        lists: Lists whose entries are aligned.
        doubtful: Whether to keep pairs whose alignment is doubtful.
        options: Those of `Options`.

    Returns:
        `output_dir`, a data folder.

    Raises:
        FileNotFoundError: If an entry names a file that does not exist.
        ValueError: If there is no pair, or none is left.
    """
    content, root = read_datalist(data)
    out = Path(output_dir)
    entries = [(key, entry) for key in lists if content.get(key) for entry in load_datalist(data, key)]
    paired = [(key, entry) for key, entry in entries if fixed in entry and moving in entry]
    if not paired:
        raise ValueError(
            f"The datalist in {str(root)!r} must have entries with {fixed!r} and {moving!r} in {', '.join(lists)} to be"
            f" aligned, but has none; keys there: {sorted({name for _, entry in entries for name in entry})}."
        )
    names: dict[str, int] = {}
    pairs = []
    for _, entry in paired:
        name = f"{safe_name(entry.get('patient', 'pair'))}_{safe_name(moving)}"
        names[name] = names.get(name, 0) + 1
        name = name if names[name] == 1 else f"{name}_{names[name]}"
        pairs.append(Pair(entry[fixed], entry[moving], name))
    made = align_pairs(pairs, out, options=Options(**options))
    lists_made: dict[str, list[dict[str, Any]]] = {key: [] for key in lists}
    for (key, entry), aligned in zip(paired, made, strict=True):
        if aligned.verdict != PASSED and not doubtful:
            logger.warning(
                f"{aligned.volume.name} is left out of {key!r}: its alignment is doubtful ({aligned.sidecar.name})."
            )
            continue
        files = {
            moving: aligned.volume.relative_to(out).as_posix(),
            MASK.format(moving): aligned.mask.relative_to(out).as_posix(),
        }
        lists_made[key].append({**entry, **files})
    if not any(lists_made.values()):
        raise ValueError(
            f"None of the {len(paired)} alignments passed: {str(out)!r} says why, in the JSON file of each."
        )
    others = {
        key: load_datalist(data, key) if value else value
        for key, value in content.items()
        if _is_list(value) and key not in lists
    }
    kept = {key: value for key, value in content.items() if not _is_list(value)}
    note = {
        "fixed": fixed,
        "moving": moving,
        "pairs": len(paired),
        "doubtful": sum(each.verdict != PASSED for each in made),
    }
    write_json(out / DATALIST_NAME, {**kept, **others, **lists_made, "alignment": note})
    return str(out)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
