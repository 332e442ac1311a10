"""Radial filters between CT kernels fitted without pairs, from the power spectra of different patients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

import numpy as np

from .kernel_amplitudes import Amplitudes, fit_amplitudes
from .kernel_spectra import Spectrum, VolumeSpectra, measure_spectra
from .radial_filter import RadialFilter

Volume = tuple[np.ndarray, Sequence[float]]

# Limit where a soft source keeps little but rounding noise, 32 dB.
LARGEST_GAIN = 40.0


def fit_spectra(source_volumes: Iterable[Volume], target_volumes: Iterable[Volume]) -> RadialFilter:
    """H = sqrt(P_target / P_source) from power spectra over whole slices of different patients.

    Each patient has a level of their own, so that H(0) = 1, and the log of the ratio is smooth in f^2; see
    `kernel_amplitudes.fit_amplitudes`. Anatomy that differs between the two groups of patients remains as an error.

    Args:
        source_volumes: (volume ``(X, Y, Z)`` in HU, spacing in mm) of each patient, read one at a time.
        target_volumes: the same of other patients in the target domain.

    Raises:
        ValueError: when a domain has no volume, or a volume is constant or not finite.
    """
    return fit_domains(_measured(source_volumes, target_volumes), "spectra")["source", "target"]


def fit_noise(source_volumes: Iterable[Volume], target_volumes: Iterable[Volume]) -> RadialFilter:
    """H = sqrt(NPS_target / NPS_source) from noise power spectra of uniform soft tissue of different patients.

    Anatomy has no part in it. The regions are judged by the same rule whatever the kernel, and a patient without large
    uniform organs gives their most uniform ones; see `common.metrics.noise.uniform_patches`.

    Raises:
        ValueError: as `fit_spectra`, and when a domain has no soft tissue at all.
    """
    return fit_domains(_measured(source_volumes, target_volumes), "noise")["source", "target"]


def fit_unpaired(source_volumes: Iterable[Volume], target_volumes: Iterable[Volume]) -> RadialFilter:
    """Both estimates combined by how well each explains its patients; needs no pairs.

    log H is the mean of those of `fit_noise` and `fit_spectra`, each weighted by 1 / scatter^2, where scatter is the
    root mean square by which the patients' log spectra miss the fit: noise in few or structured regions scatters, and
    so does anatomy that differs. Where a domain has no soft tissue, only whole slices count.

    Raises:
        ValueError: as `fit_spectra`.

    Example:
        >>> rng, knots = np.random.default_rng(0), np.linspace(0.0, 1.5, 61)
        >>> soften = RadialFilter(knots, np.exp(-3.0 * knots**2), "paired")
        >>> source, target = (rng.normal(0, 20, (160, 160, 4)) for _ in range(2))
        >>> mm = (0.7, 0.7, 5.0)
        >>> fitted = fit_unpaired([(source, mm)], [(soften.apply(target, mm), mm)])
        >>> bool(abs(fitted.response(np.array(0.3)) - np.exp(-3.0 * 0.3**2)) < 0.04)
        True
    """
    return fit_domains(_measured(source_volumes, target_volumes), "unpaired")["source", "target"]


def fit_domains(spectra: Mapping[str, Sequence[VolumeSpectra]], kind: str) -> dict[tuple[str, str], RadialFilter]:
    """The filters of every direction between domains, from the measured spectra of each domain's patients.

    All domains are fitted at once. H = K_target / K_source, times the share of the source's power that is not rounding
    to whole HU (the Wiener filter for that known noise), at most 32 dB.

    Args:
        spectra: ``{domain: [measure_spectra(...), ...]}``.
        kind: ``spectra``, ``noise`` or ``unpaired``.

    Raises:
        ValueError: on an unknown kind, or as `fit_amplitudes`.
    """
    knots, curves = _combined(spectra, kind)
    shares = {domain: _kept_share(knots, [item.image for item in items]) for domain, items in spectra.items()}
    filters = {}
    for source, target in permutations(spectra, 2):
        difference = np.clip(curves[target] - curves[source], -np.log(1e6), np.log(1e6))
        gains = np.minimum(np.exp(difference) * shares[source], LARGEST_GAIN)
        gains[0] = 1.0
        filters[source, target] = RadialFilter(knots, gains, kind)
    return filters


def _combined(spectra: Mapping[str, Sequence[VolumeSpectra]], kind: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Knots and log K of each domain."""
    if kind not in ("spectra", "noise", "unpaired"):
        raise ValueError(f"`kind` must be 'spectra', 'noise' or 'unpaired', got {kind!r}.")
    fits: list[Amplitudes] = []
    noise = {domain: [item.noise for item in items if item.noise is not None] for domain, items in spectra.items()}
    if kind == "noise" or (kind == "unpaired" and all(noise.values())):
        fits.append(fit_amplitudes(noise))
    if kind != "noise":
        fits.append(fit_amplitudes({domain: [item.image for item in items] for domain, items in spectra.items()}))
    weights = np.array([1.0 / max(fit.scatter, 1e-6) ** 2 for fit in fits])
    weights /= weights.sum()
    curves = {
        domain: sum((weight * fit.log_amplitude[domain] for weight, fit in zip(weights, fits)), np.array(0.0))
        for domain in spectra
    }
    return fits[0].frequencies_lp_mm, curves


def _kept_share(knots: np.ndarray, images: Sequence[Spectrum]) -> np.ndarray:
    """Share of the domain's power that is not rounding noise, at the knots; held beyond the last spectrum."""
    power, rounding = np.zeros(knots.size), np.zeros(knots.size)
    for image in images:
        known = knots <= image.frequency[-1]
        power[known] += np.exp(np.interp(knots[known], image.frequency, np.log(np.maximum(image.power, 1e-12))))
        rounding[known] += image.rounding
    last = int(np.flatnonzero(power > 0)[-1])
    power[last + 1 :], rounding[last + 1 :] = power[last], rounding[last]
    return np.asarray(np.clip(1.0 - rounding / power, 0.0, 1.0))


def _measured(sources: Iterable[Volume], targets: Iterable[Volume]) -> dict[str, list[VolumeSpectra]]:
    return {
        "source": [measure_spectra(volume, spacing) for volume, spacing in sources],
        "target": [measure_spectra(volume, spacing) for volume, spacing in targets],
    }
