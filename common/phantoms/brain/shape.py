"""Shapes of the brain phantom as signed distances in mm.

The folded cortex (sulci, Sylvian and interhemispheric fissure), and the deep structures (basal ganglia, thalamus and
ventricles).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ..fields import FloatArray, PeriodicField
from .subject import HULL_CENTRE_MM, HULL_HALF_AXES_MM, SULCAL_PERIOD_MM, HeadPoints, Subject

FAR_MM = 99.0
WOBBLE_MM = 0.35  # SD of the irregularity of the surfaces of deep structures
CORTEX_THICKNESS_MM = (2.8, 0.35)  # mean, SD; slightly thick so that it is visible at 1 mm

# Sulci.
SURFACE_SCALE = 0.93  # the sulcal pattern is drawn on this fraction of the hull
HEMISPHERE_PERIOD_MM = SULCAL_PERIOD_MM / 2  # the two hemispheres' patterns lie side by side in one field
BEND_MM = 3.0
COARSE_SIGMA_MM = 5.4  # noise wider than this is removed: the rest has zero crossings some 11 mm apart
SHEAR_MM = (3.0, -6.0, 4.0)  # shift of the pattern (z, y, x) from the surface to the centre: sulci run obliquely
LARGEST_SHEET_DISTANCE_MM = 8.0
GRADIENT_FLOOR = 0.05  # SD of the noise per mm: keeps the distance finite where the noise is flat
SULCAL_DEPTH_MM = (23.0, 7.0)  # mean, SD over the surface
DEEPEST_SULCUS_MM = 30.0
FUNDUS_MM = 5.0  # depth over which a sulcus closes at its bottom


def pial_distance(subject: Subject, points: HeadPoints) -> FloatArray:
    """Compute the distance (N,) in mm to the nearest fluid of hull, sulci and fissures; positive in the brain."""
    surfaces = (
        points.depth,
        sulci(subject, points),
        sylvian_fissure(subject, points),
        interhemispheric_fissure(subject, points),
    )
    return np.minimum.reduce(surfaces)


def cortex_thickness(points: HeadPoints) -> FloatArray:
    """Compute the thickness (N,) of the cortical ribbon in mm."""
    mean, sd = CORTEX_THICKNESS_MM
    return mean + sd * points.noise["cortex_thickness"]


def sulci(subject: Subject, points: HeadPoints) -> FloatArray:
    """Compute the distance (N,) in mm to the fluid in the nearest sulcus.

    The sulci are the zero set of band-limited noise on the pial surface, extended inwards and bent. A second noise
    field sets the depth of each, and they widen with atrophy and towards the surface.
    """
    shrink = SURFACE_SCALE / np.maximum(points.radius, 0.25)
    to_sheet = np.abs(sulcal_sheets(subject.sulcal_noise).at(*_pial_coordinates(points, shrink))) / shrink
    mean_depth, depth_sd = SULCAL_DEPTH_MM
    fundus = np.minimum(mean_depth + depth_sd * points.noise["sulcal_depth"], DEEPEST_SULCUS_MM)
    above_fundus = (fundus - points.depth) / FUNDUS_MM
    widening = 0.4 + 0.9 * np.clip(1 - points.depth / 22, 0, 1)
    half_width = subject.atrophy * widening + 0.5 * np.clip(above_fundus, 0, 1) * (points.depth < 4)
    closed = 4.0 * np.clip(-above_fundus, 0, 3)
    return np.asarray(np.where(above_fundus > -3, to_sheet + closed - half_width, FAR_MM), dtype=np.float32)


def sulcal_sheets(noise: PeriodicField) -> PeriodicField:
    """Compute the signed distance in mm to the zero set of a noise field, |g| / |grad g|, along the pial surface.

    Only the gradient's component along the surface counts, since the pattern does not change with depth.
    """
    step = noise.step_mm[0]
    values = noise.values - ndimage.gaussian_filter(noise.values, COARSE_SIGMA_MM / step, mode="wrap")
    values /= values.std()
    gradient = [(np.roll(values, -1, axis) - np.roll(values, 1, axis)) / (2 * step) for axis in range(3)]
    normal = _surface_normal(len(values), step)
    radial = sum(g * n for g, n in zip(gradient, normal, strict=True))
    squared = sum(g * g for g in gradient) - radial**2
    distance = values / np.sqrt(np.maximum(squared, 0) + GRADIENT_FLOOR**2)
    limit = LARGEST_SHEET_DISTANCE_MM
    return PeriodicField(np.clip(distance, -limit, limit).astype(np.float32), noise.step_mm)


def sylvian_fissure(subject: Subject, points: HeadPoints) -> FloatArray:
    """Compute the distance (N,) in mm to the Sylvian fissure and to the fluid over the insula, |z - 4 mm| < 17 mm."""
    z, y, x = points.z, points.y, points.x
    lateral = np.abs(x) + 1.9 * points.noise["midline"]
    along = y - (14 + 0.35 * z + 5.0 * points.noise["sylvian"])
    half_width = 2.0 * subject.atrophy + 0.5 * np.clip((42 - lateral) / 6, 0, 1)
    fissure = np.hypot(along + 0.35 * (lateral - 40), np.maximum(36 - lateral, 0)) - half_width
    beyond_insula = np.maximum(np.abs(along + 2) - 11, 0)
    insula = np.hypot(beyond_insula, lateral - 37.5 + 0.015 * along**2) - 1.5 * subject.atrophy
    ends = 0.8 * np.maximum(np.abs(z - 4 + 4 * points.noise["sylvian"]) - 13, 0)
    return np.asarray(np.minimum(fissure, insula) + ends, dtype=np.float32)


def interhemispheric_fissure(subject: Subject, points: HeadPoints) -> FloatArray:
    """Compute the distance (N,) in mm to the fissure between the hemispheres.

    Corpus callosum and thalami interrupt it.
    """
    crossing = np.hypot(points.y / 40, (points.z - 2) / 24) < 1
    distance = np.abs(points.x + 0.8 * points.noise["midline"]) - 0.7 * subject.atrophy - 0.4
    return np.asarray(np.where(crossing, FAR_MM, distance), dtype=np.float32)


def _pial_coordinates(points: HeadPoints, shrink: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Map points to the sulcal pattern: project them from the centre onto the pial surface, then bend."""
    below = 1 - points.radius
    z, y, x = (
        centred * shrink + BEND_MM * points.noise[f"bend_{axis}"] + shear * below
        for axis, centred, shear in zip(
            "zyx", (points.z - HULL_CENTRE_MM[0], points.y - HULL_CENTRE_MM[1], np.abs(points.x)), SHEAR_MM, strict=True
        )
    )
    return z, y, x + np.where(points.x > 0, 0, np.float32(HEMISPHERE_PERIOD_MM))


