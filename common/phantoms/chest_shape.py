"""Outlines of the chest phantom as signed distances in mm (positive inside) that can be sampled anywhere.

All functions take coordinates in the patient's frame (see `chest_subject`) that broadcast against each other.
"""

from __future__ import annotations

import numpy as np

from .chest_stack import ellipse
from .chest_subject import ChestSubject
from .fields import FloatArray

BODY_EXPONENT = 2.4
CAGE_EXPONENT = 2.2
LUNG_HEIGHT_MM = 240.0
WALL_MM = (17.0, 14.0)  # muscle and ribs around the rib cage, across and front to back
HEART_ANGLE_RAD = np.deg2rad(35)
PERICARDIUM_MM = 4.0  # between heart and lung


def super_ellipse(y: FloatArray, x: FloatArray, half_y: FloatArray, half_x: FloatArray, exponent: float) -> FloatArray:
    """Distance to a super-ellipse around the origin, exact on the smaller half axis."""
    total = (np.abs(x) / half_x) ** exponent + (np.abs(y) / half_y) ** exponent
    return (1 - total ** np.float32(1 / exponent)) * np.minimum(half_x, half_y)


def skin_half_axes_mm(subject: ChestSubject) -> tuple[float, float]:
    """Half axes of the body, across (x) and front to back (y)."""
    across, deep = subject.muscle_half_axes_mm
    return across + subject.fat_mm + 6, deep + 0.8 * subject.fat_mm + 4


def cage_half_axes_mm(subject: ChestSubject, z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Inner half axes (x, y) of the rib cage, which widens downwards."""
    height = z / LUNG_HEIGHT_MM
    widening = np.clip(0.80 + 0.55 * height - 0.30 * height**2, 0.75, 1.05)
    across, deep = subject.muscle_half_axes_mm
    return (across - WALL_MM[0]) * widening, (deep - WALL_MM[1]) * np.clip(widening, 0.85, 1)


def spine_front_mm(subject: ChestSubject) -> float:
    """y of the centre of the vertebral bodies."""
    return (subject.muscle_half_axes_mm[1] - WALL_MM[1]) * 0.97 - 21


def skin(subject: ChestSubject, y: FloatArray, x: FloatArray) -> FloatArray:
    """Distance to the outline of the body."""
    half_x, half_y = skin_half_axes_mm(subject)
    return super_ellipse(y, x, np.float32(half_y), np.float32(half_x), BODY_EXPONENT)


def muscle(subject: ChestSubject, y: FloatArray, x: FloatArray) -> FloatArray:
    """Distance to the outline of the muscles of the chest wall."""
    half_x, half_y = subject.muscle_half_axes_mm
    return super_ellipse(y, x, np.float32(half_y), np.float32(half_x), BODY_EXPONENT)


def cage(subject: ChestSubject, z: FloatArray, y: FloatArray, x: FloatArray, *, larger: float = 0.0) -> FloatArray:
    """Distance to the inner outline of the rib cage, or of one ``larger`` by that many mm."""
    half_x, half_y = cage_half_axes_mm(subject, z)
    return super_ellipse(y, x, half_y + np.float32(larger), half_x + np.float32(larger), CAGE_EXPONENT)


def mediastinum(subject: ChestSubject, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Distance to the space between the lungs, without heart and great vessels: a septum with the spine behind."""
    _, cage_y = cage_half_axes_mm(subject, z)
    roots = np.exp(-(((z - 112) / 40) ** 2) - ((y - 2) / 28) ** 2)
    # The lungs nearly touch behind the sternum, and reach in front of the spine below their roots.
    narrowing = np.clip((-y - 0.40 * cage_y) / 1.8, 0, 14)
    septum = 17 + 11 * roots - narrowing - np.abs(x - 2)
    spine = ellipse(y - spine_front_mm(subject) - 6, x, (27.0, 21.5))
    return np.maximum(septum, spine)


def heart(subject: ChestSubject, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Distance to the heart, an ellipsoid whose long axis points forward and to the left."""
    centre_z, centre_y, centre_x = subject.heart_centre_mm
    half_z, half_y, half_x = subject.heart_half_axes_mm
    cos, sin = np.float32(np.cos(HEART_ANGLE_RAD)), np.float32(np.sin(HEART_ANGLE_RAD))
    along = (x - centre_x) * cos - (y - centre_y) * sin
    across = (x - centre_x) * sin + (y - centre_y) * cos
    radius = np.sqrt(((z - centre_z) / half_z) ** 2 + (across / half_y) ** 2 + (along / half_x) ** 2)
    return (1 - radius) * half_y


def diaphragm(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Distance below the domes of the diaphragm; the right one stands higher."""
    dome = 26 * np.exp(-(((np.abs(x) - 70) / 55) ** 2) - ((y + 10) / 60) ** 2)
    right = 12 / (1 + np.exp(np.clip(x / 8, -30, 30)))
    return z - (218 - dome - right)


def lung(subject: ChestSubject, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Distance to the outline of the lungs, without the irregularities of the grid."""
    outside = np.maximum(mediastinum(subject, z, y, x), heart(subject, z, y, x) + PERICARDIUM_MM)
    outside = np.maximum(outside, diaphragm(z, y, x))
    return np.minimum(cage(subject, z, y, x), -outside)
