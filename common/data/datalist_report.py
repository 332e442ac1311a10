"""What a made datalist holds, as text for people: counts, who is unpaired, what was left out and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .datalist import SPLITS
from .datalist_csv import read_splits
from .datalist_entries import Patient

SHOWN = 5  # names a reason


def datalist_report(
    content: Mapping[str, Any], patients: Sequence[Patient], home: Mapping[str, str], left_out: Mapping[str, str]
) -> str:
    """
    A table of patients and images by split and domain, and what is not in it.

    Args:
        content: the datalist.
        patients: all that were found.
        home: the split of those that have one.
        left_out: reasons by name.
    """
    domains = content["domains"]
    head = ["", "patients", *domains, "with all", "with label"]
    rows = [[key, *_counts(content[key], domains)] for key in ("training", "training_paired", "validation", "test")]
    lines = _table([head, *rows])
    not_tested = {p.name: p.incomplete for p in patients if p.incomplete and home.get(p.name) == "test"}
    lines += _reasons(
        "without all domains on one grid",
        {p.name: p.incomplete for p in patients if p.incomplete and home.get(p.name) in SPLITS[:2]},
    )
    without = {p.name: p.incomplete or "not named in the split file" for p in patients if p.name not in home}
    lines += _reasons("patients left out", {**without, **not_tested})
    lines += _reasons("images left out", left_out)
    lines += _reasons("look at", _similar([patient.name for patient in patients]))
    return "\n".join(lines)


def moved_patients(earlier: Path, home: Mapping[str, str]) -> str:
    """A warning of the patients that another datalist has in another split; "" where there is none."""
    try:
        before = read_splits(earlier)
    except (ValueError, OSError):
        return ""
    moved = {name: f"{before[name]} -> {split}" for name, split in home.items() if before.get(name, split) != split}
    if not moved:
        return ""
    shown = ", ".join(f"{name} ({change})" for name, change in list(moved.items())[:SHOWN])
    return (
        f"warning: {len(moved)} patients change their split from the earlier {earlier.name}: {shown}. Networks trained"
        f" with it have seen other patients; `--split_file {earlier.name}` keeps them where they were."
    )


def _counts(entries: Sequence[Mapping[str, str]], domains: Sequence[str]) -> list[object]:
    images = Counter(
        domain for entry in entries for domain in domains if domain in entry or entry.get("domain") == domain
    )
    together = sum(all(domain in entry for domain in domains) for entry in entries)
    labels = sum("label" in entry for entry in entries)
    return [len({entry["patient"] for entry in entries}), *(images[domain] for domain in domains), together, labels]


def _table(rows: Sequence[Sequence[object]]) -> list[str]:
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]).rstrip()
        for row in texts
    ]


def _reasons(title: str, reasons: Mapping[str, str]) -> list[str]:
    if not reasons:
        return []
    names = defaultdict(list)
    for name, why in reasons.items():
        names[why].append(name)
    lines = [f"{title}: {len(reasons)}"]
    for why, found in sorted(names.items()):
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        lines.append(f"  {len(found)}  {why}: {', '.join(found[:SHOWN])}{more}")
    return lines


def _similar(names: Sequence[str]) -> dict[str, str]:
    """Names that differ in capitals and punctuation alone: perhaps one patient."""
    alike = defaultdict(list)
    for name in names:
        alike["".join(c for c in name.casefold() if c.isalnum()) or name].append(name)
    why = "names of patients that may be one"
    return {" and ".join(group): why for group in alike.values() if len(group) > 1}