def _surface_normal(nodes: int, step: float) -> list[FloatArray]:
    """Compute the unit normal (z, y, x) of the pial surface at the nodes of the sulcal lattice."""
    position = np.arange(nodes, dtype=np.float32) * step
    period = nodes * step
    centred = (position + period / 2) % period - period / 2
    margin = 10.0  # bending moves points a little across the midline
    across = (position + margin) % HEMISPHERE_PERIOD_MM - margin
    axes = np.meshgrid(centred, centred, across, indexing="ij", sparse=True)
    normal = [a / np.float32(half_axis**2) for a, half_axis in zip(axes, HULL_HALF_AXES_MM, strict=True)]
    length = np.sqrt(sum(n * n for n in normal)) + np.float32(1e-9)
    return [n / length for n in normal]


class Ellipsoid(NamedTuple):
    """Pair of mirrored ellipsoids, one per hemisphere.

    Attributes:
        centre_mm: Centre: z, y and distance from the midline.
        half_axes_mm: Half axes along z, y, x before the rotation.
        angle_rad: Rotation in the axial plane.
    """

    centre_mm: tuple[float, float, float]
    half_axes_mm: tuple[float, float, float]
    angle_rad: float = 0.0


THALAMUS = Ellipsoid((4, -10, 11), (13, 15, 9.5), 0.35)
PALLIDUM = Ellipsoid((-1, 6, 19.5), (8, 9.5, 4.5), -0.35)
PUTAMEN = Ellipsoid((2, 8, 26), (14, 16, 6.0), -0.12)


def from_midline(points: HeadPoints) -> FloatArray:
    """Compute the distance (N,) in mm from the slightly curved midline."""
    return np.abs(points.x + 0.6 * points.noise["midline"])


