"""What a training or a translation leaves behind, for comparison."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def state(folder: Path, stage: str = ".") -> dict[str, Any]:
    """The full state, the deployed weights, and all rows of losses and validation but the time."""
    out, models = folder / "out" / stage, folder / "models" / stage
    found: dict[str, Any] = {
        "last": torch.load(out / "last.pt", weights_only=True),
        "model": torch.load(models / "model.pt", weights_only=True),
    }
    for name in ("losses", "validation"):
        if (path := out / f"{name}.csv").exists():
            found[name] = rows(path)
    for path in models.glob("*.json"):
        found[path.name] = path.read_text()
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def difference(one: Any, other: Any, where: str = "") -> str | None:
    """Where two states differ in a bit; None where they do not."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return None if one.dtype == other.dtype and torch.equal(one, other) else where
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            return f"{where}: {sorted(map(str, one.keys() ^ other.keys()))}"
        return next((d for key in one if (d := difference(one[key], other[key], f"{where}/{key}"))), None)
    if isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        if len(one) != len(other):
            return f"{where}: {len(one)} and {len(other)} items"
        pairs = enumerate(zip(one, other))
        return next((d for i, (a, b) in pairs if (d := difference(a, b, f"{where}/{i}"))), None)
    return None if one == other else f"{where}: {one!r} and {other!r}"


def files(folder: Path, *, hidden: bool = False) -> dict[str, bytes]:
    """Content by name below a folder; with `hidden`, only what has a temporary name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and hidden == any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
