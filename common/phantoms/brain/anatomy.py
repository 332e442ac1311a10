"""Anatomy of the brain phantom: the fraction of every tissue in every voxel of a stack of axial slices.

Beside grey matter, white matter and fluid there is fine structure: vessels and meninges in the fluid, gliosis and
perivascular spaces. It keeps T1- and T2-weighted images from being each other's negative, as in patients: flowing
blood is dark in both, meninges are dark in T2 only, gliosis is bright in T2 and barely visible in T1. A tumour has a
solid part, a necrotic core and oedema around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..fields import FloatArray, PeriodicField, gaussian_random_field
from ..stack import soft_occupancy
from . import shape
from .subject import HeadPoints, Subject, head_points

# Fine structure.
MENINGES_DEPTH_MM = 0.6  # depth below the hull to which they fill part of the fluid
GLIOSIS_REACH_MM = (2.0, 7.0)  # reach beyond the ventricles' walls at the youngest and at the oldest age
GLIOSIS_SHARE = 0.6  # fraction of the white matter where gliosis is densest
VESSEL_SIGMA_MM = 2.6
VESSEL_THRESHOLD = 0.25  # level of unit-variance noise above which fluid contains a vessel
VESSEL_SHARE = 0.95
PERIVASCULAR_SIGMA_MM = 0.9
PERIVASCULAR_THRESHOLD = 2.2
PERIVASCULAR_SHARE = 0.5

# Tumour: ranges of its size and of the position of its centre.
TUMOUR_RADIUS_MM = (8.0, 18.0)
OEDEMA_WIDTH_MM = (6.0, 16.0)
FORWARD_MM = (-45.0, 40.0)
LATERAL_MM = (24.0, 42.0)
# Filter width and SD of the irregularity of each surface in mm.
SOLID_NOISE_MM = (5.0, 2.8)
OEDEMA_NOISE_MM = (7.0, 6.0)
NECROSIS_NOISE_MM = (4.0, 1.5)
NECROSIS_DEPTH = 0.38  # relative to the radius
WHITE_MATTER_SPREAD_MM = 3.0  # oedema follows white matter and spares the cortex

Fractions = dict[str, FloatArray]
Change = Callable[[Fractions, HeadPoints, float], None]  # of fractions (N,) at points with edges of a half width in mm

# Sampling.
EDGE_HALF_WIDTH = 0.55  # in pixels: partial volume in the plane
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
    9: ("white_matter_lesion",),
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
VARIED_LABEL_NAMES = {**LABEL_NAMES, 9: "white_matter_lesion"}  # which only varied patients have


def meninges_share(points: HeadPoints) -> FloatArray:
    """Compute the fraction (N,) of the surface fluid that is dura and arachnoid left by skull stripping, in patches."""
    near_surface = np.clip((MENINGES_DEPTH_MM - points.depth) / MENINGES_DEPTH_MM + 0.5, 0, 1)
    patches = np.clip(0.55 + 0.45 * points.noise["meninges"], 0, 1)
    return near_surface * patches


def gliosis_share(subject: Subject, points: HeadPoints, *, outside_ventricles_mm: FloatArray) -> FloatArray:
    """Compute the fraction (N,) of white matter replaced by gliosis, which grows with age.

    Gliosis forms caps and bands around the ventricles, and spots.

    Args:
        subject: Subject.
        points: N points.
        outside_ventricles_mm: Distance (N,) from the lateral ventricles.
    """
    young, old = GLIOSIS_REACH_MM
    reach = (young + (old - young) * subject.ageing) * np.exp(0.4 * points.noise["gliosis"])
    caps = np.clip(1 - outside_ventricles_mm / reach, 0, 1)
    spots = np.clip(points.noise["gliosis"] - (3.2 - 1.2 * subject.ageing), 0, 1)
    return GLIOSIS_SHARE * np.maximum(caps, spots)


def vessel_share(rng: np.random.Generator, shape: Sequence[int], *, spacing_mm: Sequence[float]) -> FloatArray:
    """Draw the fraction (nz, ny, nx) of the fluid in sulci and fissures that is flowing blood in pial vessels."""
    noise = gaussian_random_field(rng, shape, sigma=[VESSEL_SIGMA_MM / s for s in spacing_mm])
    return VESSEL_SHARE * np.clip(noise - VESSEL_THRESHOLD, 0, 1)


def perivascular_share(rng: np.random.Generator, shape: Sequence[int], *, spacing_mm: Sequence[float]) -> FloatArray:
    """Draw the fraction (nz, ny, nx) of white matter and basal ganglia that is fluid around perforating vessels."""
    noise = gaussian_random_field(rng, shape, sigma=[PERIVASCULAR_SIGMA_MM / s for s in spacing_mm])
    return PERIVASCULAR_SHARE * np.clip(2 * (noise - PERIVASCULAR_THRESHOLD), 0, 1)


@dataclass(frozen=True)
class Tumour:
    """Tumour of irregular shape in one hemisphere.

    Attributes:
        centre_mm: Centre (z, y, x) in the subject's frame.
        radius_mm: Radius of the solid part.
        oedema_width_mm: Width of the oedema beyond the solid part.
        solid, oedema, necrosis: Unit-variance noise that makes each surface irregular.
    """

    centre_mm: tuple[float, float, float]
    radius_mm: float
    oedema_width_mm: float
    solid: PeriodicField
    oedema: PeriodicField
    necrosis: PeriodicField

    @classmethod
    def draw(cls, rng: np.random.Generator, z_range_mm: tuple[float, float]) -> Tumour:
        """Draw a tumour whose centre lies between the two levels."""
        side = rng.choice([-1.0, 1.0])
        return cls(
            centre_mm=(rng.uniform(*z_range_mm), rng.uniform(*FORWARD_MM), side * rng.uniform(*LATERAL_MM)),
            radius_mm=rng.uniform(*TUMOUR_RADIUS_MM),
            oedema_width_mm=rng.uniform(*OEDEMA_WIDTH_MM),
            solid=PeriodicField.noise(rng, SOLID_NOISE_MM[0]),
            oedema=PeriodicField.noise(rng, OEDEMA_NOISE_MM[0]),
            necrosis=PeriodicField.noise(rng, NECROSIS_NOISE_MM[0]),
        )


def tumour_occupancy(
    tumour: Tumour, points: HeadPoints, *, white_matter: FloatArray, grey_matter: FloatArray
) -> dict[str, FloatArray]:
    """Compute the fractions of oedema, tumour and necrosis, to be laid over each other in this order.

    Args:
        tumour: Tumour.
        points: N points.
        white_matter: Fraction (N,) of white matter without the tumour; oedema spreads in it.
        grey_matter: Fraction (N,) of grey matter without the tumour.

    Returns:
        Three occupancies (N,) in [0, 1].
    """
    z, y, x = points.z, points.y, points.x
    cz, cy, cx = tumour.centre_mm
    depth = tumour.radius_mm - np.sqrt((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2)
    solid = depth + SOLID_NOISE_MM[1] * tumour.solid.at(z, y, x)
    oedema = depth + tumour.oedema_width_mm + OEDEMA_NOISE_MM[1] * tumour.oedema.at(z, y, x)
    oedema = oedema + WHITE_MATTER_SPREAD_MM * (white_matter - 0.7)
    core = solid - NECROSIS_DEPTH * tumour.radius_mm + NECROSIS_NOISE_MM[1] * tumour.necrosis.at(z, y, x)
    susceptible = np.clip(1.1 * white_matter + 0.25 * grey_matter, 0, 1) * (points.depth > 0)
    inside = points.depth > 1
    return {
        "oedema": 0.85 * soft_occupancy(oedema, 2.0) * susceptible,
        "tumour": soft_occupancy(solid, 1.2) * inside,
        "necrosis": soft_occupancy(core, 1.0) * inside,
    }


def tissue_fractions(
    subject: Subject,
    tumour: Tumour | None,
    *,
    slice_positions_mm: FloatArray,
    slice_mm: float,
    in_plane_mm: tuple[FloatArray, FloatArray],
    changes: Sequence[Change] = (),
    margin_mm: float = MENINGES_MM,
) -> Fractions:
    """Compute the fraction of each tissue in each voxel, averaged over the slice thickness.

    Args:
        subject: Subject.
        tumour: Tumour of the subject, or None.
        slice_positions_mm: Centres (nz,) of the slices, upwards.
        slice_mm: Distance between slices; they are this thick, but at most `LARGEST_SLICE_THICKNESS_MM`.
        in_plane_mm: Coordinates of the pixels forward (ny,) and to the right (nx,).
        changes: Functions that change the fractions at the points, in place and in this order.
        margin_mm: Distance from the hull up to which there is tissue.

    Returns:
        Fractions (nz, ny, nx), float32, of each tissue; without changes their sum is the brain mask, 1 inside and 0
        outside.
    """
    thickness = min(slice_mm, LARGEST_SLICE_THICKNESS_MM)
    count = int(np.ceil(thickness / SUBSLICE_MM))
    offsets = (np.arange(count) - (count - 1) / 2) * thickness / count
    z = (slice_positions_mm[:, None] + offsets).astype(np.float32).ravel()
    pixel_mm = float(abs(in_plane_mm[0][1] - in_plane_mm[0][0]))
    points, inside = head_points(subject, (z, *in_plane_mm), margin_mm=margin_mm + EDGE_HALF_WIDTH * pixel_mm)
    fractions = point_fractions(subject, tumour, points, half_width_mm=EDGE_HALF_WIDTH * pixel_mm)
    for change in changes:
        change(fractions, points, EDGE_HALF_WIDTH * pixel_mm)
    return {name: _average_subslices(values, inside, count) for name, values in fractions.items()}


def point_fractions(subject: Subject, tumour: Tumour | None, points: HeadPoints, *, half_width_mm: float) -> Fractions:
    """Compute the fraction (N,) of each tissue at N points, with edges softened by `half_width_mm`."""
    w = half_width_mm
    fractions = _cortex_and_white_matter(subject, points, w)
    wall_distance = shape.lateral_ventricles(subject, points)
    gliosis = gliosis_share(subject, points, outside_ventricles_mm=-wall_distance)
    move(fractions, "white_matter", "gliosis", gliosis)
    move(fractions, "sulcal_csf", "meninges", meninges_share(points))
    _lay_over(fractions, "thalamus", soft_occupancy(shape.thalamus(points), 1.6 * w))
    _lay_over(fractions, "pallidum", soft_occupancy(shape.pallidum(points), 1.6 * w))
    _lay_over(fractions, "putamen", soft_occupancy(shape.putamen(points), 1.3 * w))
    _lay_over(fractions, "grey_matter", soft_occupancy(shape.claustrum(points), w))
    _lay_over(fractions, "caudate", soft_occupancy(shape.caudate(subject, points), 1.3 * w))
    third = shape.third_ventricle(subject, points)
    lateral = soft_occupancy(wall_distance, w) * (1 - soft_occupancy(shape.septum(points), w))
    _lay_over(fractions, "ventricles", np.maximum(lateral, soft_occupancy(third, w)))
    _lay_over(fractions, "choroid_plexus", 0.7 * soft_occupancy(shape.choroid_plexus(points), w))
    if tumour is not None:
        white, grey = fractions["white_matter"], fractions["grey_matter"]
        for name, occupancy in tumour_occupancy(tumour, points, white_matter=white, grey_matter=grey).items():
            _lay_over(fractions, name, occupancy)
    brain = soft_occupancy(points.depth + MENINGES_MM, w)
    return {name: values * brain for name, values in fractions.items()}


def label_map(fractions: Fractions) -> np.ndarray:
    """Return hard labels of `VARIED_LABEL_NAMES` where the brain mask exceeds one half, 0 elsewhere; uint8.

    Outside the lesions the label with the largest fraction wins. Necrosis and tumour win where they fill more than half
    of the voxel, oedema where the three lesions together do.
    """
    zero = np.zeros_like(fractions["white_matter"])
    shares = [sum((fractions.get(tissue, zero) for tissue in tissues), zero) for tissues in TISSUE_LABELS.values()]
    labels = np.array(list(TISSUE_LABELS), dtype=np.uint8)[np.argmax(shares, axis=0)]
    lesions = {name: fractions.get(name, zero) for name in LESION_LABELS}
    solid = lesions["tumour"] + lesions["necrosis"]
    labels[solid + lesions["oedema"] > 0.5] = LESION_LABELS["oedema"]
    labels[solid > 0.5] = LESION_LABELS["tumour"]
    labels[lesions["necrosis"] > 0.5] = LESION_LABELS["necrosis"]
    labels[brain_mask(fractions) <= 0.5] = 0
    return labels


def brain_mask(fractions: Fractions) -> FloatArray:
    """Compute the fraction of the brain in each voxel."""
    return np.sum(list(fractions.values()), axis=0)


def _cortex_and_white_matter(subject: Subject, points: HeadPoints, half_width_mm: float) -> Fractions:
    pial = shape.pial_distance(subject, points)
    parenchyma = soft_occupancy(pial, half_width_mm)
    white = parenchyma * soft_occupancy(pial - shape.cortex_thickness(points), 1.3 * half_width_mm)
    return {"white_matter": white, "grey_matter": parenchyma - white, "sulcal_csf": 1 - parenchyma}


def _lay_over(fractions: Fractions, name: str, occupancy: FloatArray) -> None:
    """Replace the fraction `occupancy` of whatever is there by the tissue `name`, in place."""
    for other in fractions:
        fractions[other] = fractions[other] * (1 - occupancy)
    fractions[name] = fractions.get(name, np.float32(0)) + occupancy


def move(fractions: Fractions, source: str, target: str, share: FloatArray) -> None:
    """Turn a fraction of one tissue into another, in place."""
    fractions[target] = fractions.get(target, np.float32(0)) + share * fractions[source]
    fractions[source] = (1 - share) * fractions[source]


def _average_subslices(values: FloatArray, inside: np.ndarray, count: int) -> FloatArray:
    """Turn values (N,) of points into (nz, ny, nx), the mean of each `count` consecutive sub-slices."""
    grid = np.zeros(inside.shape, dtype=np.float32)
    grid[inside] = values
    return grid.reshape(-1, count, *inside.shape[1:]).mean(axis=1)
