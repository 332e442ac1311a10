"""Spread of enhancement over the training patients: measured once where truth is known, saved, read in evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..data.datalist import has_list, label_names, load_datalist
from ..data.many import sampled
from ..files import write_json
from ..metrics.dose import Patient, enhancement_spread
from .base import read_fitted

SPREAD_FILE = "enhancement_spread.json"
FORMAT = 1


def measure_and_save_spread(
    models_dir: str | Path,
    dataset_dir: str | Path,
    source: str,
    truth: str,
    load: Callable,
    *,
    load_label: Callable | None = None,
) -> Path | None:
    """Measure the spread of the true enhancement over `training_paired` and write `enhancement_spread.json`.

    Only a phantom has the aligned truth that this needs. No network and no baseline sees the numbers: evaluation prints
    them as the error that remains for any prediction from a NECT.

    Args:
        models_dir: Folder of the file.
        dataset_dir: Folder of the data set, see `common.data.load_datalist`.
        source: Key of the NECT.
        truth: Key of the aligned CECT.
        load: Function from `{"image": path}` to `{"image": volume (1, X, Y, Z)}` in HU.
        load_label: The same for label maps; by default `load`.

    Returns:
        Path of the file, or None if the list has no patients with truth and labels.
    """
    if not has_list(dataset_dir, "training_paired"):
        return None
    entries = load_datalist(dataset_dir, "training_paired")
    known = sampled([e for e in entries if truth in e and "label" in e], "The spread of enhancement")
    if not known:
        return None
    patients = _patients(known, (source, truth), load, load_label or load)
    spread = enhancement_spread(patients, label_names(dataset_dir) or None)
    facts = {"source": source, "truth": truth, "patients": [entry.get("patient", "?") for entry in known]}
    return write_json(Path(models_dir) / SPREAD_FILE, {"format": FORMAT, "facts": facts, "spread": spread})


def load_spread(models_dir: str | Path) -> dict[str, dict[str, float]] | None:
    """Read the file of `measure_and_save_spread`, or return None without one (foreign weights, no phantom).

    Raises:
        ValueError: If the file does not have this format.
    """
    path = Path(models_dir) / SPREAD_FILE
    if not path.is_file():
        return None
    cure = "remove it, or train again"
    return dict(read_fitted(path, "spread", what="true enhancement", version=FORMAT, cure=cure)["spread"])


def _patients(
    entries: Sequence[dict[str, Any]], keys: tuple[str, str], load: Callable, load_label: Callable
) -> Iterator[Patient]:
    for entry in tqdm(entries, desc="true enhancement"):
        nect, cect = (np.asarray(load({"image": entry[key]})["image"][0]) for key in keys)
        yield nect, cect, np.asarray(load_label({"image": entry["label"]})["image"][0])
