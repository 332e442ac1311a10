"""How structures stand out from their surroundings: contrast, and sharpness of the edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from monai.utils.module import optional_import

from .noise import check_spacing, check_volume

ndimage, _ = optional_import("scipy.ndimage")
ndtr, _ = optional_import("scipy.special", name="ndtr")

STRUCTURES = ("vessel", "bronchial_wall", "septum", "tumour")
# The surroundings begin beyond the blur of a clinical pixel's edge and usually end before the next structures.
RING_MM = (0.15, 0.6)
REACH_MM = 0.6
WIDTH_STEP_MM = 0.01
SDS_FROM_10_TO_90 = 2.563
LEAST_PIXELS = 200
LEAST_PIXELS_IN_BIN = 30
Names = Mapping[int, str] | Mapping[str, str]


class Structure(NamedTuple):
    """Pixels of a structure in a volume: boolean arrays `(X, Y, Z)`.

    `inside` fills more than half of the slice's thickness; `ring` surrounds it, free of all structures; `beside` is
    free of all other structures. `distance_mm` is the distance to the border in the slice, negative inside.
    """

    inside: np.ndarray
    ring: np.ndarray
    beside: np.ndarray
    distance_mm: np.ndarray


def find_structures(
    labels: np.ndarray, slices: int, spacing_mm: Sequence[float], *, label_names: Names | None = None
) -> dict[str, Structure]:
    """Find vessels, bronchial walls, septa and tumours in slices that are thicker than those of the label map.

    Args:
        labels: Label map `(X, Y, n slices)`, Z the axial slice axis.
        slices: Number of slices of the volume to be measured; each is as thick as n of the label map.
        spacing_mm: Pixel size along X and Y.
        label_names: Names of the label values; all but `STRUCTURES` are surroundings.

    Returns:
        Structures by name; those of fewer than 200 pixels are omitted.

    Raises:
        ValueError: If the slices of the label map are not a multiple of `slices`, or the spacing is invalid.

    Example:
        >>> labels = np.zeros((40, 40, 2), dtype=int); labels[10:30, 10:30] = 1
        >>> found = find_structures(labels, 1, (0.1, 0.1), label_names={1: "vessel"})
        >>> int(found["vessel"].inside.sum()), float(found["vessel"].distance_mm[10, 20, 0].round(3))
        (400, -0.05)
    """
    labels = check_volume(labels, "labels")
    spacing = check_spacing(spacing_mm)
    if slices < 1 or labels.shape[2] % slices:
        raise ValueError(f"`labels` must have a multiple of {slices} slices, got {labels.shape[2]}.")
    thick = np.rint(labels).astype(int).reshape(*labels.shape[:2], slices, -1)
    values = {name: int(value) for value, name in (label_names or {}).items() if name in STRUCTURES}
    shares = {name: (thick == value).mean(axis=3) for name, value in values.items()}
    occupied = np.sum(list(shares.values()), axis=0) if shares else np.zeros(thick.shape[:3])
    found = {}
    for name in STRUCTURES:
        if name in shares and (shares[name] > 0.5).sum() >= LEAST_PIXELS:
            found[name] = _structure(shares[name], occupied, spacing)
    return found


def contrast(image: np.ndarray, structure: Structure) -> float | None:
    """Subtract the mean of a structure's surroundings from its mean, in the unit of the image `(X, Y, Z)`.

    Returns:
        The contrast, or None where there are no surroundings.
    """
    if not structure.ring.any():
        return None
    return float(image[structure.inside].mean() - image[structure.ring].mean())


def edge_width(image: np.ndarray, structure: Structure, spacing_mm: Sequence[float]) -> float | None:
    """Measure the 10-90 % width in mm of a structure's edge: that of the error function that best fits its profile.

    The profile is the mean over all pixels at equal distance from the border, in bins of a pixel, 0.6 mm to each side.
    The error function falls at the border, so an edge that is sharp but misplaced is wide. An edge blurred by a
    Gaussian has 2.56 standard deviations, a step at the border less than a pixel. The largest width is the length of
    the profile, 1.2 mm, which also stands for no edge at all.

    Args:
        image: Volume `(X, Y, Z)`; the structure is the brighter side.
        structure: Structure from `find_structures`.
        spacing_mm: Pixel size along X and Y.

    Returns:
        The width, or None where the structure or its surroundings are too small for a profile.
    """
    pixel = min(check_spacing(spacing_mm))
    used = structure.beside & (np.abs(structure.distance_mm) <= REACH_MM)
    bins = np.floor(structure.distance_mm[used] / pixel).astype(int)
    bins -= bins.min(initial=0)
    counts = np.bincount(bins)
    filled = counts >= LEAST_PIXELS_IN_BIN
    distance, profile = (
        (np.bincount(bins, weights=values)[filled] / counts[filled])
        for values in (structure.distance_mm[used], image[used])
    )
    if not (distance < 0).any() or (distance > 0).sum() < 2:
        return None
    return _fitted_width(distance, profile, counts[filled])


def _fitted_width(distance: np.ndarray, profile: np.ndarray, counts: np.ndarray) -> float:
    """Find the width whose falling error function, scaled and shifted in intensity, has the least squared error."""
    best, least = 2 * REACH_MM, np.inf
    for width in np.arange(WIDTH_STEP_MM, 2 * REACH_MM, WIDTH_STEP_MM):
        shape = ndtr(-distance / (width / SDS_FROM_10_TO_90))
        shape = shape - np.average(shape, weights=counts)
        offset = profile - np.average(profile, weights=counts)
        rise = (counts * shape * offset).sum() / (counts * shape**2).sum()
        error = (counts * (offset - rise * shape) ** 2).sum()
        if rise > 0 and error < least:
            best, least = float(width), error
    return best


def _structure(share: np.ndarray, occupied: np.ndarray, spacing: tuple[float, float]) -> Structure:
    inside = share > 0.5
    distance, to_any = np.empty(share.shape), np.empty(share.shape)
    half = min(spacing) / 2  # the border lies between the centres of pixels
    for z in range(share.shape[2]):
        outwards = _distance(~inside[:, :, z], spacing)
        inwards = _distance(inside[:, :, z], spacing)
        distance[:, :, z] = np.where(inside[:, :, z], half - inwards, outwards - half)
        to_any[:, :, z] = _distance(share[:, :, z] == 0, spacing)
    empty = occupied == 0
    ring = empty & (to_any > RING_MM[0]) & (to_any <= RING_MM[1])
    return Structure(inside, ring, inside | np.isclose(occupied, share), distance)


def _distance(mask: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Compute the distance in mm of a mask's pixels to the nearest pixel outside; infinite where there is none."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=spacing))
