"""Anatomy of the brain phantom: the share of every tissue in every voxel of a stack of axial slices."""

from __future__ import annotations

import numpy as np

from . import brain_cortex as cortex
from . import brain_deep as deep
from .brain_details import gliosis_share, meninges_share
from .brain_subject import HeadPoints, Subject, head_points
from .brain_tumour import Tumour, tumour_occupancy
from .fields import FloatArray
from .raster import soft_occupancy

Fractions = dict[str, FloatArray]

EDGE_HALF_WIDTH = 0.55  # of a pixel: partial volume in the plane
MENINGES_MM = 0.8  # fluid and meninges that skull stripping leaves around the hull
LARGEST_SLICE_THICKNESS_MM = 3.0  # wider spaced slices have gaps, as in clinical protocols
SUBSLICE_MM = 1.0  # slices are averaged over sub-slices at most this far apart

# Labels of the segmentation and the tissues that each covers; lesions take precedence over the rest.
LESION_LABELS = {"oedema": 1, "tumour": 2, "necrosis": 3}
TISSUE_LABELS = {
    4: ("caudate", "putamen", "pallidum", "thalamus"),
    5: ("ventricles", "choroid_plexus"),
    6: ("grey_matter",),
    7: ("white_matter", "gliosis"),
    8: ("sulcal_csf", "meninges"),
}
LABEL_NAMES = {
    1: "oedema",
    2: "tumour",
    3: "necrosis",
    4: "deep_nuclei",
    5: "ventricles",
    6: "grey_matter",
    7: "white_matter",
    8: "sulcal_csf",
}


def tissue_fractions(
    subject: Subject,
    tumour: Tumour | None,
    *,
    slice_positions_mm: FloatArray,
    slice_mm: float,
    in_plane_mm: tuple[FloatArray, FloatArray],
) -> Fractions:
    """Share of each tissue in each voxel, averaged over the slice thickness.

    Args:
        subject: the subject.
        tumour: its tumour, or None.
        slice_positions_mm: (nz,) centres of the slices, upwards.
        slice_mm: distance of the slices; they are this thick, but at most ``LARGEST_SLICE_THICKNESS_MM``.
        in_plane_mm: coordinates of the pixels forward (ny,) and to the right (nx,).

    Returns:
        (nz, ny, nx) float32 for each tissue; their sum is the share of the brain mask, 1 inside and 0 outside.
    """
    thickness = min(slice_mm, LARGEST_SLICE_THICKNESS_MM)
    count = int(np.ceil(thickness / SUBSLICE_MM))
    offsets = (np.arange(count) - (count - 1) / 2) * thickness / count
    z = (slice_positions_mm[:, None] + offsets).astype(np.float32).ravel()
    pixel_mm = float(abs(in_plane_mm[0][1] - in_plane_mm[0][0]))
    points, inside = head_points(subject, (z, *in_plane_mm), margin_mm=MENINGES_MM + EDGE_HALF_WIDTH * pixel_mm)
    fractions = point_fractions(subject, tumour, points, half_width_mm=EDGE_HALF_WIDTH * pixel_mm)
    return {name: _average_subslices(values, inside, count) for name, values in fractions.items()}


