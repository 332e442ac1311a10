"""Each way of fitting recovers a known filter from white noise, whose every frequency carries the same power."""

from __future__ import annotations

import numpy as np
import pytest

from common.baselines.kernels.amplitudes import fit_amplitudes, measure_spectra
from common.baselines.kernels.fits import (
    LARGEST_GAIN,
    fit_domains,
    fit_paired_domains,
)
from common.baselines.kernels.radial_filter import RadialFilter

KNOTS = np.linspace(0.0, 2.0, 201)
FREQUENCIES = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
SPACINGS = (0.6, 0.7, 0.8, 0.75)
Patients = list[tuple[np.ndarray, tuple[float, ...]]]


def gain(frequency: np.ndarray, sigma_mm: float = 0.4) -> np.ndarray:
    return np.exp(-2 * (np.pi * sigma_mm * frequency) ** 2)


def blur(sigma_mm: float) -> RadialFilter:
    return RadialFilter(KNOTS, gain(KNOTS, sigma_mm), "paired")


def patients(seed: int, sigma_mm: float = 0.0, rounded: bool = False) -> Patients:
    """White noise of a level of its own for each patient, seen through a Gaussian kernel."""
    rng = np.random.default_rng(seed)
    result = []
    for spacing in rng.permutation(SPACINGS):
        mm = (float(spacing), float(spacing), 5.0)
        image = blur(sigma_mm).apply(rng.normal(30, rng.uniform(12, 25), (160, 150, 4)), mm)
        result.append((np.rint(image) if rounded else image, mm))
    return result


def fit(kind: str, sources: Patients, targets: Patients) -> RadialFilter:
    """The filter from source to target, of patients of their own each."""
    spectra = {
        "source": [measure_spectra(*patient) for patient in sources],
        "target": [measure_spectra(*patient) for patient in targets],
    }
    return fit_domains(spectra, kind)["source", "target"]


def fit_paired(pairs: list[tuple[np.ndarray, np.ndarray, tuple[float, ...]]]) -> RadialFilter:
    """The filter of aligned (source, target, spacing)."""
    patients = [({"source": source, "target": target}, mm) for source, target, mm in pairs]
    return fit_paired_domains(patients, [("source", "target")])["source", "target"]


def test_the_paired_fit_recovers_a_filter_within_a_percent() -> None:
    pairs = [(image, blur(0.4).apply(image, mm), mm) for image, mm in patients(0)]
    np.testing.assert_allclose(fit_paired(pairs).response(FREQUENCIES), gain(FREQUENCIES), atol=0.01)


def test_the_paired_fit_is_the_wiener_filter_of_a_noisy_source() -> None:
    rng = np.random.default_rng(0)
    clean = rng.normal(0, 30, (200, 200, 2))
    pairs = [(clean + rng.normal(0, 30, clean.shape), clean, (0.7, 0.7, 5.0))]
    # Equal powers of signal and noise: S / (S + N) = 0.5 at every frequency.
    np.testing.assert_allclose(fit_paired(pairs).response(FREQUENCIES), 0.5, atol=0.05)


# Whole slices of white noise cannot be told from a white floor, hence the wider tolerance.
@pytest.mark.parametrize(("kind", "tolerance"), [("noise", 0.02), ("unpaired", 0.02), ("spectra", 0.04)])
def test_unpaired_fits_recover_a_filter_from_other_patients(kind: str, tolerance: float) -> None:
    fitted = fit(kind, patients(1), patients(2, 0.4))
    np.testing.assert_allclose(fitted.response(FREQUENCIES), gain(FREQUENCIES), atol=tolerance)
    assert fitted.gains[0] == 1.0


def test_directions_between_three_kernels_are_consistent() -> None:
    spectra = {
        name: [measure_spectra(*patient) for patient in patients(seed, sigma)]
        for seed, (name, sigma) in enumerate({"sharp": 0.0, "medium": 0.2, "soft": 0.35}.items())
    }
    filters = fit_domains(spectra, "unpaired")
    assert len(filters) == 6
    through = filters["soft", "medium"].response(FREQUENCIES) * filters["medium", "sharp"].response(FREQUENCIES)
    np.testing.assert_allclose(through, filters["soft", "sharp"].response(FREQUENCIES), rtol=1e-6)


