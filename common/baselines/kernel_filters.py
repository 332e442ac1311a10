"""The radial filters of all directions between CT kernels: fitted once, saved with their coefficients, loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..metrics.summary import write_json
from .kernel_reference import KernelReferences
from .kernel_spectra import VolumeSpectra, measure_spectra
from .radial_filter import RadialFilter
from .radial_paired import Patient, fit_paired_domains
from .radial_unpaired import Volume, fit_domains

FORMAT = 1
PAIRED, UNPAIRED = "radial_filter", "radial_filter_unpaired"
ARROW = "->"
CURE = "`python -m monai.bundle run training --config_file <bundle>/configs/train.yaml` fits and saves it"

KernelFilters = dict[tuple[str, str], dict[str, RadialFilter]]


def fit_kernel_filters(
    volumes_by_domain: Mapping[str, Iterable[Volume]], pairs: Iterable[Patient] | None = None
) -> KernelFilters:
    """Fit the filters of every direction. All iterables are read once, one volume at a time: generators do.

    Args:
        volumes_by_domain: ``{domain: (volume (X, Y, Z) in HU, spacing in mm) of each patient}`` of the list `training`.
        pairs: (``{domain: volume}``, spacing) of each patient of `training_paired`; without it there is no paired
            filter.

    Returns:
        ``{(source, target): {"radial_filter": paired, "radial_filter_unpaired": unpaired}}``.

    Raises:
        ValueError: when there are fewer than two domains, or one has no volume.
    """
    return fit_measured(measure_domains(volumes_by_domain), pairs)


def measure_domains(volumes_by_domain: Mapping[str, Iterable[Volume]]) -> dict[str, list[VolumeSpectra]]:
    """Measure the spectra of each domain's patients: all that unpaired filters and `kernel_references` need."""
    return {
        domain: [measure_spectra(volume, spacing) for volume, spacing in volumes]
        for domain, volumes in volumes_by_domain.items()
    }


def fit_measured(
    spectra: Mapping[str, Sequence[VolumeSpectra]], pairs: Iterable[Patient] | None = None
) -> KernelFilters:
    """`fit_kernel_filters` from spectra that `measure_domains` has measured."""
    unpaired = fit_domains(spectra, "unpaired")
    paired = {} if pairs is None else fit_paired_domains(pairs, list(unpaired))
    return {
        direction: ({PAIRED: paired[direction]} if paired else {}) | {UNPAIRED: fitted}
        for direction, fitted in unpaired.items()
    }


def save_kernel_filters(
    path: str | os.PathLike[str],
    filters: KernelFilters,
    references: KernelReferences | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write filters (keys like ``B30f->B70f``), reference spectra and facts about the fit as JSON, atomically."""
    table = {
        ARROW.join(direction): {name: fitted.to_dict() for name, fitted in entry.items()}
        for direction, entry in filters.items()
    }
    kernels = None if references is None else references.to_dict()
    return write_json(path, {"format": FORMAT, "facts": dict(facts or {}), "filters": table, "kernels": kernels})


def load_kernel_filters(path: str | os.PathLike[str]) -> KernelFilters:
    """Read the filters that `save_kernel_filters` wrote.

    Raises:
        FileNotFoundError: when the file is missing.
        ValueError: when it is not a file of this format.
    """
    table = _read(path)["filters"]
    return {_direction(key): {n: RadialFilter.from_dict(c) for n, c in entry.items()} for key, entry in table.items()}


def load_kernel_references(path: str | os.PathLike[str]) -> KernelReferences | None:
    """Read the reference spectra that `save_kernel_filters` wrote, if any; raises like `load_kernel_filters`."""
    content = _read(path)["kernels"]
    return None if content is None else KernelReferences.from_dict(content)


def _direction(key: str) -> tuple[str, str]:
    source, _, target = key.partition(ARROW)
    return source, target


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"the fitted radial filters must exist at `{path}`, found no such file; {CURE}.")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text
        raise ValueError(f"`{path}` must be a JSON file of radial filters, got {error}; {CURE}.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or "filters" not in content:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"`{path}` must be a file of radial filters of format {FORMAT}, got {found}; {CURE}.")
    return content
