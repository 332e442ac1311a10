"""Fitting the radial filters of a kernel-conversion bundle at the start of its training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from nibabel.affines import voxel_sizes
from tqdm import tqdm

from ..data import DomainVolume, load_datalist, read_datalist
from ..networks import PhysicsGenerator
from .kernel_filters import (
    UNPAIRED,
    fit_measured,
    load_kernel_filters,
    load_kernel_references,
    measure_domains,
    save_kernel_filters,
)
from .kernel_reference import estimate_kernel, kernel_references

FILTERS = "filters.json"


def fit_and_save_filters(
    models_dir: str | Path,
    dataset_dir: str | Path,
    domains: Sequence[str],
    load: Callable,
    volumes: Sequence[DomainVolume],
) -> Path:
    """
    Fits the radial filters of all directions and writes `filters.json`; evaluation only reads it.

    The unpaired filter sees the list `training`; the paired one `training_paired`, and is left out where a datalist has
    no pairs.

    Args:
        models_dir: where the file goes.
        dataset_dir: see `common.data.load_datalist`.
        domains: names of the kernels.
        load: from `{"image": path}` to `{"image": (1, X, Y, Z) in HU}`.
        volumes: the volumes of `training`.
    """
    by_domain = {domain: _volumes(volumes, domain) for domain in domains}
    spectra = measure_domains(by_domain)
    paired = bool(read_datalist(dataset_dir)[0].get("training_paired"))
    filters = fit_measured(spectra, _pairs(dataset_dir, domains, load) if paired else None)
    facts = {"patients": {d: [v.patient for v in volumes if v.domain == d] for d in domains}, "paired": paired}
    return save_kernel_filters(Path(models_dir) / FILTERS, filters, kernel_references(spectra), facts)


def kernel_estimator(models_dir: str | Path) -> Callable[[np.ndarray, Sequence[float]], tuple[str, float]] | None:
    """From a volume in HU and its spacing to its kernel and a confidence; None without the training's spectra."""
    path = Path(models_dir) / FILTERS
    references = load_kernel_references(path) if path.is_file() else None
    return None if references is None else partial(estimate_kernel, spectra=references)


def start_from_filters(network: PhysicsGenerator, models_dir: str | Path, domains: Sequence[str]) -> None:
    """Makes a generator's filters the unpaired ones of `filters.json`."""
    filters = load_kernel_filters(Path(models_dir) / FILTERS)
    for source, target in permutations(domains, 2):
        network.filters.set(domains.index(source), domains.index(target), filters[source, target][UNPAIRED].response)


def _volumes(volumes: Sequence[DomainVolume], domain: str) -> Iterator[tuple[np.ndarray, tuple[float, float]]]:
    for volume in tqdm([v for v in volumes if v.domain == domain], desc=f"spectra of {domain}"):
        yield np.moveaxis(volume.slices, 0, -1), volume.spacing_mm


def _pairs(
    dataset_dir: str | Path, domains: Sequence[str], load: Callable
) -> Iterator[tuple[dict[str, np.ndarray], tuple[float, float]]]:
    for entry in tqdm(load_datalist(dataset_dir, "training_paired"), desc="fitting paired filters"):
        loaded = {domain: load({"image": entry[domain]})["image"] for domain in domains}
        spacing = voxel_sizes(np.asarray(loaded[domains[0]].affine))
        volumes = {domain: torch.as_tensor(volume)[0].numpy() for domain, volume in loaded.items()}
        yield volumes, (float(spacing[0]), float(spacing[1]))
