"""Parallel-beam CT of a pixel image, from projection to reconstruction with kernels from smooth to sharp.

Projection and filtered back-projection are non-uniform Fourier transforms. A reconstruction kernel is a modulation
transfer function, from smooth (B30f) to sharp (B70f).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import NamedTuple

import finufft
import numpy as np
from numpy.typing import ArrayLike
from scipy import fft, optimize

from .fields import FloatArray

MU_WATER = 0.0193  # attenuation of water in 1/mm at about 70 keV
SAMPLES_PER_PIXEL = 2  # detector samples: a sharp kernel then aliases in the image, as on a scanner
APERTURE_MM = 0.6  # width of a detector element
SMALLEST_APERTURE_GAIN = 0.2  # below it the loss due to the aperture is not restored
ELECTRONIC_NOISE = 10.0  # SD in photons of a reference element
REFERENCE_ELEMENT_MM = 0.684  # the dose is the number of photons on this width of detector ...
REFERENCE_VIEWS = 720  # ... in one of this many views over 180 degrees
LEAST_PHOTONS, LITTLE_ATTENUATION = 40.0, 0.5  # of the exposure control; a line integral through little but air
ACCURACY = 1e-5  # relative accuracy of the Fourier transforms
MM_PER_CM = 10.0


@dataclass(frozen=True)
class ParallelBeamScanner:
    """Scanner that projects slices of an object and reconstructs a field of view that may be smaller or larger.

    Object and image share their pixel size and the position of pixel (n // 2, n // 2), the centre of rotation. The
    projection is the central slice of the Fourier transform of the band-limited object. The reconstruction is its
    adjoint after multiplication by the spectrum of the band-limited ramp filter (G. N. Ramachandran, A. V.
    Lakshminarayanan, PNAS 68(9), 1971, 2236-2240): uniform water is exact to 0.01 HU.

    Attributes:
        object_shape: Rows and columns of the object, even.
        image_size: Rows and columns of the image, even.
        pixel_mm: Pixel size in mm.
        views: Number of projections over 180 degrees.

    Example:
        >>> scanner = ParallelBeamScanner((64, 64), image_size=32, pixel_mm=4.0, views=90)
        >>> water = np.zeros((1, 64, 64))
        >>> water[:, 8:-8, 8:-8] = MU_WATER
        >>> image = scanner.reconstruct(scanner.project(water), lambda frequency: np.ones_like(frequency))
        >>> image.shape, round(float(image[0, 8:-8, 8:-8].mean() / MU_WATER), 3)
        ((1, 32, 32), 1.0)
    """

    object_shape: tuple[int, int]
    image_size: int
    pixel_mm: float
    views: int = REFERENCE_VIEWS

    def __post_init__(self) -> None:
        for name, size in (("object_shape", min(self.object_shape)), ("image_size", self.image_size)):
            if size < 2:
                raise ValueError(f"`{name}` must be >= 2 pixels, got {size}.")
        if any(size % 2 for size in (*self.object_shape, self.image_size)):
            sizes = (*self.object_shape, self.image_size)
            raise ValueError(f"`object_shape` and `image_size` must be even, got {sizes}.")
        if self.pixel_mm <= 0:
            raise ValueError(f"`pixel_mm` must be > 0, got {self.pixel_mm}.")
        if self.views < 1:
            raise ValueError(f"`views` must be >= 1, got {self.views}.")

    @property
    def sample_mm(self) -> float:
        """Distance between detector samples in mm."""
        return self.pixel_mm / SAMPLES_PER_PIXEL

    @property
    def detector_samples(self) -> int:
        """Number of samples per view; they cover the object's diagonal."""
        return 2 * int(np.ceil(np.hypot(*self.object_shape) * SAMPLES_PER_PIXEL / 2)) + 2

    @property
    def angles_rad(self) -> FloatArray:
        """Angles (views,) of the detector axis in radians, from x (columns) towards y (rows)."""
        return np.pi * (np.arange(self.views) + 0.5) / self.views

    @cached_property
    def _period(self) -> int:
        """Samples of a zero-padded view: the ramp filter must not wrap around from object to image."""
        reach = (np.hypot(*self.object_shape) + np.hypot(self.image_size, self.image_size)) * SAMPLES_PER_PIXEL
        length = int(np.ceil(max(reach, self.detector_samples)))
        return 2 * int(fft.next_fast_len((length + 1) // 2, real=True))

    @cached_property
    def _frequency(self) -> FloatArray:
        """Radial frequencies in 1/mm of a padded view's one-sided spectrum."""
        return np.asarray(fft.rfftfreq(self._period, self.sample_mm))

    @cached_property
    def _points(self) -> tuple[FloatArray, FloatArray]:
        """Frequencies along y and x of all views, (views, frequencies), in radians per pixel."""
        radial = 2 * np.pi * self.pixel_mm * self._frequency
        angles = self.angles_rad[:, None]
        return (radial * np.sin(angles)).astype(np.float32), (radial * np.cos(angles)).astype(np.float32)

    @property
    def _aperture_gain(self) -> FloatArray:
        return np.sinc(self._frequency * APERTURE_MM)

    def project(self, attenuation: FloatArray) -> FloatArray:
        """Compute line integrals of an object, blurred by the detector.

        Args:
            attenuation: Slices (S, rows, columns) in 1/mm.

        Returns:
            Line integrals (S, views, detector_samples).

        Raises:
            ValueError: The slices do not have the shape `object_shape`.
        """
        if attenuation.ndim != 3 or attenuation.shape[1:] != self.object_shape:
            raise ValueError(f"`attenuation` must have shape (S, {self.object_shape}), got {attenuation.shape}.")
        y, x = self._points
        in_band = (np.abs(y) <= np.pi) & (np.abs(x) <= np.pi)
        spectrum = np.zeros((len(attenuation), *y.shape), dtype=np.complex64)
        spectrum[:, in_band] = finufft.nufft2d2(
            y[in_band], x[in_band], attenuation.astype(np.complex64), eps=ACCURACY, isign=-1, nthreads=1
        )
        spectrum *= (self._aperture_gain * self.pixel_mm**2 / self.sample_mm).astype(np.float32)
        views = fft.fftshift(fft.irfft(spectrum, self._period), axes=-1)
        margin = (self._period - self.detector_samples) // 2
        return np.asarray(views[..., margin : margin + self.detector_samples])

    @property
    def _dose_share(self) -> float:
        """Photons of a detector sample relative to those of a reference element."""
        return self.sample_mm / REFERENCE_ELEMENT_MM * REFERENCE_VIEWS / self.views

    def noise_sd(self, transmission: FloatArray, *, photons: float) -> FloatArray:
        """Compute the SD of a line integral's noise as `add_noise` adds it, to first order.

        Args:
            transmission: Fraction of the photons that reach the detector, above 0, of any shape.
            photons: Dose, see `add_noise`.

        Returns:
            SD of the same shape.
        """
        counts = photons * self._dose_share * transmission
        return np.asarray(np.sqrt(counts + ELECTRONIC_NOISE**2 * self._dose_share) / counts)

    def add_noise(self, rng: np.random.Generator, line_integrals: FloatArray, *, photons: float) -> FloatArray:
        """Add Poisson noise of the photons and Gaussian noise of the electronics to line integrals.

        Args:
            rng: Source of the noise.
            line_integrals: Noise-free line integrals of any shape.
            photons: Number of unattenuated photons per `REFERENCE_ELEMENT_MM` of the detector in one of
                `REFERENCE_VIEWS` views: the dose does not depend on pixel size and number of views.

        Returns:
            Line integrals as measured, float32.

        Raises:
            ValueError: `photons` is not positive.
        """
        if photons <= 0:
            raise ValueError(f"`photons` must be > 0, got {photons}.")
        share = self._dose_share
        expected = photons * share * np.exp(-line_integrals.astype(np.float64))
        counts = rng.poisson(expected) + rng.normal(0, ELECTRONIC_NOISE * np.sqrt(share), expected.shape)
        return np.asarray(-np.log(np.maximum(counts, 1.0) / (photons * share)), dtype=np.float32)

    def reconstruct(self, line_integrals: FloatArray, modulation: Callable[[FloatArray], FloatArray]) -> FloatArray:
        """Reconstruct an image by filtered back-projection.

        Args:
            line_integrals: Line integrals (S, views, detector_samples).
            modulation: Transfer function of the whole system at frequencies in 1/mm; the blur of the detector is undone
                first.

        Returns:
            Attenuation (S, image_size, image_size) in 1/mm, float32.

        Raises:
            ValueError: The line integrals do not match the scanner's views and samples.
        """
        expected = (self.views, self.detector_samples)
        if line_integrals.ndim != 3 or line_integrals.shape[1:] != expected:
            raise ValueError(f"`line_integrals` must have shape (S, {expected}), got {line_integrals.shape}.")
        gain = modulation(self._frequency) / np.maximum(self._aperture_gain, SMALLEST_APERTURE_GAIN)
        weights = self._ramp() * gain * 2 * np.pi / (self.views * self._period)
        # Views start at the detector's left end; the phase puts the centre of rotation at position 0.
        shift = np.exp(2j * np.pi * self._frequency * self.sample_mm * (self.detector_samples // 2))
        spectrum = fft.rfft(line_integrals, self._period) * (weights * shift).astype(np.complex64)
        y, x = (points.ravel() for points in self._points)
        image = finufft.nufft2d1(
            y,
            x,
            spectrum.reshape(len(spectrum), -1).astype(np.complex64),
            (self.image_size, self.image_size),
            eps=ACCURACY,
            isign=1,
            nthreads=1,
        )
        return np.asarray(image.real.reshape(-1, self.image_size, self.image_size), dtype=np.float32)

    def _ramp(self) -> FloatArray:
        """Compute the one-sided spectrum in 1/mm of the band-limited ramp filter.

        It is the transform of the sampled impulse response: |f| itself would offset and cup the image. Frequency 0 and
        the Nyquist frequency occur once in the two-sided spectrum, all others twice, and the factor 2 is applied
        elsewhere.
        """
        sample = np.arange(self._period)
        distance = np.minimum(sample, self._period - sample)
        response = np.where(distance % 2 == 1, -1 / (np.pi * np.maximum(distance, 1)) ** 2, 0)
        response[0] = 1 / 4
        ramp = fft.rfft(response).real / self.sample_mm
        ramp[[0, -1]] /= 2
        return np.asarray(ramp)


def controlled_photons(line_integrals: FloatArray, photons: float, *, largest: float) -> float:
    """Raise a dose to what an exposure control would not fall below, so that some photons arrive behind dense parts.

    Args:
        line_integrals: Line integrals without noise, of any shape; not all through air.
        photons: Dose, see `ParallelBeamScanner.add_noise`.
        largest: Largest dose of the scanner.

    Returns:
        Dose at which `LEAST_PHOTONS` arrive on a reference element behind all but the most attenuating hundredth of the
        rays through the object, or `largest` if that is less; `photons` if that is more.
    """
    densest = float(np.percentile(line_integrals[line_integrals > LITTLE_ATTENUATION], 99))
    return max(photons, min(LEAST_PHOTONS * float(np.exp(densest)), largest))


class Kernel(NamedTuple):
    """Resolution of a reconstruction kernel.

    Attributes:
        mtf50: Frequency in lp/cm at which the modulation has fallen to 50 %.
        mtf10: Frequency in lp/cm at which the modulation has fallen to 10 %.
        overshoot: Strength a of the edge enhancement; 0 means none, above 1 the modulation exceeds 1.
    """

    mtf50: float
    mtf10: float
    overshoot: float


KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "B30f": Kernel(3.5, 6.0, 0.0),  # soft tissue
        "B50f": Kernel(5.5, 8.5, 0.9),  # medium sharp
        "B70f": Kernel(8.5, 12.0, 2.5),  # lung and bone
    }
)


def modulation(kernel: str, frequency_lp_per_mm: ArrayLike) -> FloatArray:
    """Evaluate the modulation transfer function T(f) = (1 + a (f / f0)^2) exp(-(f / f0)^n) of a kernel.

    f0 and n are solved from the frequencies at which T is 50 % and 10 %, so that the curve is a function of lp/mm: the
    effect of a kernel on an image depends on its pixel size. (B70f has n = 1.55, hence a small cusp at frequency 0 and
    a point spread with a weak long tail: it lowers large uniform regions by about 0.5 HU per 1000 HU of contrast.)

    Args:
        kernel: One of `KERNELS`.
        frequency_lp_per_mm: Frequencies in line pairs per millimetre, >= 0, of any shape.

    Returns:
        Modulation of the same shape; 1 at frequency 0.

    Raises:
        ValueError: The kernel is unknown.

    Example:
        >>> modulation("B30f", [0.0, 0.35, 0.6]).round(3).tolist()
        [1.0, 0.5, 0.1]
    """
    if kernel not in KERNELS:
        raise ValueError(f"`kernel` must be one of {', '.join(map(repr, KERNELS))}, got {kernel!r}.")
    return kernel_curve(KERNELS[kernel], frequency_lp_per_mm)


def kernel_curve(kernel: Kernel, frequency_lp_per_mm: ArrayLike) -> FloatArray:
    """Evaluate the modulation transfer function of any kernel as `modulation` does."""
    frequency = MM_PER_CM * np.asarray(frequency_lp_per_mm, dtype=np.float64)
    return _curve(frequency, _shape(kernel), kernel.overshoot)


@cache
def _shape(kernel: Kernel) -> tuple[float, float]:
    """Solve f0 in lp/cm and n of a kernel."""
    mtf50, mtf10, overshoot = kernel
    frequencies = np.array([mtf50, mtf10])

    def excess(shape: FloatArray) -> FloatArray:
        return _curve(frequencies, shape, overshoot) - np.array([0.5, 0.1])

    solution = optimize.root(excess, x0=[mtf50, 2.5], tol=1e-12)
    return float(solution.x[0]), float(solution.x[1])


def _curve(frequency: FloatArray, shape: FloatArray | tuple[float, float], overshoot: float) -> FloatArray:
    relative = frequency / shape[0]
    return np.asarray((1 + overshoot * relative**2) * np.exp(-(relative ** shape[1])))