def test_gains_stay_bounded_where_only_rounding_is_left() -> None:
    fitted = fit("unpaired", patients(3, 1.0, rounded=True), patients(4, rounded=True))
    assert fitted.gains.max() <= LARGEST_GAIN
    # A blur of 1 mm leaves exp(-19.7) of the power at 0.7 lp/mm: far below the rounding noise.
    assert fitted.response(np.array(0.8)) < 5.0
    np.testing.assert_allclose(fitted.response(np.array(0.2)), 1 / gain(np.array(0.2), 1.0), rtol=0.15)


def test_without_soft_tissue_whole_slices_are_used_and_the_noise_fit_says_so() -> None:
    def lungs(seed: int, sigma_mm: float = 0.0) -> Patients:
        return [(image - 900.0, mm) for image, mm in patients(seed, sigma_mm)]

    expected = fit("spectra", lungs(1), lungs(2, 0.4)).gains
    np.testing.assert_array_equal(fit("unpaired", lungs(1), lungs(2, 0.4)).gains, expected)
    with pytest.raises(ValueError, match="`spectra` must hold at least 2 domains with a spectrum each"):
        fit("noise", lungs(1), lungs(2, 0.4))


def test_the_better_explained_estimate_counts_more() -> None:
    spectra = {
        "source": [measure_spectra(*p) for p in patients(1)],
        "target": [measure_spectra(*p) for p in patients(2, 0.4)],
    }
    curves, scatters = [], []
    for sort in ("noise", "image"):
        fitted = fit_amplitudes({domain: [getattr(i, sort) for i in items] for domain, items in spectra.items()})
        curves.append(fitted.log_amplitude["target"] - fitted.log_amplitude["source"])
        scatters.append(fitted.scatter)
    weight = scatters[1] ** 2 / (scatters[0] ** 2 + scatters[1] ** 2)
    combined = np.exp(weight * curves[0] + (1 - weight) * curves[1])
    unpaired = fit_domains(spectra, "unpaired")["source", "target"]
    np.testing.assert_allclose(unpaired.gains[1:20], combined[1:20], rtol=1e-6)


def test_many_directions_are_fitted_in_one_pass() -> None:
    (image, mm), *_ = patients(0)
    volumes = {"a": image, "b": blur(0.3).apply(image, mm)}
    together = fit_paired_domains(iter([(volumes, mm)]))
    assert list(together) == [("a", "b"), ("b", "a")]
    np.testing.assert_allclose(together["a", "b"].gains, fit_paired([(image, volumes["b"], mm)]).gains)


def test_wrong_arguments_are_refused() -> None:
    (image, mm), *_ = patients(0)
    with pytest.raises(ValueError, match="`pairs` must hold at least one aligned pair, got none"):
        fit_paired([])
    with pytest.raises(ValueError, match="`pairs` must be aligned, got volumes of shapes"):
        fit_paired([(image, image[:, :-1], mm)])
    with pytest.raises(ValueError, match="`pairs` must have sources that vary"):
        fit_paired([(np.zeros((8, 8, 1)), np.zeros((8, 8, 1)), mm)])
    with pytest.raises(ValueError, match="`volume_hu` must vary, got a constant volume"):
        fit("spectra", [(np.zeros((8, 8, 1)), mm)], [(image, mm)])
    with pytest.raises(ValueError, match=r"`spectra` must hold at least 2 domains .* none for \['target'\]"):
        fit("unpaired", [(image, mm)], [])
    with pytest.raises(ValueError, match="`kind` must be 'spectra', 'noise' or 'unpaired', got 'paired'"):
        fit_domains({"a": [measure_spectra(image, mm)]}, "paired")
