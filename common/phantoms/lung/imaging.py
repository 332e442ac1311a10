"""The patient of the lung phantom, and its images: micro CT in grey values and clinical CT of the same tissue in HU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..dataset import spread_evenly
from ..fields import FloatArray, gaussian_random_field

AIR_HU, TISSUE_HU = -1000.0, 45.0  # occupancy 0 and 1
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0
AIR_GREY, TISSUE_GREY = 9000.0, 26000.0  # occupancy 0 and 1
HIGHEST_GREY = 65535.0
MICRO_BLUR_VOXELS, MICRO_NOISE_GREY, MICRO_NOISE_VOXELS = 0.55, 900.0, 0.7
PSF_VOXELS = 9 / 8  # full width at half maximum of the clinical scanner, in its own voxels
CLINICAL_NOISE_HU, CLINICAL_NOISE_VOXELS = 28.0, 0.55
FWHM_PER_SD = 2 * (2 * np.log(2)) ** 0.5

# Patients.
SEPTUM_MM = (0.03, 0.07)  # range of half the thickness of septa
TUMOUR_SHARE, EMPHYSEMA_SHARE = 0.4, 0.4  # fractions of patients
EMPHYSEMA_STEP = 1 / np.pi  # unlike the golden ratio, so that either disease also occurs without the other
LARGEST_TUMOUR_FIELD_MM = 20.0  # a tumour grows with the field of view up to this


def micro_image(rng: np.random.Generator | None, occupancy: FloatArray) -> NDArray[np.uint16]:
    """Simulate the micro CT of a block: grey values without a unit, slightly blurred and noisy.

    Args:
        rng: Source of the noise; None for a noise-free image.
        occupancy: Occupancy (slices, rows, columns), 0 for air, 1 for tissue.

    Returns:
        Grey values of the same shape, uint16; air is about 9000, tissue 26000.
    """
    grey = ndimage.gaussian_filter(AIR_GREY + (TISSUE_GREY - AIR_GREY) * occupancy, MICRO_BLUR_VOXELS)
    if rng is not None:
        grey += MICRO_NOISE_GREY * gaussian_random_field(rng, grey.shape, sigma=MICRO_NOISE_VOXELS)
    return np.rint(np.clip(grey, 0, HIGHEST_GREY)).astype(np.uint16)


def true_hu(occupancy: FloatArray) -> FloatArray:
    """Return the HU of the tissue itself: -1000 for air, 45 for tissue of occupancy 1."""
    return np.asarray(AIR_HU + (TISSUE_HU - AIR_HU) * occupancy)


@dataclass(frozen=True)
class Scanner:
    """Clinical scanner of the lung phantom.

    Attributes:
        psf_voxels: Full width at half maximum of its in-plane point spread, in clinical voxels.
        sharpening: Weight of what its kernel adds: the difference from an image of twice that width.
        noise_hu: Standard deviation of its noise.
        noise_voxels: Filter width of its noise, in clinical voxels.
    """

    psf_voxels: float = PSF_VOXELS
    sharpening: float = 0.0
    noise_hu: float = CLINICAL_NOISE_HU
    noise_voxels: float = CLINICAL_NOISE_VOXELS


def clinical_image(
    rng: np.random.Generator | None, hu: FloatArray, *, factor: int, scanner: Scanner | None = None
) -> FloatArray:
    """Simulate the clinical CT of a block, with voxels `factor` times as large along all axes.

    The steps are the in-plane point spread (a Gaussian, 9/8 clinical voxels wide at half maximum, with tissue mirrored
    at the border), means over blocks of `factor` voxels along all axes, so that the corners of both grids agree, and
    correlated noise.

    Args:
        rng: Source of the noise; None for a noise-free image.
        hu: Block (slices, rows, columns) in HU, all multiples of `factor`.
        factor: Ratio of the voxel sizes.
        scanner: Point spread, kernel and noise; by default those above without sharpening.

    Returns:
        Image (slices, rows, columns) / `factor` in HU, -1024 to 3071.

    Example:
        >>> clinical_image(None, np.full((8, 16, 16), -850.0), factor=8).round(3).tolist()
        [[[-850.0, -850.0], [-850.0, -850.0]]]
    """
    scanner = scanner or Scanner()
    sigma = scanner.psf_voxels * factor / FWHM_PER_SD
    blurred = ndimage.gaussian_filter(hu, (0, sigma, sigma), mode="reflect")
    if scanner.sharpening:
        wider = ndimage.gaussian_filter(hu, (0, 2 * sigma, 2 * sigma), mode="reflect")
        blurred += scanner.sharpening * (blurred - wider)
    slices, rows, columns = (n // factor for n in hu.shape)
    image = blurred.reshape(slices, factor, rows, factor, columns, factor).mean(axis=(1, 3, 5))
    if rng is not None:
        sigmas = (0, scanner.noise_voxels, scanner.noise_voxels)
        image = image + scanner.noise_hu * gaussian_random_field(rng, image.shape, sigma=sigmas)
    return np.asarray(np.clip(image, LOWEST_HU, HIGHEST_HU))


def coarser_affine(affine: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Return the affine of voxels `factor` times as large with the same outer corner.

    Example:
        >>> coarser_affine(np.eye(4), 8)[:3].tolist()
        [[8.0, 0.0, 0.0, 3.5], [0.0, 8.0, 0.0, 3.5], [0.0, 0.0, 8.0, 3.5]]
    """
    to_fine = np.diag([factor, factor, factor, 1.0])
    to_fine[:3, 3] = (factor - 1) / 2
    return affine @ to_fine


