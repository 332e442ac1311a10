"""Noise of CT images: regions where the object is uniform, standard deviation there, and power spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from monai.utils.module import optional_import

ndimage, _ = optional_import("scipy.ndimage")
fft, _ = optional_import("scipy.fft")

PATCH_MM = 15.0
SOFT_TISSUE_HU = (-150.0, 150.0)
# Gaussian that passes 17 % at 0.15 lp/mm and nothing above 0.3: reconstruction kernels hardly differ below.
LOW_PASS_MM = 2.0
# Low-passed SD about a plane. Noise alone leaves 1 to 3 HU, 5 HU where a sharp kernel aliases on large pixels.
STRUCTURE_HU = 4.0
LARGEST_STRUCTURE_HU = 8.0
# Patches count as uniform up to this multiple of the volume's most uniform one, which contains little besides noise.
STRUCTURE_FACTOR = 1.5
RING_LP_MM = 0.05


class UniformPatches(NamedTuple):
    """Patches of equal size: `corners` `(n, 3)` (first voxel along X, Y and Z), `size` in pixels (X, Y).

    `structure` `(n,)` is the low-passed SD in HU, ascending: the structure besides noise.
    """

    corners: np.ndarray
    size: tuple[int, int]
    structure: np.ndarray


def uniform_patches(
    volume_hu: np.ndarray,
    spacing_mm: Sequence[float],
    *,
    size_mm: float = PATCH_MM,
    window_hu: tuple[float, float] = SOFT_TISSUE_HU,
    structure_hu: float = STRUCTURE_HU,
) -> UniformPatches:
    """Find patches of uniform soft tissue, independently of reconstruction kernel and noise.

    Uniformity is judged on the slice after a Gaussian of 2 mm, which removes the differences between kernels: its
    values stay inside `window_hu`, and its SD about a plane is at most `structure_hu`; where noise alone exceeds that,
    at most 1.5 times the volume's least SD and 8 HU. Patches overlap by half a side.

    Args:
        volume_hu: CT volume `(X, Y, Z)` in HU, Z the axial slice axis.
        spacing_mm: Voxel size along X, Y (and Z), in mm.
        size_mm: Side of a patch.
        window_hu: Lowest and highest value.
        structure_hu: SD of the smoothed patch that is always accepted.

    Returns:
        The patches, the most uniform first; none where there is no uniform soft tissue of that size.

    Raises:
        ValueError: If the shape is wrong, values are not finite, or spacing or size is not positive.

    Example:
        >>> volume = np.full((80, 80, 1), -1000.0); volume[20:60, 20:60] = 40.0
        >>> patches = uniform_patches(volume, (1.0, 1.0, 1.0))
        >>> len(patches.corners), patches.corners[0].tolist(), patches.size
        (4, [28, 28, 0], (15, 15))
    """
    volume = check_volume(volume_hu, "volume_hu")
    spacing = check_spacing(spacing_mm)
    if not size_mm > 0:
        raise ValueError(f"`size_mm` must be positive, got {size_mm}; try {PATCH_MM:g}.")
    size = (max(round(size_mm / spacing[0]), 4), max(round(size_mm / spacing[1]), 4))
    found = [_slice_patches(volume[:, :, index], spacing, size, window_hu) for index in range(volume.shape[2])]
    corners = np.concatenate([np.insert(places, 2, index, axis=1) for index, (places, _) in enumerate(found)])
    structure = np.concatenate([values for _, values in found])
    order = np.argsort(structure, kind="stable")
    least = float(structure[order[0]]) if structure.size else 0.0
    number = int((structure <= max(structure_hu, min(STRUCTURE_FACTOR * least, LARGEST_STRUCTURE_HU))).sum())
    return UniformPatches(corners[order[:number]], size, structure[order[:number]])


def noise_power_spectrum(
    volume_hu: np.ndarray,
    patches: UniformPatches,
    spacing_mm: Sequence[float],
    *,
    ring_lp_mm: float = RING_LP_MM,
    corners: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the radial noise power spectrum of uniform patches, each minus its plane and under a Hann window.

    NPS(f) = dx dy / sum w^2 mean |FFT(w (patch - plane))|^2, averaged over the frequencies of a ring (ICRU Report 87,
    2012, section 4). Its integral over the plane of frequencies is the variance: white noise has sigma^2 dx dy.

    Args:
        volume_hu: CT volume `(X, Y, Z)` in HU.
        patches: Patches from `uniform_patches`, possibly of another volume on the same grid.
        spacing_mm: Voxel size along X, Y (and Z), in mm.
        ring_lp_mm: Width of a ring.
        corners: Whether to continue beyond the Nyquist frequency into the corners of the spectrum.

    Returns:
        Mean frequency of each ring [lp/mm] and power [HU^2 mm^2]; the ring around 0 is omitted, since it is detrended.

    Raises:
        ValueError: If there are no patches, or shape or spacing is invalid.
    """
    volume = check_volume(volume_hu, "volume_hu")
    spacing = check_spacing(spacing_mm)
    if len(patches.corners) == 0:
        raise ValueError("`patches` must hold at least one patch, got none; the volume has no uniform soft tissue.")
    window = np.outer(*(np.hanning(number + 2)[1:-1] for number in patches.size))
    power = np.zeros(patches.size)
    for x, y, z in patches.corners:
        patch = volume[x : x + patches.size[0], y : y + patches.size[1], z]
        power += np.abs(fft.fft2(window * _without_plane(patch))) ** 2
    power *= spacing[0] * spacing[1] / (window**2).sum() / len(patches.corners)
    frequency = np.hypot.outer(*(fft.fftfreq(number, step) for number, step in zip(patches.size, spacing)))
    limit = np.inf if corners else 0.5 / max(spacing)
    return ring_means(frequency, power, ring_lp_mm=ring_lp_mm, limit=limit)