def point_fractions(subject: Subject, tumour: Tumour | None, points: HeadPoints, *, half_width_mm: float) -> Fractions:
    """Share of each tissue at N points, the edges softened by ``half_width_mm``; each (N,) in [0, 1]."""
    w = half_width_mm
    fractions = _cortex_and_white_matter(subject, points, w)
    wall_distance = deep.lateral_ventricles(subject, points)
    gliosis = gliosis_share(subject, points, outside_ventricles_mm=-wall_distance)
    _move(fractions, "white_matter", "gliosis", gliosis)
    _move(fractions, "sulcal_csf", "meninges", meninges_share(points))
    _lay_over(fractions, "thalamus", soft_occupancy(deep.thalamus(points), 1.6 * w))
    _lay_over(fractions, "pallidum", soft_occupancy(deep.pallidum(points), 1.6 * w))
    _lay_over(fractions, "putamen", soft_occupancy(deep.putamen(points), 1.3 * w))
    _lay_over(fractions, "grey_matter", soft_occupancy(deep.claustrum(points), w))
    _lay_over(fractions, "caudate", soft_occupancy(deep.caudate(subject, points), 1.3 * w))
    third = deep.third_ventricle(subject, points)
    lateral = soft_occupancy(wall_distance, w) * (1 - soft_occupancy(deep.septum(points), w))
    _lay_over(fractions, "ventricles", np.maximum(lateral, soft_occupancy(third, w)))
    _lay_over(fractions, "choroid_plexus", 0.7 * soft_occupancy(deep.choroid_plexus(points), w))
    if tumour is not None:
        white, grey = fractions["white_matter"], fractions["grey_matter"]
        for name, occupancy in tumour_occupancy(tumour, points, white_matter=white, grey_matter=grey).items():
            _lay_over(fractions, name, occupancy)
    brain = soft_occupancy(points.depth + MENINGES_MM, w)
    return {name: values * brain for name, values in fractions.items()}


def label_map(fractions: Fractions) -> np.ndarray:
    """Hard labels of ``LABEL_NAMES`` where the brain mask is above one half, 0 elsewhere; uint8.

    Outside the lesions the label of the largest share; necrosis and tumour where they fill more than half of the
    voxel, oedema where the three lesions together do.
    """
    zero = np.zeros_like(fractions["white_matter"])
    shares = [sum((fractions[tissue] for tissue in tissues), zero) for tissues in TISSUE_LABELS.values()]
    labels = np.array(list(TISSUE_LABELS), dtype=np.uint8)[np.argmax(shares, axis=0)]
    lesions = {name: fractions.get(name, zero) for name in LESION_LABELS}
    solid = lesions["tumour"] + lesions["necrosis"]
    labels[solid + lesions["oedema"] > 0.5] = LESION_LABELS["oedema"]
    labels[solid > 0.5] = LESION_LABELS["tumour"]
    labels[lesions["necrosis"] > 0.5] = LESION_LABELS["necrosis"]
    labels[brain_mask(fractions) <= 0.5] = 0
    return labels


def brain_mask(fractions: Fractions) -> FloatArray:
    """Share of the brain in each voxel."""
    return np.sum(list(fractions.values()), axis=0)


def _cortex_and_white_matter(subject: Subject, points: HeadPoints, half_width_mm: float) -> Fractions:
    pial = cortex.pial_distance(subject, points)
    parenchyma = soft_occupancy(pial, half_width_mm)
    white = parenchyma * soft_occupancy(pial - cortex.cortex_thickness(points), 1.3 * half_width_mm)
    return {"white_matter": white, "grey_matter": parenchyma - white, "sulcal_csf": 1 - parenchyma}


def _lay_over(fractions: Fractions, name: str, occupancy: FloatArray) -> None:
    """Replace the share ``occupancy`` of whatever is there by the tissue ``name``, in place."""
    for other in fractions:
        fractions[other] = fractions[other] * (1 - occupancy)
    fractions[name] = fractions.get(name, np.float32(0)) + occupancy


def _move(fractions: Fractions, source: str, target: str, share: FloatArray) -> None:
    """Turn a share of one tissue into another, in place."""
    fractions[target] = fractions.get(target, np.float32(0)) + share * fractions[source]
    fractions[source] = (1 - share) * fractions[source]


def _average_subslices(values: FloatArray, inside: np.ndarray, count: int) -> FloatArray:
    """(N,) values of points to (nz, ny, nx), the mean of each ``count`` consecutive sub-slices."""
    grid = np.zeros(inside.shape, dtype=np.float32)
    grid[inside] = values
    return grid.reshape(-1, count, *inside.shape[1:]).mean(axis=1)
