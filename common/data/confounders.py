"""What else differs between the domains of unpaired CT: pixel size, slice distance, size of the body, lung.

A network that is trained without pairs learns every difference between the domains. Where one kernel's images have
larger pixels than another's, or show another part of the body, it cannot tell this from the kernel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from .domains import DomainVolume, sampled_domains

logger = logging.getLogger(__name__)

BLOCK = 4  # pixels per side that are averaged: the noise, and with it the kernel, hardly counts then
MOST_SLICES = 16
BODY_HU, LUNG_HU = -300.0, (-950.0, -500.0)
SEPARATE = 0.95  # probability that a volume of one domain exceeds one of the other


class Measure(NamedTuple):
    """A property of volumes that should not depend on the domain.

    Attributes:
        name: Name in the table.
        of: Function from a volume to its value; None if unknown.
        differs: Function from two medians to whether they differ by more than a kernel could explain.
        form: Format of a value.
    """

    name: str
    of: Callable[[DomainVolume], float | None]
    differs: Callable[[float, float], bool]
    form: str


def warn_of_confounders(volumes: Sequence[DomainVolume], domains: Sequence[str]) -> Mapping[str, list[tuple[str, str]]]:
    """Warn of properties by which the training images of two domains can be told apart, with a table.

    Pairs (all volumes of the same patients in every domain) cannot be confounded and are not measured.

    Of many volumes, some of each domain are measured, see `common.data.many`.

    Args:
        volumes: Training volumes of all domains.
        domains: Names of the domains.

    Returns:
        Pairs of domains that differ, by the name of the property.
    """
    patients: dict[str, set[str]] = {domain: set() for domain in domains}
    for volume in volumes:
        if volume.domain in patients:
            patients[volume.domain].add(volume.patient)
    if len({frozenset(names) for names in patients.values()}) < 2:
        return {}
    by_domain = sampled_domains(volumes, domains, "What else differs between domains")
    values = {m.name: {domain: _values(m, group) for domain, group in by_domain.items()} for m in MEASURES}
    found = {
        m.name: pairs
        for m in MEASURES
        if (pairs := [(a, b) for a, b in combinations(domains, 2) if _differ(m, values[m.name][a], values[m.name][b])])
    }
    if found:
        told = "; ".join(f"{name} ({', '.join(' and '.join(pair) for pair in pairs)})" for name, pairs in found.items())
        logger.warning(
            f"The training images of the domains differ by more than their kernel: {told}. Without pairs the network"
            " learns this difference as well, and will change it. Choose images of the same protocol and part of the"
            f" body for all domains, or resample them.\n{_table(values, domains)}"
        )
    return found


def _values(measure: Measure, volumes: Sequence[DomainVolume]) -> list[float]:
    return [value for volume in volumes if (value := measure.of(volume)) is not None]


def _differ(measure: Measure, one: Sequence[float], other: Sequence[float]) -> bool:
    if not one or not other:
        return False
    above = np.mean([(a > b) + 0.5 * (a == b) for a in one for b in other])
    return max(above, 1 - above) >= SEPARATE and measure.differs(float(np.median(one)), float(np.median(other)))


def _coarse(volume: DomainVolume) -> np.ndarray:
    """Return some slices, evenly spaced, averaged over blocks of pixels."""
    depth, x, y = volume.slices.shape
    chosen = volume.slices[np.linspace(0, depth - 1, min(depth, MOST_SLICES)).round().astype(int)]
    x, y = max(x // BLOCK, 1) * min(BLOCK, x), max(y // BLOCK, 1) * min(BLOCK, y)
    side = (min(BLOCK, x), min(BLOCK, y))
    blocks = chosen[:, :x, :y].reshape(len(chosen), x // side[0], side[0], y // side[1], side[1])
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32))


def _body_mm(volume: DomainVolume) -> float:
    """Return the diameter of the disc that has the area of the body in a slice."""
    pixels = (_coarse(volume) > BODY_HU).sum(axis=(1, 2)).mean() * BLOCK**2
    return float(2 * np.sqrt(pixels * volume.spacing_mm[0] * volume.spacing_mm[1] / np.pi))


def _lung(volume: DomainVolume) -> float:
    """Return the share of a lung's density among all that is no air, in percent."""
    coarse = _coarse(volume)
    lung = ((coarse > LUNG_HU[0]) & (coarse < LUNG_HU[1])).sum()
    return float(100 * lung / max(lung + (coarse > BODY_HU).sum(), 1))


def _factor(limit: float) -> Callable[[float, float], bool]:
    return lambda a, b: max(a, b) > limit * max(min(a, b), 1e-6)


MEASURES = (
    Measure("pixel size (mm)", lambda volume: volume.pixel_mm, _factor(1.1), ".3g"),
    Measure("slice distance (mm)", lambda volume: volume.slice_mm, _factor(1.25), ".3g"),
    Measure("body (mm)", _body_mm, _factor(1.3), ".0f"),
    Measure("lung (%)", _lung, lambda a, b: abs(a - b) > 15, ".0f"),
)


def _table(values: Mapping[str, Mapping[str, Sequence[float]]], domains: Sequence[str]) -> str:
    """Return medians and ranges by domain, in columns."""
    rows = [["domain", "volumes", *values]]
    for domain in domains:
        cells = [_cell(values[measure.name][domain], measure.form) for measure in MEASURES]
        rows.append([domain, str(len(values[MEASURES[0].name][domain])), *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _cell(found: Sequence[float], form: str) -> str:
    if not found:
        return "?"
    return f"{np.median(found):{form}} ({min(found):{form}} to {max(found):{form}})"
