"""Imaging of the lung phantom: a micro CT in grey values, and a clinical CT of the same tissue in HU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .fields import FloatArray, gaussian_random_field

AIR_HU, TISSUE_HU = -1000.0, 45.0  # of occupancy 0 and 1
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0
AIR_GREY, TISSUE_GREY = 9000.0, 26000.0  # of occupancy 0 and 1
HIGHEST_GREY = 65535.0
MICRO_BLUR_VOXELS, MICRO_NOISE_GREY, MICRO_NOISE_VOXELS = 0.55, 900.0, 0.7
PSF_VOXELS = 9 / 8  # full width at half maximum of the clinical scanner, in its own voxels
CLINICAL_NOISE_HU, CLINICAL_NOISE_VOXELS = 28.0, 0.55
FWHM_PER_SD = 2 * (2 * np.log(2)) ** 0.5


def micro_image(rng: np.random.Generator | None, occupancy: FloatArray) -> NDArray[np.uint16]:
    """Micro CT of a block: grey values without a unit, slightly blurred and noisy.

    Args:
        rng: source of the noise; None for an image without.
        occupancy: (slices, rows, columns), 0 for air, 1 for tissue.

    Returns:
        uint16 of the same shape; air is about 9000, tissue 26000.
    """
    grey = ndimage.gaussian_filter(AIR_GREY + (TISSUE_GREY - AIR_GREY) * occupancy, MICRO_BLUR_VOXELS)
    if rng is not None:
        grey += MICRO_NOISE_GREY * gaussian_random_field(rng, grey.shape, sigma=MICRO_NOISE_VOXELS)
    return np.rint(np.clip(grey, 0, HIGHEST_GREY)).astype(np.uint16)


def true_hu(occupancy: FloatArray) -> FloatArray:
    """HU of the tissue itself: -1000 for air, 45 for tissue of occupancy 1."""
    return np.asarray(AIR_HU + (TISSUE_HU - AIR_HU) * occupancy)


def clinical_image(rng: np.random.Generator | None, hu: FloatArray, *, factor: int) -> FloatArray:
    """Clinical CT of a block, in voxels ``factor`` times as large along all axes.

    The in-plane point spread (a Gaussian, 9/8 clinical voxels wide at half maximum; tissue is mirrored at the border),
    then means over blocks of ``factor`` voxels along all axes, so that the corners of both grids agree; then
    correlated noise.

    Args:
        rng: source of the noise; None for an image without.
        hu: (slices, rows, columns) in HU, all multiples of ``factor``.
        factor: of the voxel sizes.

    Returns:
        (slices, rows, columns) / ``factor`` in HU, -1024 to 3071.

    Example:
        >>> clinical_image(None, np.full((8, 16, 16), -850.0), factor=8).round(3).tolist()
        [[[-850.0, -850.0], [-850.0, -850.0]]]
    """
    sigma = PSF_VOXELS * factor / FWHM_PER_SD
    blurred = ndimage.gaussian_filter(hu, (0, sigma, sigma), mode="reflect")
    slices, rows, columns = (n // factor for n in hu.shape)
    image = blurred.reshape(slices, factor, rows, factor, columns, factor).mean(axis=(1, 3, 5))
    if rng is not None:
        sigmas = (0, CLINICAL_NOISE_VOXELS, CLINICAL_NOISE_VOXELS)
        image = image + CLINICAL_NOISE_HU * gaussian_random_field(rng, image.shape, sigma=sigmas)
    return np.asarray(np.clip(image, LOWEST_HU, HIGHEST_HU))


def coarser_affine(affine: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Affine of voxels ``factor`` times as large with the same outer corner.

    Example:
        >>> coarser_affine(np.eye(4), 8)[:3].tolist()
        [[8.0, 0.0, 0.0, 3.5], [0.0, 8.0, 0.0, 3.5], [0.0, 0.0, 8.0, 3.5]]
    """
    to_fine = np.diag([factor, factor, factor, 1.0])
    to_fine[:3, 3] = (factor - 1) / 2
    return affine @ to_fine
