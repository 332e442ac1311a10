"""Differences between domains beside the kernel are told before training; those by chance are not."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from common.data import DomainVolume, warn_of_confounders

DOMAINS = ("B30f", "B70f")


def volume(
    domain: str,
    patient: str,
    *,
    pixel: float = 0.7,
    slice_mm: float | None = 1.0,
    body: float = 40.0,
    lung: float = 0.0,
) -> DomainVolume:
    """A disc of soft tissue of a diameter in pixels, a share of which is lung; the noise is the kernel's."""
    rng = np.random.default_rng([len(patient), *patient.encode(), *domain.encode()])
    radius = np.hypot(*np.mgrid[-32:32, -32:32])
    inside = radius < body / 2
    hu = np.where(inside, 40.0, -1000.0)
    hu[inside & (radius < np.sqrt(lung) * body / 2)] = -800.0
    noise = rng.normal(0, 10 if domain == "B30f" else 60, (6, 64, 64))
    return DomainVolume(np.rint(hu + noise).astype(np.int16), (pixel, pixel), domain, patient, slice_mm)


def group(changes: dict, count: int = 4, same: bool = False) -> list[DomainVolume]:
    sizes = np.random.default_rng(1).uniform(0.6, 0.8, 2 * count)
    found = []
    for k, domain in enumerate(DOMAINS):
        for n in range(count):
            own = {"pixel": float(sizes[n + count * k])} | (changes if k else {})
            found.append(volume(domain, f"p{n if same else n + count * k}", **own))
    return found


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, []),
        ({"pixel": 0.85}, ["pixel size (mm)"]),
        ({"slice_mm": 3.0}, ["slice distance (mm)"]),
        ({"slice_mm": None}, []),
        ({"body": 60.0}, ["body (mm)"]),
        ({"lung": 0.5}, ["body (mm)", "lung (%)"]),  # lung is darker than the body
    ],
)
def test_what_differs_between_the_domains_is_told_with_a_table(caplog, changes, names):
    with caplog.at_level(logging.WARNING):
        found = warn_of_confounders(group(changes), DOMAINS)
    assert list(found) == names
    assert all(pairs == [DOMAINS] for pairs in found.values())
    if names:
        assert "Without pairs the network learns this difference as well" in caplog.text
        lines = caplog.text.splitlines()
        table = [line.split() for line in lines if line.startswith(("domain", "B30f", "B70f"))]
        assert [row[0] for row in table] == ["domain", *DOMAINS]
        assert table[1][1] == table[2][1] == "4"
    else:
        assert caplog.text == ""


def test_pairs_cannot_be_confounded(caplog):
    assert warn_of_confounders(group({"slice_mm": 3.0}, same=True), DOMAINS) == {}
    assert caplog.text == ""


def test_the_median_and_the_range_of_each_domain_are_in_the_table(caplog):
    sizes = {"B30f": [0.5, 0.6, 0.9], "B70f": [1.0, 1.1, 1.4]}
    volumes = [volume(domain, f"{domain}{size}", pixel=size) for domain, group_ in sizes.items() for size in group_]
    warn_of_confounders(volumes, DOMAINS)
    assert "0.6 (0.5 to 0.9)" in caplog.text
    assert "1.1 (1 to 1.4)" in caplog.text
