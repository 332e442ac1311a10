"""Deep structures of the brain phantom: basal ganglia, thalamus and ventricles as signed distances in mm."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .brain_subject import HeadPoints, Subject
from .fields import FloatArray

WOBBLE_MM = 0.35  # SD of the irregularity of the surfaces


class Ellipsoid(NamedTuple):
    """A pair of mirrored ellipsoids, one a hemisphere.

    Attributes:
        centre_mm: z, y and distance from the midline.
        half_axes_mm: along z, y, x before the rotation.
        angle_rad: rotation in the axial plane.
    """

    centre_mm: tuple[float, float, float]
    half_axes_mm: tuple[float, float, float]
    angle_rad: float = 0.0


THALAMUS = Ellipsoid((4, -10, 11), (13, 15, 9.5), 0.35)
PALLIDUM = Ellipsoid((-1, 6, 19.5), (8, 9.5, 4.5), -0.35)
PUTAMEN = Ellipsoid((2, 8, 26), (14, 16, 6.0), -0.12)


def from_midline(points: HeadPoints) -> FloatArray:
    """(N,) distance in mm from the slightly curved midline."""
    return np.abs(points.x + 0.6 * points.noise["midline"])


def ellipsoid(shape: Ellipsoid, points: HeadPoints) -> FloatArray:
    """(N,) approximate signed distance in mm, positive inside; exact at the surface along the shortest axis."""
    (cz, cy, cx), (rz, ry, rx) = shape.centre_mm, shape.half_axes_mm
    cos, sin = np.float32(np.cos(shape.angle_rad)), np.float32(np.sin(shape.angle_rad))
    y, x = points.y - cy, from_midline(points) - cx
    along, across = y * cos + x * sin, x * cos - y * sin
    radius = np.sqrt(((points.z - cz) / rz) ** 2 + (along / ry) ** 2 + (across / rx) ** 2)
    return (1 - radius) * min(ry, rx)


def thalamus(points: HeadPoints) -> FloatArray:
    """(N,) signed distance in mm."""
    return ellipsoid(THALAMUS, points) + WOBBLE_MM * points.noise["wobble"]


def pallidum(points: HeadPoints) -> FloatArray:
    """(N,) signed distance in mm."""
    return ellipsoid(PALLIDUM, points) + WOBBLE_MM * points.noise["wobble"]


def putamen(points: HeadPoints) -> FloatArray:
    """(N,) signed distance in mm."""
    return ellipsoid(PUTAMEN, points) + WOBBLE_MM * points.noise["wobble"]


def caudate(subject: Subject, points: HeadPoints) -> FloatArray:
    """(N,) signed distance in mm of head and tail, which lie along the lateral ventricle and move out with it."""
    size = subject.ventricle_size
    head = Ellipsoid((10, 22, 14.5 + 1.5 * size), (15, 11, 5.2), -0.45)
    tail = Ellipsoid((20, 4, 15 + 3 * size), (9, 24, 3.0), -0.05)
    return np.maximum(ellipsoid(head, points), ellipsoid(tail, points))


def claustrum(points: HeadPoints) -> FloatArray:
    """(N,) signed distance in mm of the thin sheet of grey matter between putamen and insula."""
    sheet = 1.0 - np.abs(from_midline(points) - 33.0 + 0.006 * (points.y - 8) ** 2)
    front_and_back = 0.25 * np.maximum(np.abs(points.y - 9) - 12, 0)
    top_and_bottom = np.clip(np.abs(points.z) - 12, 0, 9)
    return sheet - front_and_back - top_and_bottom


def third_ventricle(subject: Subject, points: HeadPoints) -> FloatArray:
    """(N,) signed distance in mm of the slit between the thalami."""
    across = points.x / (2.2 * subject.ventricle_size)
    return (1 - np.sqrt(((points.z + 2) / 11) ** 2 + ((points.y + 3) / 14) ** 2 + across**2)) * 2


def lateral_ventricles(subject: Subject, points: HeadPoints) -> FloatArray:
    """(N,) signed distance in mm of body, frontal horn and trigone of both lateral ventricles."""
    size = subject.ventricle_size
    curved = from_midline(points) - 8.5 - 0.005 * points.y**2
    up, along = (points.z - 20) / (10 * size**0.5), (points.y + 2) / 36
    body = (1 - np.sqrt(up**2 + along**2 + (curved / (5.5 * size)) ** 2)) * 5
    frontal_horn = ellipsoid(Ellipsoid((10, 27, 8.5), (15, 13 * size**0.4, 4.8 * size), -0.45), points)
    trigone = ellipsoid(Ellipsoid((6, -34, 24), (16, 15 * size**0.4, 5.5 * size), 0.45), points)
    return np.maximum.reduce([body, frontal_horn, trigone]) + 0.5 * WOBBLE_MM * points.noise["wobble"]


def septum(points: HeadPoints) -> FloatArray:
    """(N,) signed distance in mm of the thin wall that separates the lateral ventricles."""
    return 0.8 - np.abs(points.x)


def choroid_plexus(points: HeadPoints) -> FloatArray:
    """(N,) signed distance in mm of the plexus in the trigone, |z - 6 mm| < 8 mm."""
    tuft = 2.5 - np.hypot(points.y + 30, from_midline(points) - 23) + 0.5 * WOBBLE_MM * points.noise["wobble"]
    return tuft - np.maximum(np.abs(points.z - 6) - 6, 0)
