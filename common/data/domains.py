"""Training data of several CT domains: axial slices of volumes in integer HU, in memory or memory-mapped.

Data sets yield slices of all domains, aligned slices of one patient in two domains, or unpaired slices of two domains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import nibabel as nib
import numpy as np
import torch
from tqdm import tqdm

from .datalist import Data, check_validation, load_datalist, load_domain
from .many import LazyPlaces, LazyVolumes, are_many, sampled, sampled_patients
from .seeded import Entries, SeededDataset, apply_seeded, draw_seed
from .volume_cache import VolumeCache, tell_of_many


@dataclass(frozen=True, eq=False, slots=True)
class DomainVolume:
    """A CT volume of a known domain.

    Attributes:
        slices: Axial slices, (Z, X, Y) int16 in HU.
        spacing_mm: Pixel size within a slice, X and Y.
        domain: Name of the domain.
        patient: Name of the patient.
        slice_mm: Distance between slices, if known.
    """

    slices: np.ndarray
    spacing_mm: tuple[float, float]
    domain: str
    patient: str
    slice_mm: float | None = None

    @property
    def pixel_mm(self) -> float:
        """Mean pixel size of X and Y, in mm."""
        return sum(self.spacing_mm) / 2

    def encoded(self, z: int, transform: Callable, *, seed: int = 0) -> torch.Tensor:
        """Transform axial slice `z`, (1, X, Y) float32 in HU; random transforms are seeded with `seed`."""
        image = torch.from_numpy(self.slices[z].astype(np.float32))[None]
        return torch.as_tensor(apply_seeded(transform, {"image": image}, seed)["image"])


class LazyDomainVolume(DomainVolume):
    """One of many volumes, which is loaded when its slices or sizes are used.

    Args:
        volumes: All of them.
        place: Index of this one.
        domain: Name of the domain.
        patient: Name of the patient.
    """

    # No `__dict__`: MONAI's `DataLoader` looks for random states in every attribute of each volume of a data set.
    __slots__ = ("_place", "_volumes")
    _volumes: LazyVolumes[DomainVolume]
    _place: int

    def __init__(self, volumes: LazyVolumes[DomainVolume], place: int, domain: str, patient: str) -> None:
        for name, value in {"_volumes": volumes, "_place": place, "domain": domain, "patient": patient}.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyDomainVolume, (self._volumes, self._place, self.domain, self.patient)

    @property
    def _loaded(self) -> DomainVolume:
        return self._volumes[self._place]

    @property
    def slices(self) -> np.ndarray:  # type: ignore[override]
        """Axial slices, (Z, X, Y) int16 in HU."""
        return self._loaded.slices

    @property
    def spacing_mm(self) -> tuple[float, float]:  # type: ignore[override]
        """Pixel size within a slice, X and Y."""
        return self._loaded.spacing_mm

    @property
    def slice_mm(self) -> float | None:  # type: ignore[override]
        """Distance between slices, if known."""
        return self._loaded.slice_mm


def load_domains(
    data: Data, key: str, domains: Sequence[str], load: Callable, *, cache: VolumeCache | None = None
) -> list[DomainVolume]:
    """Load the volumes of some domains in one list of a datalist, with a progress bar.

    Many volumes are loaded when they are used, see `common.data.many`.

    Args:
        data: Data folder, datalist or entries, see `load_datalist`.
        key: `training`, `training_paired`, `validation` or `test`.
        domains: Names of the domains.
        load: Maps `{"image": path}` to `{"image": (1, X, Y, Z) in HU}`, axial slices along Z.
        cache: Where decoded volumes are kept and memory-mapped from, for data larger than memory; default: in memory.

    Raises:
        ValueError: If the list has no image of one of the domains.
    """
    entries = [(domain, entry) for domain in domains for entry in load_domain(data, key, domain)]
    cache = cache or VolumeCache()
    if are_many(entries):
        tell_of_many(len(entries), cache)
        later = partial(_load, load=load, cache=cache, hold=False)
        volumes = LazyVolumes(entries, later, size=_bytes, mapped=cache.folder is not None)
        return [LazyDomainVolume(volumes, n, domain, entry["patient"]) for n, (domain, entry) in enumerate(entries)]
    return [_load(entry, load=load, cache=cache, hold=True) for entry in tqdm(entries, desc=f"loading {key}")]


def sampled_domains(
    volumes: Sequence[DomainVolume], domains: Sequence[str], purpose: str
) -> dict[str, Sequence[DomainVolume]]:
    """Return the volumes of each domain, of many some, see `common.data.many.sampled`.

    Args:
        volumes: Volumes of all domains.
        domains: Names of the domains.
        purpose: What they are for, for the log.
    """
    groups: dict[str, list[DomainVolume]] = {domain: [] for domain in domains}
    for volume in volumes:
        groups.setdefault(volume.domain, []).append(volume)
    many = are_many(volumes)
    return {domain: sampled(groups[domain], f"{purpose}, {domain}", many=many) for domain in domains}


def spacing_range(volumes: Sequence[DomainVolume]) -> list[float]:
    """Return the smallest and the largest pixel size in mm, of many volumes that of some."""
    sizes = [size for volume in sampled(volumes, "Pixel sizes") for size in volume.spacing_mm]
    return [round(min(sizes), 4), round(max(sizes), 4)]


class MultiDomainDataset(SeededDataset):
    """Axial slices of several domains, each with its domain and pixel size, for StarGAN and similar methods.

    Args:
        volumes: Volumes of all domains; each has at least one slice.
        domains: Names; an item's `domain` is an index into this list.
        transform: Applied to `{"image": (1, X, Y) float32 in HU}`; MONAI's random transforms are seeded for each item.
        data: Entries of the datalist that the volumes come from, see `SeededDataset`.
        seed: Seed of the transforms.

    Raises:
        ValueError: If a domain has no volume.
    """

    def __init__(
        self,
        volumes: Sequence[DomainVolume],
        domains: Sequence[str],
        *,
        transform: Callable,
        data: Entries = None,
        seed: int = 0,
    ) -> None:
        empty = sorted(set(domains) - {volume.domain for volume in volumes})
        if empty:
            raise ValueError(f"`volumes` must hold every domain of {list(domains)}, got none of {empty}.")
        self.volumes, self.domains, self.transform = list(volumes), list(domains), transform
        self.data, self.seed = data, seed
        self.places: Sequence[tuple[int, int]]
        if _are_lazy(self.volumes):
            self.places = LazyPlaces(self.volumes, self._depth, "Number of slices")
        else:
            self.places = [(v, z) for v, volume in enumerate(self.volumes) for z in range(len(volume.slices))]

    def __len__(self) -> int:
        return len(self.places)

    def draw(self, epoch: int, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        which, z = self.places[index]
        volume = self.volumes[which]
        return {
            "image": volume.encoded(z, self.transform, seed=draw_seed(rng)),
            "domain": torch.tensor(self.domains.index(volume.domain)),
            "spacing_mm": torch.tensor(volume.pixel_mm),
        }

    def _depth(self, place: int) -> int:
        return len(self.volumes[place].slices)


class PairedDomainsDataset(SeededDataset):
    """Pairs of a slice in one domain and the same slice in another, random domain.

    Args:
        volumes: Volumes of patients who have several domains on one grid.
        domains: Names; an item's `domain` and `target` are indices into this list.
        transform: Applied to `{"image": (1, X, Y) float32 in HU}` of both slices; MONAI's random transforms get the
            same seed for both.
        linear: Domains between which no pair is drawn, as a filter converts them.
        data: Entries of the datalist that the volumes come from, see `SeededDataset`.
        seed: Seed of the draws.

    Raises:
        ValueError: If a patient has only one domain, or volumes of different shapes, or all domains are `linear`.

    Example:
        >>> soft, sharp = (DomainVolume(np.zeros((3, 8, 8), np.int16), (0.7, 0.7), k, "p") for k in ("B30f", "B70f"))
        >>> item = PairedDomainsDataset([soft, sharp], ["B30f", "B70f"], transform=lambda item: item)[1, 4]
        >>> int(item["domain"]), int(item["target"]), tuple(item["image"].shape), tuple(item["truth"].shape)
        (1, 0, (1, 8, 8), (1, 8, 8))
    """

    def __init__(
        self,
        volumes: Sequence[DomainVolume],
        domains: Sequence[str],
        *,
        transform: Callable,
        linear: Sequence[str] = (),
        data: Entries = None,
        seed: int = 0,
    ) -> None:
        self.domains, self.transform, self.data, self.seed = list(domains), transform, data, seed
        self.linear = set(linear)
        if self.linear >= set(domains):
            raise ValueError(f"`linear` must leave out one of the domains {list(domains)}, got all of them.")
        self.patients: dict[str, dict[str, DomainVolume]] = {}
        for volume in volumes:
            self.patients.setdefault(volume.patient, {})[volume.domain] = volume
        lazy = _are_lazy(volumes)
        for patient in sampled(list(self.patients), "Whether pairs are on one grid", many=lazy):
            self._check(patient)
        self.volumes = list(volumes)
        self.places: Sequence[tuple[int, int]]
        if lazy:
            self.places = LazyPlaces(self.volumes, self._depth, "Number of slices")
        else:
            self.places = [(v, z) for v, volume in enumerate(self.volumes) for z in range(len(volume.slices))]
        self._checked = None if not lazy else set[str]()

    def _check(self, patient: str) -> None:
        own = self.patients[patient]
        shapes = {volume.slices.shape for volume in own.values()}
        if len(own) < 2 or len(shapes) > 1 or self.linear >= set(own):
            raise ValueError(
                f"patient {patient!r} must have volumes of two domains on one grid, got {sorted(own)} of the shapes"
                f" {sorted(shapes)}; a pair of two of `linear` is none, got {sorted(self.linear)}."
            )

    def _depth(self, place: int) -> int:
        return len(self.volumes[place].slices)

    def __len__(self) -> int:
        return len(self.places)

    def draw(self, epoch: int, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        place, z = self.places[index]
        patient, domain = self.volumes[place].patient, self.volumes[place].domain
        if self._checked is not None and patient not in self._checked:
            self._check(patient)
            self._checked.add(patient)
        own = self.patients[patient]
        excluded = self.linear if domain in self.linear else {domain}
        others = [name for name in self.domains if name in own and name not in excluded]
        target = others[int(rng.integers(len(others)))]
        if self.linear and rng.random() < 0.5:  # else sources that are linear would be as frequent as linear domains
            domain, target = target, domain
        seed = draw_seed(rng)
        return {
            "image": own[domain].encoded(z, self.transform, seed=seed),
            "truth": own[target].encoded(z, self.transform, seed=seed),
            "domain": torch.tensor(self.domains.index(domain)),
            "target": torch.tensor(self.domains.index(target)),
            "spacing_mm": torch.tensor(own[domain].pixel_mm),
        }


class TwoDomainDataset(SeededDataset):
    """Pairs of a source slice and a random target slice, for methods of two domains.

    Args:
        volumes: Volumes of these domains and maybe of others; each has at least one slice.
        domains: Names of source and target.
        transform: Applied as in `MultiDomainDataset`, with different seeds for source and target.
        data: Entries of the datalist that the volumes come from, see `SeededDataset`.
        seed: Seed of the draws.

    Raises:
        ValueError: If there are not two different domains, or one of them has no volume.

    Example:
        >>> soft, sharp = (DomainVolume(np.zeros((3, 8, 8), np.int16), (0.7, 0.7), k, "p") for k in ("B30f", "B70f"))
        >>> item = TwoDomainDataset([soft, sharp], ["B70f", "B30f"], transform=lambda item: item)[1, 2]
        >>> {name: tuple(image.shape) for name, image in item.items()}
        {'source': (1, 8, 8), 'target': (1, 8, 8)}
    """

    def __init__(
        self,
        volumes: Sequence[DomainVolume],
        domains: Sequence[str],
        *,
        transform: Callable,
        data: Entries = None,
        seed: int = 0,
    ) -> None:
        if len(domains) != 2 or domains[0] == domains[1]:
            raise ValueError(f"`domains` must be two different ones, source and target, got {list(domains)}.")
        self.source, self.target = (
            MultiDomainDataset([v for v in volumes if v.domain == domain], [domain], transform=transform, seed=seed + k)
            for k, domain in enumerate(domains)
        )
        self.data, self.seed = data, seed

    def __len__(self) -> int:
        return len(self.source)

    def draw(self, epoch: int, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        other = int(rng.integers(len(self.target)))
        return {"source": self.source[epoch, index]["image"], "target": self.target[epoch, other]["image"]}


def conversions(
    data: Data,
    domains: Sequence[str],
    load: Callable,
    transform: Callable,
    *,
    slices_per_volume: int = 4,
    targets: Sequence[str] | None = None,
    cache: VolumeCache | None = None,
) -> list[dict[str, torch.Tensor]]:
    """Load the conversions that validation scores: some slices of each volume into every other domain.

    Args:
        data: Data folder, datalist, or the entries of its list `validation`, which need not have every domain.
        domains: Names of the domains.
        load: Loads a volume, see `load_domains`.
        transform: Maps `{"image": (1, X, Y) in HU}` to the encoded image.
        slices_per_volume: Number of slices, evenly spaced over the volume.
        targets: Target domains; default: all of `domains`.
        cache: Cache of decoded volumes, see `load_domains`.

    Returns:
        Items `{"image": (1, X, Y), "source": (), "target": (), "spacing_mm": ()}`, with the true image of the target
        domain under `label` if the validation list has it. Source and target are indices into `domains`.

    Raises:
        ValueError: If the validation list has no image that can be converted.
    """
    check_validation(data, domains, targets)
    entries = sampled_patients(load_datalist(data, "validation"), domains, "Validation")
    there = [name for name in domains if any(name in entry or entry.get("domain") == name for entry in entries)]
    volumes = load_domains(entries, "validation", there, load, cache=cache)
    by_patient = {(volume.patient, volume.domain): volume for volume in volumes}
    items = []
    for volume in volumes:
        depth = len(volume.slices)
        places = np.unique(np.linspace(0, depth - 1, min(depth, slices_per_volume)).round().astype(int))
        for z, target in [(z, t) for z in places for t in targets or domains if t != volume.domain]:
            item = {
                "image": volume.encoded(z, transform),
                "source": torch.tensor(domains.index(volume.domain)),
                "target": torch.tensor(domains.index(target)),
                "spacing_mm": torch.tensor(volume.pixel_mm),
            }
            truth = by_patient.get((volume.patient, target))
            if truth is not None and truth.slices.shape == volume.slices.shape:
                item["label"] = truth.encoded(z, transform)
            items.append(item)
    return items


def _load(
    domain_and_entry: tuple[str, dict[str, str]], *, load: Callable, cache: VolumeCache, hold: bool
) -> DomainVolume:
    domain, entry = domain_and_entry
    content = cache.get(entry["image"], load, _whole_hu, hold=hold)
    between = content.get("slice_mm")  # which entries of an older cache lack
    return DomainVolume(content["hu"].numpy(), content["spacing_mm"], domain, entry["patient"], between)


def _bytes(volume: DomainVolume) -> int:
    return volume.slices.nbytes


def _are_lazy(volumes: Sequence[DomainVolume]) -> bool:
    return any(isinstance(volume, LazyDomainVolume) for volume in volumes[:1])


def _whole_hu(item: dict[str, Any]) -> dict[str, Any]:
    """Arrange a CT volume for the cache: (Z, X, Y) int16 in HU, and the pixel size."""
    volume = item["image"]
    spacing = nib.affines.voxel_sizes(np.asarray(volume.affine))
    slices = np.rint(torch.as_tensor(volume)[0].movedim(-1, 0).numpy()).astype(np.int16)
    sizes = {"spacing_mm": (float(spacing[0]), float(spacing[1])), "slice_mm": float(spacing[2])}
    return {"hu": torch.from_numpy(slices), **sizes}
