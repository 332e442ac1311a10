"""The radial filter with the least mean-square error on aligned pairs: what no radial filter can beat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

import numpy as np

from ..metrics.noise import check_spacing, check_volume
from .radial_filter import RadialFilter, cosine_frequencies, cosine_spectrum

KNOT_LP_MM = 0.02
HIGHEST_LP_MM = 2.0

Pair = tuple[np.ndarray, np.ndarray, Sequence[float]]
Patient = tuple[Mapping[str, np.ndarray], Sequence[float]]


def fit_paired(pairs: Iterable[Pair]) -> RadialFilter:
    """Fit H to aligned pairs by least squares; the pairs are read one at a time and dropped.

    H minimises sum |T - H S|^2 over all cosine coefficients S, T of source and target: on one knot alone it would be
    sum S T / sum S^2. The cosine transform needs no window: a slice and its mirror image meet without a step. As the
    transform is orthonormal and the one of `RadialFilter.apply`, this is the least mean-square error in HU.

    Args:
        pairs: (source volume ``(X, Y, Z)`` in HU, its target, spacing in mm) of each patient.

    Raises:
        ValueError: when there is no pair, shapes differ, or a source is constant.

    Example:
        >>> source = np.random.default_rng(0).normal(0, 50, (64, 64, 2))
        >>> sharper = RadialFilter([0.0, 0.5, 2.0], [1.0, 3.0, 3.0], "paired")
        >>> fitted = fit_paired([(source, sharper.apply(source, (1, 1, 5)), (1, 1, 5))])
        >>> fitted.response(np.array([0.25, 0.5])).round(3).tolist()
        [2.0, 3.0]
    """
    patients = (({"source": source, "target": target}, spacing) for source, target, spacing in pairs)
    return fit_paired_domains(patients, [("source", "target")])["source", "target"]


def fit_paired_domains(
    patients: Iterable[Patient], directions: Iterable[tuple[str, str]] | None = None
) -> dict[tuple[str, str], RadialFilter]:
    """`fit_paired` for many directions in one pass over the patients.

    Args:
        patients: (``{domain: volume (X, Y, Z) in HU}``, spacing in mm) of each patient, all domains aligned.
        directions: (source, target) pairs; default all of the first patient's domains.

    Raises:
        ValueError: as `fit_paired`.
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
    """sum S^2 and sum S T over the slices, each ``(X, Y)``, of every direction."""
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
    """Least squares for the gains of a piecewise linear H, with H(0) = 1 held."""

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
