"""Radial filters between CT kernels, fitted to the power spectra of different patients or to aligned pairs.

On aligned pairs the filter has the least mean-square error, which no radial filter can beat.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

import numpy as np

from ...metrics.noise import check_spacing, check_volume
from .amplitudes import Amplitudes, Spectrum, VolumeSpectra, fit_amplitudes
from .radial_filter import RadialFilter, cosine_frequencies, cosine_spectrum

Volume = tuple[np.ndarray, Sequence[float]]

# Limit, 32 dB, where a soft source contains little but rounding noise.
LARGEST_GAIN = 40.0

KNOT_LP_MM = 0.02
HIGHEST_LP_MM = 2.0

Patient = tuple[Mapping[str, np.ndarray], Sequence[float]]


def fit_domains(spectra: Mapping[str, Sequence[VolumeSpectra]], kind: str) -> dict[tuple[str, str], RadialFilter]:
    """Fit the filters of every direction between domains to the measured spectra of each domain's patients.

    All domains are fitted at once, without pairs: H = K_target / K_source, times the fraction of the source's power
    that is not rounding to whole HU (the Wiener filter for that known noise), at most 32 dB. The amplitudes K^2 are

    - `spectra`: power spectra of whole slices. Each patient has a separate level, so that H(0) = 1, and log K is smooth
        in f^2, see `fit_amplitudes`. Anatomy that differs between two groups of patients remains as an error.
    - `noise`: noise power spectra of uniform soft tissue, which anatomy does not affect. The regions are chosen by the
        same rule whatever the kernel; a patient without large uniform organs contributes the most uniform regions, see
        `common.metrics.noise.uniform_patches`.
    - `unpaired`: both. log K is their mean, each weighted by 1 / scatter^2, where scatter is the root mean square by
      which the patients' log spectra miss the fit: noise in few or structured regions scatters, and so does anatomy
      that differs. Where a domain has no soft tissue, only whole slices count.

    Args:
        spectra: Spectra `{domain: [measure_spectra(...), ...]}`.
        kind: `spectra`, `noise` or `unpaired`.

    Raises:
        ValueError: If `kind` is unknown, a domain has no volume, or, for `noise`, no soft tissue.

    Example:
        >>> from common.baselines.kernels.amplitudes import measure_spectra
        >>> rng, knots = np.random.default_rng(0), np.linspace(0.0, 1.5, 61)
        >>> soften = RadialFilter(knots, np.exp(-3.0 * knots**2), "paired")
        >>> source, target = (rng.normal(0, 20, (160, 160, 4)) for _ in range(2))
        >>> mm = (0.7, 0.7, 5.0)
        >>> spectra = {"a": [measure_spectra(source, mm)], "b": [measure_spectra(soften.apply(target, mm), mm)]}
        >>> fitted = fit_domains(spectra, "unpaired")["a", "b"]
        >>> bool(abs(fitted.response(np.array(0.3)) - np.exp(-3.0 * 0.3**2)) < 0.04)
        True
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
    """Return the knots and log K of each domain."""
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
    """Compute the fraction of the domain's power that is not rounding noise, at the knots (constant at the end)."""
    power, rounding = np.zeros(knots.size), np.zeros(knots.size)
    for image in images:
        known = knots <= image.frequency[-1]
        power[known] += np.exp(np.interp(knots[known], image.frequency, np.log(np.maximum(image.power, 1e-12))))
        rounding[known] += image.rounding
    last = int(np.flatnonzero(power > 0)[-1])
    power[last + 1 :], rounding[last + 1 :] = power[last], rounding[last]
    return np.asarray(np.clip(1.0 - rounding / power, 0.0, 1.0))