@dataclass(frozen=True)
class LungSubject:
    """One patient of the lung phantom.

    Attributes:
        cell_mm: Diameter of the alveoli (0.2 mm in M. Ochs et al., "The Number of Alveoli in the Human Lung", AJRCCM
            169(1), 2004, 120-124; larger here, so that a micro voxel of 0.078 mm resolves them).
        wall_mm: Half the thickness of an alveolar wall with its capillaries.
        septum_mm: Half the thickness of the septa between lobules.
        emphysema: Fraction of the volume in which most alveolar walls are destroyed; 0 in health.
        tumour_share: Radius of the tumour as a fraction of the field of view; None without one.
    """

    cell_mm: float
    wall_mm: float
    septum_mm: float
    emphysema: float
    tumour_share: float | None

    @classmethod
    def draw(
        cls, rng: np.random.Generator, *, tumour: bool, emphysema: bool, septum_mm: tuple[float, float] = SEPTUM_MM
    ) -> LungSubject:
        """Draw a patient, using the same number of random values whatever the diseases; `septum_mm` is a range."""
        cell, wall, septum = rng.uniform(0.26, 0.36), rng.uniform(0.009, 0.013), rng.uniform(*septum_mm)
        destroyed, radius = rng.uniform(0.1, 0.5), rng.uniform(0.18, 0.34)
        return cls(
            cell_mm=cell,
            wall_mm=wall,
            septum_mm=septum,
            emphysema=destroyed if emphysema else 0.0,
            tumour_share=radius if tumour else None,
        )

    def tumour_radius_mm(self, field_mm: float) -> float:
        """Return the radius of the tumour in a field of view of that width, 0 without a tumour."""
        return (self.tumour_share or 0.0) * min(field_mm, LARGEST_TUMOUR_FIELD_MM)


def has_tumour(patient: int, *, seed: int, task: int) -> bool:
    """Return whether a patient has a tumour: 40 % do, and of three neighbours at least one but never all."""
    return spread_evenly(patient, seed=seed, task=task) % 1 < TUMOUR_SHARE


def has_emphysema(patient: int, *, seed: int, task: int) -> bool:
    """Return whether a patient has emphysema: 40 % do, and of three neighbours at least one but never all."""
    return spread_evenly(patient, seed=seed, task=task, step=EMPHYSEMA_STEP, index=1) % 1 < EMPHYSEMA_SHARE
