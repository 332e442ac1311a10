"""The folded cortex of the brain phantom: sulci, Sylvian and interhemispheric fissure as distances in mm."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .brain_subject import HULL_CENTRE_MM, HULL_HALF_AXES_MM, SULCAL_PERIOD_MM, HeadPoints, Subject
from .fields import FloatArray, PeriodicField

FAR_MM = 99.0

# Sulci.
SURFACE_SCALE = 0.93  # the sulcal pattern is drawn on this fraction of the hull
HEMISPHERE_PERIOD_MM = SULCAL_PERIOD_MM / 2  # the two hemispheres' patterns lie side by side in one field
BEND_MM = 3.0
COARSE_SIGMA_MM = 5.4  # noise wider than this is taken out: what is left has zero crossings some 11 mm apart
SHEAR_MM = (3.0, -6.0, 4.0)  # shift of the pattern (z, y, x) from the surface to the centre: sulci run obliquely
LARGEST_SHEET_DISTANCE_MM = 8.0
GRADIENT_FLOOR = 0.05  # SD of the noise a mm: keeps the distance finite where the noise is level
SULCAL_DEPTH_MM = (23.0, 7.0)  # mean, SD over the surface
DEEPEST_SULCUS_MM = 30.0
FUNDUS_MM = 5.0  # over which a sulcus closes at its bottom

CORTEX_THICKNESS_MM = (2.8, 0.35)  # mean, SD; a little thick so that it is visible at 1 mm


def pial_distance(subject: Subject, points: HeadPoints) -> FloatArray:
    """(N,) distance in mm to the nearest cerebrospinal fluid of hull, sulci and fissures; positive in the brain."""
    surfaces = (
        points.depth,
        sulci(subject, points),
        sylvian_fissure(subject, points),
        interhemispheric_fissure(subject, points),
    )
    return np.minimum.reduce(surfaces)


def cortex_thickness(points: HeadPoints) -> FloatArray:
    """(N,) thickness of the cortical ribbon in mm."""
    mean, sd = CORTEX_THICKNESS_MM
    return mean + sd * points.noise["cortex_thickness"]


def sulci(subject: Subject, points: HeadPoints) -> FloatArray:
    """(N,) distance in mm to the fluid in the nearest sulcus.

    The sulci are the zero set of band-limited noise on the pial surface, extended inwards and bent; each is as deep
    as a second noise field says and widens with atrophy and towards the surface.
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
    """Signed distance in mm to the zero set of a noise field, |g| / |grad g|, along the pial surface.

    Only the gradient's component along the surface counts, as the pattern does not change with depth.
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
    """(N,) distance in mm to the Sylvian fissure and to the fluid over the insula, |z - 4 mm| < 17 mm."""
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
    """(N,) distance in mm to the fissure between the hemispheres, which corpus callosum and thalami interrupt."""
    crossing = np.hypot(points.y / 40, (points.z - 2) / 24) < 1
    distance = np.abs(points.x + 0.8 * points.noise["midline"]) - 0.7 * subject.atrophy - 0.4
    return np.asarray(np.where(crossing, FAR_MM, distance), dtype=np.float32)


def _pial_coordinates(points: HeadPoints, shrink: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Where on the sulcal pattern the points lie: projected from the centre onto the pial surface, then bent."""
    below = 1 - points.radius
    z, y, x = (
        centred * shrink + BEND_MM * points.noise[f"bend_{axis}"] + shear * below
        for axis, centred, shear in zip(
            "zyx",
            (points.z - HULL_CENTRE_MM[0], points.y - HULL_CENTRE_MM[1], np.abs(points.x)),
            SHEAR_MM,
            strict=True,
        )
    )
    return z, y, x + np.where(points.x > 0, 0, np.float32(HEMISPHERE_PERIOD_MM))


def _surface_normal(nodes: int, step: float) -> list[FloatArray]:
    """Unit normal (z, y, x) of the pial surface at the nodes of the sulcal lattice."""
    position = np.arange(nodes, dtype=np.float32) * step
    period = nodes * step
    centred = (position + period / 2) % period - period / 2
    margin = 10.0  # bending moves points a little across the midline
    across = (position + margin) % HEMISPHERE_PERIOD_MM - margin
    axes = np.meshgrid(centred, centred, across, indexing="ij", sparse=True)
    normal = [a / np.float32(half_axis**2) for a, half_axis in zip(axes, HULL_HALF_AXES_MM, strict=True)]
    length = np.sqrt(sum(n * n for n in normal)) + np.float32(1e-9)
    return [n / length for n in normal]