def ellipsoid(shape: Ellipsoid, points: HeadPoints) -> FloatArray:
    """Compute the approximate signed distance (N,) in mm, positive inside; exact on the surface's shortest axis."""
    (cz, cy, cx), (rz, ry, rx) = shape.centre_mm, shape.half_axes_mm
    cos, sin = np.float32(np.cos(shape.angle_rad)), np.float32(np.sin(shape.angle_rad))
    y, x = points.y - cy, from_midline(points) - cx
    along, across = y * cos + x * sin, x * cos - y * sin
    radius = np.sqrt(((points.z - cz) / rz) ** 2 + (along / ry) ** 2 + (across / rx) ** 2)
    return (1 - radius) * min(ry, rx)


def thalamus(points: HeadPoints) -> FloatArray:
    """Compute the signed distance (N,) in mm to the thalamus."""
    return ellipsoid(THALAMUS, points) + WOBBLE_MM * points.noise["wobble"]


def pallidum(points: HeadPoints) -> FloatArray:
    """Compute the signed distance (N,) in mm to the pallidum."""
    return ellipsoid(PALLIDUM, points) + WOBBLE_MM * points.noise["wobble"]


def putamen(points: HeadPoints) -> FloatArray:
    """Compute the signed distance (N,) in mm to the putamen."""
    return ellipsoid(PUTAMEN, points) + WOBBLE_MM * points.noise["wobble"]


def caudate(subject: Subject, points: HeadPoints) -> FloatArray:
    """Compute the signed distance (N,) in mm to head and tail of the caudate.

    They lie along the lateral ventricle and move outwards with it.
    """
    size = subject.ventricle_size
    head = Ellipsoid((10, 22, 14.5 + 1.5 * size), (15, 11, 5.2), -0.45)
    tail = Ellipsoid((20, 4, 15 + 3 * size), (9, 24, 3.0), -0.05)
    return np.maximum(ellipsoid(head, points), ellipsoid(tail, points))


def claustrum(points: HeadPoints) -> FloatArray:
    """Compute the signed distance (N,) in mm to the thin sheet of grey matter between putamen and insula."""
    sheet = 1.0 - np.abs(from_midline(points) - 33.0 + 0.006 * (points.y - 8) ** 2)
    front_and_back = 0.25 * np.maximum(np.abs(points.y - 9) - 12, 0)
    top_and_bottom = np.clip(np.abs(points.z) - 12, 0, 9)
    return sheet - front_and_back - top_and_bottom


def third_ventricle(subject: Subject, points: HeadPoints) -> FloatArray:
    """Compute the signed distance (N,) in mm to the slit between the thalami."""
    across = points.x / (2.2 * subject.ventricle_size)
    return (1 - np.sqrt(((points.z + 2) / 11) ** 2 + ((points.y + 3) / 14) ** 2 + across**2)) * 2


def lateral_ventricles(subject: Subject, points: HeadPoints) -> FloatArray:
    """Compute the signed distance (N,) in mm to body, frontal horn and trigone of both lateral ventricles."""
    size = subject.ventricle_size
    curved = from_midline(points) - 8.5 - 0.005 * points.y**2
    up, along = (points.z - 20) / (10 * size**0.5), (points.y + 2) / 36
    body = (1 - np.sqrt(up**2 + along**2 + (curved / (5.5 * size)) ** 2)) * 5
    frontal_horn = ellipsoid(Ellipsoid((10, 27, 8.5), (15, 13 * size**0.4, 4.8 * size), -0.45), points)
    trigone = ellipsoid(Ellipsoid((6, -34, 24), (16, 15 * size**0.4, 5.5 * size), 0.45), points)
    return np.maximum.reduce([body, frontal_horn, trigone]) + 0.5 * WOBBLE_MM * points.noise["wobble"]


def septum(points: HeadPoints) -> FloatArray:
    """Compute the signed distance (N,) in mm to the thin wall that separates the lateral ventricles."""
    return 0.8 - np.abs(points.x)


def choroid_plexus(points: HeadPoints) -> FloatArray:
    """Compute the signed distance (N,) in mm to the plexus in the trigone, |z - 6 mm| < 8 mm."""
    tuft = 2.5 - np.hypot(points.y + 30, from_midline(points) - 23) + 0.5 * WOBBLE_MM * points.noise["wobble"]
    return tuft - np.maximum(np.abs(points.z - 6) - 6, 0)
