"""Sharpness of CT images: the transfer curve of their large edges, oversampled below the pixel size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from monai.utils.module import optional_import

from .noise import check_spacing, check_volume

ndimage, _ = optional_import("scipy.ndimage")
measure, _ = optional_import("skimage.measure")
KDTree, _ = optional_import("scipy.spatial", name="cKDTree")

# Between air or lung and soft tissue.
LEVEL_HU = -500.0
# Smoothing of the reference in which edges are located: noise then shifts them by hundredths of a millimetre.
SMOOTHING_MM = 1.5
# Reach of profiles to both sides, in steps of a quarter of a pixel.
REACH_MM = 6.0
OVERSAMPLING = 4
# Edges are straight enough if the normal turns less than this over REACH_MM, a radius of curvature of 20 mm.
LARGEST_TURN_RAD = 0.3
# Smoothed HU at the profile's ends: below the first on one side, above the second on the other.
DARK_HU, BRIGHT_HU = -650.0, -300.0
LEAST_PIXELS = 2000
FREQUENCY_STEP_LP_MM = 0.05


class EdgePixels(NamedTuple):
    """Pixels near edges: flat `voxels` of the volume, and signed `distance_mm` to the edge (bright side positive)."""

    voxels: np.ndarray
    distance_mm: np.ndarray


def edge_pixels(reference_hu: np.ndarray, spacing_mm: Sequence[float]) -> EdgePixels:
    """Find the pixels for `curve_at`; none where there is no such edge.

    Raises:
        ValueError: If shape or spacing is invalid.
    """
    reference = check_volume(reference_hu, "reference_hu")
    spacing = np.array(check_spacing(spacing_mm))
    indices, distances = [np.empty(0, dtype=np.intp)], [np.empty(0)]
    for position in range(reference.shape[2]):
        places, distance = _slice_pixels(reference[:, :, position], spacing)
        indices.append(np.ravel_multi_index((*places.T, np.full(len(places), position)), reference.shape))
        distances.append(distance)
    return EdgePixels(np.concatenate(indices), np.concatenate(distances))


def curve_at(volume_hu: np.ndarray, pixels: EdgePixels, spacing_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the transfer curve of the edges of a volume at given pixels: like an MTF, up to Nyquist.

    The pixels, sorted by their distance to the edge, form one oversampled edge profile (the slanted-edge method, ISO
    12233, on curved edges) under a cosine-squared window; the curve is the modulus of the Fourier transform of its
    derivative, 1 at f = 0. The anatomical edge is not an ideal step, and the window lifts steep curves by up to 0.03:
    compare curves of images of one patient at the same pixels.

    Args:
        volume_hu: CT volume `(X, Y, Z)` in HU, Z the axial slice axis.
        pixels: Result of `edge_pixels` for a volume on the same grid, such as the target image or the true HU.
        spacing_mm: Voxel size along X, Y (and Z), in mm.

    Returns:
        Frequencies [lp/mm] from 0 in steps of 0.05 up to Nyquist, and the curve.

    Raises:
        ValueError: If the pixels do not cover the profile, or the volume has no edge there.
    """
    spacing = check_spacing(spacing_mm)
    step = min(spacing) / OVERSAMPLING
    half = int(REACH_MM / step)
    bins = np.rint(pixels.distance_mm / step).astype(int) + half
    inside = (bins >= 0) & (bins <= 2 * half)
    values = check_volume(volume_hu, "volume_hu").reshape(-1)[pixels.voxels[inside]]
    counts = np.bincount(bins[inside], minlength=2 * half + 1)
    if counts.min() == 0:
        raise ValueError("`pixels` must cover the whole profile, got gaps; the edges are too few.")
    profile = np.bincount(bins[inside], values, minlength=2 * half + 1) / counts
    spread = np.diff(profile)
    positions = (np.arange(2 * half) + 0.5 - half) * step
    spread = spread * np.cos(np.pi * positions / (2 * half * step)) ** 2
    if not spread.sum() > 0:
        raise ValueError("`volume_hu` must rise from air or lung to soft tissue at the edges, got no rise.")
    frequencies = np.arange(int(0.5 / max(spacing) / FREQUENCY_STEP_LP_MM + 1e-9) + 1) * FREQUENCY_STEP_LP_MM
    transform = np.abs(np.exp(-2j * np.pi * np.outer(frequencies, positions)) @ spread) / spread.sum()
    # Averaging over a bin and differencing of bins each multiply by a sinc.
    return frequencies, np.asarray(transform / np.sinc(frequencies * step) ** 2)


