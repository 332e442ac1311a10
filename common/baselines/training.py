"""Fitting the baselines of a bundle at the start of its training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..data import load_datalist, load_domain, read_datalist
from .fitting import fit_baselines, save_baselines

FILE_NAME = "baselines.json"
logger = logging.getLogger(__name__)


def fit_and_save(
    models_dir: str | Path,
    dataset_dir: str | Path,
    source: str,
    target: str,
    prepare: Callable,
    target_volumes: Sequence[torch.Tensor],
    *,
    names: Sequence[str] | None = None,
    keep_clipped: bool = False,
) -> Path:
    """
    Fits the classical baselines on the training lists and writes `baselines.json`; evaluation only reads it.

    The unpaired ones see the target domain of `training`; the intensity curve sees `training_paired`, and is left out
    where a datalist has no pairs on one grid. The pairs are read under the domains' names: NECT and CECT are then the
    two scans that a hospital has, not aligned; the phantom's aligned truth has a key of its own, which is not read.

    Args:
        models_dir: where the file goes.
        dataset_dir: see `common.data.load_datalist`.
        source: source domain.
        target: target domain.
        prepare: from `{"image": path}` to an encoded volume of shape (1, X, Y, Z) in [-1, 1].
        target_volumes: the encoded target volumes of `training`; empty where no unpaired baseline is wanted.
        names: which baselines, see `fit_baselines`.
        keep_clipped: see `IntensityCurve`; for CT in a window.
    """
    paired = bool(read_datalist(dataset_dir)[0].get("training_paired"))
    pairs = _pairs(dataset_dir, source, target, prepare) if paired else iter(())
    first = next(pairs, None)
    targets = (np.asarray(volume[0]) for volume in target_volumes)
    baselines = fit_baselines(
        targets, None if first is None else chain([first], pairs), names=names, keep_clipped=keep_clipped
    )
    patients = [entry["patient"] for entry in load_domain(dataset_dir, "training", target)] if target_volumes else []
    facts = {"direction": f"{source}->{target}", "target_patients": patients, "paired": first is not None}
    return save_baselines(Path(models_dir) / FILE_NAME, baselines, facts)


def _pairs(
    dataset_dir: str | Path, source: str, target: str, prepare: Callable
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for entry in tqdm(load_datalist(dataset_dir, "training_paired"), desc="fitting baselines"):
        first, second = (prepare({"image": entry[domain]})["image"] for domain in (source, target))
        if first.shape == second.shape:
            yield np.asarray(first[0]), np.asarray(second[0])
        else:
            logger.warning(
                f"{entry.get('patient', '?')}: {source} and {target} are not on one grid ({tuple(first.shape[1:])} and"
                f" {tuple(second.shape[1:])} voxels); the intensity curve is fitted without them."
            )
