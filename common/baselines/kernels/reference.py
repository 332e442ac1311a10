"""Estimation of an image's reconstruction kernel from its power spectra, by those of images with known kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...metrics.noise import RING_LP_MM
from .amplitudes import Spectrum, VolumeSpectra, measure_spectra

SORTS = ("noise", "image")
# Range in which levels (dose, contrast) are equalised: kernels are similar there, and anatomy does not dominate.
LEVEL_LP_MM = (0.1, 0.4)
# Deviations of neighbouring rings are correlated: a whole curve counts as so many independent rings.
INDEPENDENT_RINGS = 4
LEAST_SCATTER = 0.1
# An image this many SDs from every known kernel is as likely to be of none of them.
STRANGER_SD = 6.0


class Reference(NamedTuple):
    """Mean log power of each domain's patients, `{domain: (rings,)}`, and the patients' scatter about it."""

    log_power: dict[str, np.ndarray]
    scatter: float


class KernelReferences(NamedTuple):
    """Spectra of images of each known kernel: `{"noise": ..., "image": ...}` at the rings' frequencies [lp/mm].

    `noise` is missing if a domain has no uniform soft tissue.
    """

    frequencies_lp_mm: np.ndarray
    references: dict[str, Reference]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        curves = {
            sort: {"log_power": {d: c.tolist() for d, c in item.log_power.items()}, "scatter": item.scatter}
            for sort, item in self.references.items()
        }
        return {"frequencies_lp_mm": self.frequencies_lp_mm.tolist(), "references": curves}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> KernelReferences:
        """Rebuild the references from `to_dict`."""
        references = {
            sort: Reference({d: np.array(c) for d, c in item["log_power"].items()}, float(item["scatter"]))
            for sort, item in content["references"].items()
        }
        return cls(np.array(content["frequencies_lp_mm"]), references)


def kernel_references(spectra: Mapping[str, Sequence[VolumeSpectra]]) -> KernelReferences:
    """Average the spectra of each domain's patients, each at an equal level.

    Args:
        spectra: Spectra `{domain: [measure_spectra(...), ...]}`.

    Raises:
        ValueError: If a domain has no patient.
    """
    empty = [domain for domain, items in spectra.items() if not items]
    if empty or not spectra:
        raise ValueError(f"`spectra` must hold a patient of each domain, got none for {empty or 'any'}.")
    highest = min(max(item.image.nyquist for item in items) for items in spectra.values())
    rings = np.arange(1, int(highest / RING_LP_MM) + 1) * RING_LP_MM
    references = {}
    for sort in SORTS:
        found = {domain: [getattr(item, sort) for item in items] for domain, items in spectra.items()}
        known = {domain: [item for item in items if item is not None] for domain, items in found.items()}
        if all(known.values()):
            references[sort] = _reference(known, rings)
    return KernelReferences(rings, references)


def estimate_kernel(volume_hu: np.ndarray, spacing_mm: Sequence[float], spectra: KernelReferences) -> tuple[str, float]:
    """Estimate which known kernel made an image, by the shape of its noise and image power spectra.

    Args:
        volume_hu: CT volume `(X, Y, Z)` in HU.
        spacing_mm: Voxel size along X, Y (and Z), in mm.
        spectra: Result of `kernel_references` for the training images.

    Returns:
        The most likely domain, and its probability in [0, 1] if all known kernels are equally common and an image
        6 SDs away from all of them is as likely to be of an unknown one.

    Raises:
        ValueError: As in `measure_spectra`.
    """
    distances = kernel_distances(volume_hu, spacing_mm, spectra)
    squares = {domain: INDEPENDENT_RINGS * distance**2 for domain, distance in distances.items()}
    nearest = min(squares, key=lambda domain: squares[domain])
    exponents = np.array([*squares.values(), STRANGER_SD**2])
    likelihoods = np.exp((exponents.min() - exponents) / 2.0)
    return nearest, float(likelihoods[list(squares).index(nearest)] / likelihoods.sum())


def kernel_distances(volume_hu: np.ndarray, spacing_mm: Sequence[float], spectra: KernelReferences) -> dict[str, float]:
    """Compare an image's spectra with each known kernel's: RMS difference of the log power curves.

    The unit is the scatter between the patients of one kernel, so that 1 is an ordinary patient. Noise and whole-image
    spectrum count equally: both come from one image, hence their mean and not their sum.

    Args:
        volume_hu: CT volume `(X, Y, Z)` in HU.
        spacing_mm: Voxel size along X, Y (and Z), in mm.
        spectra: Result of `kernel_references` for the training images.

    Raises:
        ValueError: As in `measure_spectra`.
    """
    measured = measure_spectra(volume_hu, spacing_mm)
    squares: dict[str, list[float]] = {}
    for sort, reference in spectra.references.items():
        spectrum: Spectrum | None = getattr(measured, sort)
        if spectrum is None:
            continue
        own = _levelled(spectrum, spectra.frequencies_lp_mm)
        known = np.isfinite(own)
        for domain, curve in reference.log_power.items():
            square = np.mean((own[known] - curve[known]) ** 2) / reference.scatter**2
            squares.setdefault(domain, []).append(float(square))
    return {domain: float(np.sqrt(np.mean(values))) for domain, values in squares.items()}


def _reference(spectra: Mapping[str, Sequence[Spectrum]], rings: np.ndarray) -> Reference:
    means, squares, freedom = {}, 0.0, 0
    for domain, items in spectra.items():
        curves = np.stack([_levelled(item, rings) for item in items])
        known = np.isfinite(curves)
        counts = known.sum(axis=0)
        total = np.where(known, curves, 0.0).sum(axis=0) / np.maximum(counts, 1)
        last = int(np.flatnonzero(counts)[-1])
        total[last + 1 :] = total[last]
        means[domain] = total
        squares += float((np.where(known, curves - total, 0.0) ** 2).sum())
        freedom += int((counts - 1).clip(min=0).sum())
    return Reference(means, max(float(np.sqrt(squares / max(freedom, 1))), LEAST_SCATTER))


def _levelled(spectrum: Spectrum, rings: np.ndarray) -> np.ndarray:
    """Return log P at the rings at a level of 0; NaN beyond Nyquist."""
    curve = np.interp(rings, spectrum.frequency, np.log(np.maximum(spectrum.power, 1e-12)))
    inside = rings <= spectrum.nyquist
    level = inside & (rings >= LEVEL_LP_MM[0]) & (rings <= LEVEL_LP_MM[1])
    return np.asarray(np.where(inside, curve - curve[level if level.any() else inside].mean(), np.nan))
