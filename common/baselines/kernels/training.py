"""Radial filters of all directions between CT kernels: fitted at the start of a bundle's training, saved and loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.affines import voxel_sizes
from tqdm import tqdm

from ...data.datalist import has_list, load_datalist
from ...data.domains import DomainVolume, sampled_domains
from ...data.many import sampled
from ...files import write_json
from ...networks.physics import PhysicsGenerator
from ..base import read_fitted
from .amplitudes import VolumeSpectra, measure_spectra
from .band_energy import BandEnergyNormalization
from .fits import Patient, Volume, fit_domains, fit_paired_domains
from .radial_filter import RadialFilter
from .reference import KernelReferences, estimate_kernel, kernel_references

FORMAT = 1
PAIRED, UNPAIRED = "radial_filter", "radial_filter_unpaired"
ARROW = "->"
RESTORED = "restored"  # an image whose clipped noise was restored
CURE = "`python -m monai.bundle run training --config_file <bundle>/configs/train.yaml` fits and saves it"

BAND_ENERGY = BandEnergyNormalization.name

KernelFilters = dict[tuple[str, str], dict[str, Any]]  # a `RadialFilter`, or under `BAND_ENERGY` its own class

FILTERS = "filters.json"


def measure_domains(volumes_by_domain: Mapping[str, Iterable[Volume]]) -> dict[str, list[VolumeSpectra]]:
    """Measure the spectra of each domain's patients, which unpaired filters and `kernel_references` need."""
    return {
        domain: [measure_spectra(volume, spacing) for volume, spacing in volumes]
        for domain, volumes in volumes_by_domain.items()
    }


def fit_measured(
    spectra: Mapping[str, Sequence[VolumeSpectra]], pairs: Iterable[Patient] | None = None
) -> KernelFilters:
    """Fit the filters of every direction; the pairs are read once, one patient at a time, so a generator suffices.

    Args:
        spectra: Result of `measure_domains` for the list `training`.
        pairs: (`{domain: volume}`, spacing) of each patient of `training_paired`; without it there is no paired filter.

    Returns:
        `{(source, target): {"radial_filter": paired, "radial_filter_unpaired": unpaired, "band_energy": ...}}`.

    Raises:
        ValueError: If there are fewer than two domains, or one has no volume.
    """
    unpaired = fit_domains(spectra, "unpaired")
    paired = {} if pairs is None else fit_paired_domains(pairs, list(unpaired))
    energies = {
        domain: BandEnergyNormalization.fit(item.band_energies for item in items) for domain, items in spectra.items()
    }
    return {
        direction: ({PAIRED: paired[direction]} if paired else {})
        | {UNPAIRED: fitted, BAND_ENERGY: energies[direction[1]]}
        for direction, fitted in unpaired.items()
    }