def noise_sd(volume_hu: np.ndarray, mask: np.ndarray) -> float:
    """Compute the standard deviation [HU] inside a mask `(X, Y, Z)` about the mean of each slice.

    Raises:
        ValueError: If the shapes differ, or the mask has no slice of two voxels.

    Example:
        >>> noise_sd(np.array([[[1.0, 7.0], [3.0, 7.0]]]), np.ones((1, 2, 2), dtype=bool))
        1.0
    """
    volume = check_volume(volume_hu, "volume_hu")
    if mask.shape != volume.shape:
        raise ValueError(f"`mask` must have the shape of `volume_hu` {volume.shape}, got {mask.shape}.")
    slices = [volume[:, :, index][mask[:, :, index].astype(bool)] for index in range(volume.shape[2])]
    slices = [values for values in slices if values.size > 1]
    if not slices:
        raise ValueError("`mask` must hold at least 2 voxels of one slice, got fewer; no noise can be measured.")
    freedom = sum(values.size - 1 for values in slices)
    return float(np.sqrt(sum(((values - values.mean()) ** 2).sum() for values in slices) / freedom))


def ring_means(
    frequency: np.ndarray, values: np.ndarray, *, ring_lp_mm: float, limit: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Average frequency and value over each ring that has samples, from half a ring up to `limit`."""
    ring = np.rint(frequency / ring_lp_mm).astype(int)
    ring[frequency > limit] = 0
    counts = np.bincount(ring.ravel())
    means = [np.bincount(ring.ravel(), weights=array.ravel()) for array in (frequency, values)]
    filled = np.flatnonzero(counts[1:]) + 1
    return means[0][filled] / counts[filled], means[1][filled] / counts[filled]


def check_volume(volume: np.ndarray, name: str) -> np.ndarray:
    """Return a finite floating-point volume `(X, Y, Z)`, or raise a ValueError that names the argument."""
    volume = np.asarray(volume)
    if volume.ndim != 3:
        raise ValueError(f"`{name}` must have 3 dimensions (X, Y, Z), got shape {volume.shape}; drop the channel axis.")
    volume = volume.astype(np.float32 if volume.dtype != np.float64 else np.float64, copy=False)
    if not np.isfinite(volume).all():
        raise ValueError(f"`{name}` must be finite, got {int((~np.isfinite(volume)).sum())} NaN or infinite voxels.")
    return volume


def check_spacing(spacing_mm: Sequence[float]) -> tuple[float, float]:
    """Return the in-plane voxel size in mm, or raise a ValueError."""
    spacing = [float(value) for value in spacing_mm]
    if len(spacing) not in (2, 3) or not all(np.isfinite(value) and value > 0 for value in spacing):
        raise ValueError(f"`spacing_mm` must be 2 or 3 positive numbers in mm, got {list(spacing_mm)}.")
    return spacing[0], spacing[1]


def _slice_patches(
    image: np.ndarray, spacing: tuple[float, float], size: tuple[int, int], window: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Find corners `(n, 2)` and structure `(n,)` of a slice's patches inside the window, on a grid of half patches."""
    smooth = ndimage.gaussian_filter(np.clip(image, -1024, 3071), [LOW_PASS_MM / step for step in spacing])
    tissue = (smooth > window[0]) & (smooth < window[1])
    places, values = [], []
    for x in range(size[0] // 2, image.shape[0] - size[0] - size[0] // 2 + 1, size[0] // 2):
        for y in range(size[1] // 2, image.shape[1] - size[1] - size[1] // 2 + 1, size[1] // 2):
            part = slice(x, x + size[0]), slice(y, y + size[1])
            if tissue[part].all():
                places.append((x, y))
                values.append(float(_without_plane(smooth[part]).std()))
    return np.array(places, dtype=np.intp).reshape(-1, 2), np.array(values)


def _without_plane(patch: np.ndarray) -> np.ndarray:
    """Subtract the patch's least-squares plane (the axes of a full grid are orthogonal)."""
    result = patch - patch.mean(dtype=np.float64)
    for axis, number in enumerate(patch.shape):
        ramp = (np.arange(number) - (number - 1) / 2).reshape((-1, 1) if axis == 0 else (1, -1))
        result = result - ramp * ((result * ramp).sum() / ((ramp**2).sum() * patch.size / number))
    return np.asarray(result)
