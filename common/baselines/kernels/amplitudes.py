"""Amplitudes of reconstruction kernels that explain the power spectra of different patients.

The spectra are those of the noise in uniform tissue and of whole slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from monai.utils.module import optional_import

from ...metrics.noise import RING_LP_MM, check_spacing, check_volume, noise_power_spectrum, ring_means, uniform_patches
from .band_energy import band_energies
from .radial_filter import HIGHEST_HU, LOWEST_HU

fft, _ = optional_import("scipy.fft")

# Relative SD of a ring's power beyond its sampling error: deviations from the model; and between whole patients.
NOISE_MODEL_SD, IMAGE_MODEL_SD = 0.05, 0.15

optimize, _ = optional_import("scipy.optimize")

HIGHEST_LP_MM = 1.5
# log K is a polynomial in f^2 of this degree, in units of (0.5 lp/mm)^2.
DEGREE = 4
UNIT_LP_MM = 0.5
# Prior SDs of the curvature of the common spectrum between rings, and of the amplitudes' coefficients.
CURVATURE_SD, AMPLITUDE_SD = 0.3, 100.0
# A white floor is a tenth of the spectrum's least power, to a factor e: left free, it would absorb white signal.
FLOOR_SHARE, FLOOR_SD = 0.1, 1.0


class Spectrum(NamedTuple):
    """Power of one volume at the rings' frequencies, and what is known about its error.

    `frequency` [lp/mm], `power` [HU^2 mm^2] and `relative_sd` of the power are each `(rings,)`; `rounding` is the power
    of the rounding to whole HU, `nyquist` in lp/mm.
    """

    frequency: np.ndarray
    power: np.ndarray
    relative_sd: np.ndarray
    rounding: float
    nyquist: float


class VolumeSpectra(NamedTuple):
    """Spectra of one volume: of the noise in uniform tissue (None without such tissue), and of whole slices.

    `band_energies` are those of `BandEnergyNormalization`.
    """

    noise: Spectrum | None
    image: Spectrum
    band_energies: np.ndarray


def measure_spectra(volume_hu: np.ndarray, spacing_mm: Sequence[float]) -> VolumeSpectra:
    """Measure a volume `(X, Y, Z)` in HU; a volume of integers has the known rounding noise of 1/12 HU^2.

    Raises:
        ValueError: If shape or spacing is invalid, values are not finite, or the volume is constant.
    """
    volume = check_volume(volume_hu, "volume_hu")
    spacing = check_spacing(spacing_mm)
    if np.ptp(volume) == 0:
        raise ValueError("`volume_hu` must vary, got a constant volume; check the image.")
    rounded = bool((volume == np.rint(volume)).all())
    rounding = spacing[0] * spacing[1] / 12.0 if rounded else 0.0
    nyquist = 0.5 / max(spacing)
    patches = uniform_patches(volume, spacing)
    noise = None
    if len(patches.corners):
        frequency, power = noise_power_spectrum(volume, patches, spacing, corners=True)
        # Samples of a ring; window and overlap leave a quarter of them independent.
        samples = 2 * np.pi * frequency * RING_LP_MM * np.prod(np.multiply(patches.size, spacing)) / 4
        deviation = np.sqrt(1.0 / np.maximum(samples * len(patches.corners), 1.0) + NOISE_MODEL_SD**2)
        noise = Spectrum(frequency, power, deviation, rounding, nyquist)
    frequency, power = _image_power(volume, spacing)
    image = Spectrum(frequency, power, np.full(power.size, IMAGE_MODEL_SD), rounding, nyquist)
    return VolumeSpectra(noise, image, band_energies(volume, spacing_mm))


def _image_power(volume: np.ndarray, spacing: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the radial power spectrum [HU^2 mm^2] of whole slices, each minus its mean and under a Hann window."""
    window = np.outer(*(np.hanning(number + 2)[1:-1] for number in volume.shape[:2])).astype(np.float32)
    power = np.zeros(volume.shape[:2])
    for index in range(volume.shape[2]):
        image = np.clip(volume[:, :, index], LOWEST_HU, HIGHEST_HU)
        power += np.abs(fft.fft2(window * (image - np.average(image, weights=window)))) ** 2
    power *= spacing[0] * spacing[1] / (window**2).sum(dtype=np.float64) / volume.shape[2]
    frequency = np.hypot.outer(*(fft.fftfreq(number, step) for number, step in zip(volume.shape, spacing)))
    return ring_means(frequency, power, ring_lp_mm=RING_LP_MM)


class Amplitudes(NamedTuple):
    """Log K of each domain at the knots (a common factor is free), and the patients' scatter about the fit."""

    frequencies_lp_mm: np.ndarray
    log_amplitude: dict[str, np.ndarray]
    scatter: float


def fit_amplitudes(spectra: Mapping[str, Sequence[Spectrum]]) -> Amplitudes:
    """Explain the spectra of all domains' patients, who need not be the same, by one amplitude per domain.

    Patient p of domain d has the power

        P(f) = c_p exp(2 log K_d(f) + g(f)) + b_p + rounding

    with c_p the dose or contrast of the patient; g the spectrum that all patients share (anatomy, or the ramp of
    filtered back-projection); b_p a white floor (aliased noise); log K_d a polynomial in f^2 that is 0 at f = 0,
    because no kernel changes the mean. It is fitted to log P by robust least squares over all domains at once, so that
    H_ab = K_b / K_a is consistent: H_ab H_bc = H_ac.

    Args:
        spectra: Spectra of one sort (noise or image) of each domain's patients.

    Raises:
        ValueError: If there are fewer than two domains, or one has no spectrum.
    """
    empty = [domain for domain, items in spectra.items() if not items]
    if len(spectra) < 2 or empty:
        raise ValueError(
            f"`spectra` must hold at least 2 domains with a spectrum each, got {len(spectra)} domains, "
            f"none for {empty}; check the list `training`."
        )
    problem = _Problem(spectra)
    solution = optimize.least_squares(
        problem.residuals, problem.start(), jac=problem.jacobian, loss="soft_l1", max_nfev=200
    ).x
    knots = np.arange(round(HIGHEST_LP_MM / RING_LP_MM) * 2 + 1) * RING_LP_MM / 2
    # A polynomial says nothing beyond the frequencies it was fitted to.
    known = np.minimum(knots, max(item.nyquist for items in spectra.values() for item in items))
    coefficients = solution[: problem.amplitudes].reshape(-1, DEGREE)
    curves = {domain: _powers(known) @ own for domain, own in zip(spectra, coefficients)}
    return Amplitudes(knots, curves, problem.scatter(solution))