def _slice_pixels(image: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the pixels `(n, 2)` of a slice within reach of an edge, and their signed distances [mm]."""
    smooth = ndimage.gaussian_filter(np.clip(image, -1024, 3071), SMOOTHING_MM / spacing)
    points, normals = _edge_points(smooth, spacing)
    if len(points) == 0:
        return np.empty((0, 2), dtype=np.intp), np.empty(0)
    near = np.zeros(image.shape, dtype=bool)
    near[tuple(np.clip(np.rint(points / spacing).astype(int), 0, np.array(image.shape) - 1).T)] = True
    size = [2 * int(np.ceil((REACH_MM + 1.0) / step)) + 1 for step in spacing]
    places = np.argwhere(ndimage.maximum_filter(near, size=size))
    _, nearest = KDTree(points).query(places * spacing)
    offset = places * spacing - points[nearest]
    along = (offset * normals[nearest]).sum(axis=1)
    sideways = np.abs(offset[:, 0] * normals[nearest, 1] - offset[:, 1] * normals[nearest, 0])
    # A pixel far to the side of its nearest point lies beyond the end of an edge.
    kept = (sideways < 1.0) & (np.abs(along) < REACH_MM + 1.0)
    return places[kept], along[kept]


def _edge_points(smooth: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find points [mm] about 1 mm apart on usable edges of a smoothed slice, and normals towards the bright side."""
    points, normals = [np.empty((0, 2))], [np.empty((0, 2))]
    for contour in measure.find_contours(smooth, LEVEL_HU):
        path = contour * spacing
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
        if length[-1] < 4 * REACH_MM:
            continue
        even = np.arange(0.0, length[-1], 1.0)
        point = np.stack([np.interp(even, length, path[:, axis]) for axis in (0, 1)], axis=1)
        tangent = np.gradient(ndimage.gaussian_filter1d(point, 1.5, axis=0, mode="nearest"), axis=0)
        tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
        normal = np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)
        points.append(point)
        normals.append(normal * _usable(smooth, spacing, point, normal)[:, None])
    joined, directions = np.concatenate(points), np.concatenate(normals)
    kept = directions.any(axis=1)
    return joined[kept], directions[kept]


def _usable(smooth: np.ndarray, spacing: np.ndarray, point: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return +1 or -1, the sign that turns the normal to the bright side, where the edge is straight; 0 elsewhere."""
    reach = int(REACH_MM)
    ahead, behind = (np.roll(normal, shift, axis=0) for shift in (-reach, reach))
    turn = np.minimum((ahead * normal).sum(axis=1), (behind * normal).sum(axis=1))
    straight = turn > np.cos(LARGEST_TURN_RAD)
    straight[:reach] = straight[len(straight) - reach :] = False
    ends = [
        ndimage.map_coordinates(smooth, ((point + side * REACH_MM * normal) / spacing).T, order=1, cval=np.nan)
        for side in (1, -1)
    ]
    sign = np.zeros(len(point))
    sign[straight & (ends[0] > BRIGHT_HU) & (ends[1] < DARK_HU)] = 1.0
    sign[straight & (ends[1] > BRIGHT_HU) & (ends[0] < DARK_HU)] = -1.0
    return sign