def fit_paired_domains(
    patients: Iterable[Patient], directions: Iterable[tuple[str, str]] | None = None
) -> dict[tuple[str, str], RadialFilter]:
    """Fit H of many directions to aligned volumes by least squares, in one pass over the patients.

    H minimises sum |T - H S|^2 over all cosine coefficients S, T of source and target: on one knot alone it would be
    sum S T / sum S^2. The cosine transform needs no window: a slice and its mirror image meet without a step. As the
    transform is orthonormal and the one of `RadialFilter.apply`, this is the least mean-square error in HU.

    Args:
        patients: (`{domain: volume (X, Y, Z) in HU}`, spacing in mm) of each patient, all domains aligned.
        directions: (source, target) pairs; default all of the first patient's domains.

    Raises:
        ValueError: If there is no pair, shapes differ, or a source is constant.

    Example:
        >>> source, mm = np.random.default_rng(0).normal(0, 50, (64, 64, 2)), (1, 1, 5)
        >>> sharper = RadialFilter([0.0, 0.5, 2.0], [1.0, 3.0, 3.0], "paired")
        >>> fitted = fit_paired_domains([({"a": source, "b": sharper.apply(source, mm)}, mm)])["a", "b"]
        >>> fitted.response(np.array([0.25, 0.5])).round(3).tolist()
        [2.0, 3.0]
    """
    wanted = None if directions is None else list(directions)
    equations: dict[tuple[str, str], _NormalEquations] = {}
    for volumes, spacing in patients:
        wanted = wanted or list(permutations(volumes, 2))
        checked = {domain: check_volume(volume, f"pairs of {domain}") for domain, volume in volumes.items()}
        shapes = {volume.shape for volume in checked.values()}
        if len(shapes) > 1:
            raise ValueError(f"`pairs` must be aligned, got volumes of shapes {sorted(shapes)}.")
        frequency = cosine_frequencies(next(iter(shapes))[:2], check_spacing(spacing))
        for (source, target), products in _products(checked, wanted).items():
            equations.setdefault((source, target), _NormalEquations()).add(frequency, *products)
    if not equations:
        raise ValueError("`pairs` must hold at least one aligned pair, got none; check `training_paired`.")
    return {direction: fitted.solve() for direction, fitted in equations.items()}


def _products(
    volumes: Mapping[str, np.ndarray], directions: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Sum S^2 and sum S T over the slices, each `(X, Y)`, of every direction."""
    shape, slices = next((volume.shape[:2], volume.shape[2]) for volume in volumes.values())
    squares = {domain: np.zeros(shape) for domain in volumes}
    crosses = {direction: np.zeros(shape) for direction in directions}
    for index in range(slices):
        spectra = {domain: cosine_spectrum(volume[:, :, index]) for domain, volume in volumes.items()}
        for domain, spectrum in spectra.items():
            squares[domain] += spectrum**2
        for source, target in directions:
            crosses[source, target] += spectra[source] * spectra[target]
    return {(source, target): (squares[source], crosses[source, target]) for source, target in directions}


class _NormalEquations:
    """Least squares for the gains of a piecewise linear H, with H(0) = 1 fixed."""

    def __init__(self) -> None:
        self.knots = np.arange(round(HIGHEST_LP_MM / KNOT_LP_MM) + 1) * KNOT_LP_MM
        self.matrix = np.zeros((self.knots.size, self.knots.size))
        self.right = np.zeros(self.knots.size)

    def add(self, frequency: np.ndarray, squares: np.ndarray, crosses: np.ndarray) -> None:
        number = self.knots.size
        position = np.clip(frequency.ravel() / KNOT_LP_MM, 0.0, number - 1.0)
        lower = np.minimum(position.astype(np.intp), number - 2)
        upper_share = position - lower
        hats = [(lower, 1.0 - upper_share), (lower + 1, upper_share)]
        for row, row_share in hats:
            self.right += np.bincount(row, row_share * crosses.ravel(), number)
            for column, share in hats:
                flat = np.bincount(row * number + column, row_share * share * squares.ravel(), number**2)
                self.matrix += flat.reshape(number, number)

    def solve(self) -> RadialFilter:
        power = np.diag(self.matrix)
        used = np.flatnonzero(power > 1e-12 * power.max())
        used = used[used > 0]
        if used.size == 0:
            raise ValueError("`pairs` must have sources that vary, got constant ones; check `training_paired`.")
        # A trace of smoothness ties down knots that hardly any coefficient touches.
        matrix = self.matrix[np.ix_(used, used)] + 1e-9 * np.diag(power[used])
        gains = np.linalg.solve(matrix, self.right[used] - self.matrix[used, 0])
        knots = np.concatenate([[0.0], self.knots[used]])
        return RadialFilter(knots, np.concatenate([[1.0], gains]), "paired")