class _Problem:
    """Least-squares problem of `fit_amplitudes`; its parameters are log K's, g, log c_p and log b_p, in this order."""

    def __init__(self, spectra: Mapping[str, Sequence[Spectrum]]) -> None:
        patients = [(index, item) for index, items in enumerate(spectra.values()) for item in items]
        kept = [(item.frequency > 0.8 * RING_LP_MM) & (item.frequency < HIGHEST_LP_MM) for _, item in patients]
        sizes = [int(mask.sum()) for mask in kept]

        def join(values: list[np.ndarray]) -> np.ndarray:
            return np.concatenate([array[mask] for array, mask in zip(values, kept)])

        self.frequency = join([item.frequency for _, item in patients])
        self.log_power = np.log(np.maximum(join([item.power for _, item in patients]), 1e-12))
        self.sd = join([item.relative_sd for _, item in patients])
        self.rounding = np.repeat([item.rounding for _, item in patients], sizes)
        self.inside = self.frequency < np.repeat([item.nyquist for _, item in patients], sizes)
        self.patient = np.repeat(np.arange(len(patients)), sizes)
        domain = np.repeat([index for index, _ in patients], sizes)
        self.number, self.amplitudes = len(patients), DEGREE * len(spectra)
        own = np.eye(self.number)[self.patient]
        kernel = np.einsum("nd,nk->ndk", np.eye(len(spectra))[domain], _powers(self.frequency)).reshape(len(own), -1)
        self.rings = np.arange(1, round(HIGHEST_LP_MM / RING_LP_MM) + 1) * RING_LP_MM
        common = np.stack([np.interp(self.frequency, self.rings, row) for row in np.eye(self.rings.size)], axis=1)
        self.signal = np.hstack([2 * kernel, common, own, np.zeros_like(own)])
        self.floor = np.hstack([np.zeros((len(own), self.signal.shape[1] - self.number)), own])
        self.prior = self._prior()
        least = np.array([self.log_power[self.patient == index].min() for index in range(self.number)])
        self.expected = np.zeros(len(self.prior))
        self.expected[-self.number :] = (least + np.log(FLOOR_SHARE)) / FLOOR_SD

    def _prior(self) -> np.ndarray:
        """Return rows that keep the curvature of g, the mean dose, amplitudes and floors near `expected`."""
        rings, first = self.rings.size, self.amplitudes
        rows = np.zeros((rings - 2 + 1 + self.amplitudes + self.number, self.signal.shape[1]))
        rows[: rings - 2, first : first + rings] = np.diff(np.eye(rings), 2, axis=0) / CURVATURE_SD
        rows[rings - 2, first + rings : first + rings + self.number] = 10.0 / self.number
        rows[rings - 1 : rings - 1 + self.amplitudes, : self.amplitudes] = np.eye(self.amplitudes) / AMPLITUDE_SD
        rows[-self.number :, -self.number :] = np.eye(self.number) / FLOOR_SD
        return rows

    def start(self) -> np.ndarray:
        """Compute the linear least-squares fit to log P minus rounding, without floors."""
        kept = np.maximum(1.0 - self.rounding / np.exp(self.log_power), 0.02)
        rows = np.vstack([self.signal * (kept / self.sd)[:, None], self.prior])
        values = (self.log_power + np.log(kept)) * kept / self.sd
        return np.asarray(np.linalg.lstsq(rows, np.concatenate([values, self.expected]), rcond=None)[0])

    def _parts(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        signal = np.exp(np.clip(self.signal @ parameters, -40, 40))
        floor = np.exp(np.clip(self.floor @ parameters, -40, 40))
        return signal, floor, signal + floor + self.rounding

    def residuals(self, parameters: np.ndarray) -> np.ndarray:
        misfit = (np.log(self._parts(parameters)[2]) - self.log_power) / self.sd
        return np.concatenate([misfit, self.prior @ parameters - self.expected])

    def jacobian(self, parameters: np.ndarray) -> np.ndarray:
        signal, floor, total = self._parts(parameters)
        slope = (signal / total)[:, None] * self.signal + (floor / total)[:, None] * self.floor
        return np.vstack([slope / self.sd[:, None], self.prior])

    def scatter(self, parameters: np.ndarray) -> float:
        """Compute the root mean square of log P about the fit, below Nyquist."""
        misfit = (np.log(self._parts(parameters)[2]) - self.log_power)[self.inside]
        return float(np.sqrt((misfit**2).mean()))


def _powers(frequency: np.ndarray) -> np.ndarray:
    """Return (f / 0.5)^2, (f / 0.5)^4, ...: `(n, DEGREE)`."""
    return np.asarray(np.stack([(frequency / UNIT_LP_MM) ** (2 * power) for power in range(1, DEGREE + 1)], axis=1))
