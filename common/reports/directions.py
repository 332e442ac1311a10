"""The order of a report's directions: for CT kernels sharp to soft, then soft to sharp, as in the papers' tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .methods import IDENTITY
from .verdict import Metrics

# With more directions than this, a report compares them in common tables and folds the details away.
FEW_DIRECTIONS = 2
KERNEL_METRICS = ("noise_sd", "nps_error", "edge_error", "emphysema_index")
Scores = Mapping[str, Mapping[str, Metrics]]


def grouped_directions(summary: Scores, directions: Sequence[str]) -> dict[str, list[str]]:
    """Directions under their headings: those between CT kernels by sharpness, all others as they are under none.

    Args:
        summary: ``{direction: {method: {metric: {"mean": ...}}}}``.
        directions: such as ``"B30f->B70f"``, each once.

    Example:
        >>> scores = {"network": {"edge_error": {"mean": 0.1}}}
        >>> grouped_directions({"B30f->B70f": scores}, ["B30f->B70f", "B70f->B50f", "B50f->B30f"])
        {'Sharp to soft': ['B50f->B30f', 'B70f->B50f'], 'Soft to sharp': ['B30f->B70f']}
    """
    rank = {domain: place for place, domain in enumerate(softest_first(summary, directions))}
    if not rank:
        return {"": list(directions)}
    pairs = sorted((domains_of(direction) for direction in directions), key=lambda pair: (rank[pair[0]], rank[pair[1]]))
    names = {domains_of(direction): direction for direction in directions}
    groups = {
        "Sharp to soft": [names[pair] for pair in pairs if rank[pair[0]] > rank[pair[1]]],
        "Soft to sharp": [names[pair] for pair in pairs if rank[pair[0]] < rank[pair[1]]],
    }
    return {heading: members for heading, members in groups.items() if members}


def softest_first(summary: Scores, directions: Sequence[str]) -> list[str]:
    """Kernels from soft to sharp: by the noise of their images, else by the numbers in their names; empty if unknown.

    One scan has more noise the sharper its kernel is, whatever the vendor calls it.
    """
    domains = sorted({domain for direction in directions for domain in domains_of(direction)})
    if not is_kernel_conversion(summary) or any(len(set(domains_of(direction))) < 2 for direction in directions):
        return []
    noise: dict[str, list[float]] = {}
    for direction, methods in summary.items():
        source, target = domains_of(direction)
        for method, metrics in methods.items():
            for domain, metric in ((target, "noise_sd_target"), (source, "noise_sd" if method == IDENTITY else "")):
                if metric in metrics:
                    noise.setdefault(domain, []).append(float(metrics[metric]["mean"]))
    if all(domain in noise for domain in domains):
        return sorted(domains, key=lambda domain: sum(noise[domain]) / len(noise[domain]))
    numbers = {domain: int(found.group()) for domain in domains if (found := re.search(r"\d+", domain))}
    return sorted(domains, key=lambda domain: numbers[domain]) if len(set(numbers.values())) == len(domains) else []


def is_kernel_conversion(summary: Scores) -> bool:
    """Whether the numbers are those of converted CT kernels."""
    found = {metric for methods in summary.values() for metrics in methods.values() for metric in metrics}
    return bool(found & set(KERNEL_METRICS))


def domains_of(direction: str) -> tuple[str, str]:
    """Source and target of a direction.

    >>> domains_of("B30f->B70f"), domains_of("somewhere")
    (('B30f', 'B70f'), ('source', 'target'))
    """
    source, arrow, target = direction.partition("->")
    return (source.strip(), target.strip()) if arrow else ("source", "target")