def save_kernel_filters(
    path: str | os.PathLike[str],
    filters: KernelFilters,
    references: KernelReferences | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write filters (keys like `B30f->B70f`), reference spectra and facts about the fit as JSON, atomically."""
    table = {
        ARROW.join(direction): {name: fitted.to_dict() for name, fitted in entry.items()}
        for direction, entry in filters.items()
    }
    kernels = None if references is None else references.to_dict()
    return write_json(path, {"format": FORMAT, "facts": dict(facts or {}), "filters": table, "kernels": kernels})


def load_kernel_filters(path: str | os.PathLike[str]) -> KernelFilters:
    """Read the filters from the file of `save_kernel_filters`.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is not a file of this format.
    """
    table = _read(path)["filters"]
    return {
        _direction(key): {
            name: (BandEnergyNormalization if name == BAND_ENERGY else RadialFilter).from_dict(content)
            for name, content in entry.items()
        }
        for key, entry in table.items()
    }


def load_kernel_references(path: str | os.PathLike[str]) -> KernelReferences | None:
    """Read the reference spectra from the file of `save_kernel_filters`, if any; raise like `load_kernel_filters`."""
    content = _read(path)["kernels"]
    return None if content is None else KernelReferences.from_dict(content)


def _direction(key: str) -> tuple[str, str]:
    source, _, target = key.partition(ARROW)
    return source, target


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    return read_fitted(path, "filters", what="radial filters", version=FORMAT, cure=CURE)


def fit_and_save_filters(
    models_dir: str | Path,
    dataset_dir: str | Path,
    domains: Sequence[str],
    load: Callable,
    volumes: Sequence[DomainVolume],
) -> Path:
    """Fit the radial filters of all directions and write `filters.json`; evaluation only reads it.

    The unpaired filter sees the list `training`; the paired one sees `training_paired`, and is omitted if a datalist
    has no pairs. Of many volumes, some of each domain are read, see `common.data.many`.

    Args:
        models_dir: Folder of the file.
        dataset_dir: Folder of the data set, see `common.data.load_datalist`.
        domains: Names of the kernels.
        load: Function from `{"image": path}` to `{"image": (1, X, Y, Z) in HU}`.
        volumes: Volumes of `training`.
    """
    chosen = sampled_domains(volumes, domains, "Radial filters")
    spectra = measure_domains({domain: _volumes(group, domain) for domain, group in chosen.items()})
    paired = has_list(dataset_dir, "training_paired")
    filters = fit_measured(spectra, _pairs(dataset_dir, domains, load) if paired else None)
    facts = {"patients": {domain: [v.patient for v in group] for domain, group in chosen.items()}, "paired": paired}
    return save_kernel_filters(Path(models_dir) / FILTERS, filters, kernel_references(spectra), facts)


def kernel_estimator(models_dir: str | Path) -> Callable[[np.ndarray, Sequence[float]], tuple[str, float]] | None:
    """Return a function from a volume in HU and its spacing to its kernel and a confidence.

    Returns:
        The function, or None without the training's spectra.
    """
    path = Path(models_dir) / FILTERS
    references = load_kernel_references(path) if path.is_file() else None
    return None if references is None else partial(estimate_kernel, spectra=references)


def start_from_filters(network: PhysicsGenerator, models_dir: str | Path, domains: Sequence[str]) -> None:
    """Initialise a generator's filters with the unpaired ones of `filters.json`."""
    filters = load_kernel_filters(Path(models_dir) / FILTERS)
    for source, target in permutations(domains, 2):
        network.filters.set(domains.index(source), domains.index(target), filters[source, target][UNPAIRED].response)


def start_from_pairs(
    network: PhysicsGenerator,
    dataset_dir: str | Path,
    domains: Sequence[str],
    load: Callable,
    *,
    hu_range: Sequence[float],
) -> None:
    """Initialise a generator's filters by least squares on `training_paired`, after it has restored clipped noise.

    Args:
        network: Generator, of which only the filters change.
        dataset_dir: Folder of the data set, see `common.data.load_datalist`.
        domains: Names of the domains.
        load: Function from `{"image": path}` to `{"image": (1, X, Y, Z) in HU}`.
        hu_range: HU that the generator sees as -1 and 1.

    Raises:
        ValueError: If there is no pair.
    """
    low, high = hu_range

    @torch.no_grad()
    def restored(volume: np.ndarray) -> np.ndarray:
        encoded = torch.from_numpy(np.moveaxis(volume, 2, 0)[:, None].astype(np.float32))
        encoded = 2 * (encoded.clamp(low, high) - low) / (high - low) - 1
        image = network.restore(encoded.to(network.filters.initial.device))
        return np.moveaxis((image[:, 0].cpu().numpy() + 1) / 2 * (high - low) + low, 0, 2)

    def seen(volumes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**volumes, **{f"{RESTORED} {domain}": restored(volume) for domain, volume in volumes.items()}}

    patients = ((seen(volumes), spacing) for volumes, spacing in _pairs(dataset_dir, domains, load))
    directions = [(f"{RESTORED} {source}", target) for source, target in permutations(domains, 2)]
    for (source, target), fitted in fit_paired_domains(patients, directions).items():
        places = domains.index(source.removeprefix(f"{RESTORED} ")), domains.index(target)
        network.filters.set(*places, fitted.response)


def _volumes(volumes: Sequence[DomainVolume], domain: str) -> Iterator[tuple[np.ndarray, tuple[float, float]]]:
    for volume in tqdm(volumes, desc=f"spectra of {domain}"):
        yield np.moveaxis(volume.slices, 0, -1), volume.spacing_mm


def _pairs(
    dataset_dir: str | Path, domains: Sequence[str], load: Callable
) -> Iterator[tuple[dict[str, np.ndarray], tuple[float, float]]]:
    entries = sampled(load_datalist(dataset_dir, "training_paired"), "Paired filters")
    for entry in tqdm(entries, desc="fitting paired filters"):
        loaded = {domain: load({"image": entry[domain]})["image"] for domain in domains}
        spacing = voxel_sizes(np.asarray(loaded[domains[0]].affine))
        volumes = {domain: torch.as_tensor(volume)[0].numpy() for domain, volume in loaded.items()}
        yield volumes, (float(spacing[0]), float(spacing[1]))
