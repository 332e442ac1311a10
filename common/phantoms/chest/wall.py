"""Chest wall of the phantom: outlines, skin, fat, muscle, bones, and the couch below.

The outlines are signed distances in mm (positive inside) that can be sampled anywhere: they take coordinates in the
patient's frame (see `subject`) that broadcast against each other. Bones are ribs with cartilage, sternum, scapulae and
spine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..fields import FloatArray
from ..stack import Stack, ellipse, lay_over
from .subject import ChestSubject

# Soft tissue.
SKIN_MM, SKIN_HU = 1.8, 25.0
FAT_HU, FAT_TEXTURE_HU = -105.0, 6.0
MUSCLE_HU, MUSCLE_TEXTURE_HU = 52.0, 4.0
MEDIASTINAL_FAT_HU = -95.0
# Couch.
COUCH_GAP_MM = 2.0  # clothes
COUCH_MM, COUCH_SHELL_MM, COUCH_HALF_WIDTH_MM = 20.0, 1.2, 190.0
COUCH_CURVATURE = 0.0006  # rise of its sides in 1/mm
COUCH_SHELL_HU, COUCH_FOAM_HU = -350.0, -940.0

# Bones.
CORTEX_MM = 1.3
SPONGIOSA_TEXTURE_HU = 45.0
RIB_PITCH_MM, RIB_HALF_HEIGHT_MM, RIB_HALF_THICKNESS_MM = 25.0, 6.5, 4.6
RIB_FALL_MM = 55.0  # descent towards the front per radian
CARTILAGE_ANGLE_RAD, STERNUM_ANGLE_RAD = -0.75, -1.25  # from the side; the back is at +pi/2
CARTILAGE_HU = 105.0
VERTEBRA_PITCH_MM, DISC_MM, DISC_HU = 26.0, 3.0, 85.0
CORD_HU, PARASPINAL_MUSCLE_HU = 28.0, 52.0
SCAPULA_END_MM = 130.0  # level z of its lower tip
FAR_MM = -9.0

# Outlines.
BODY_EXPONENT = 2.4
CAGE_EXPONENT = 2.2
LUNG_HEIGHT_MM = 240.0
WALL_MM = (17.0, 14.0)  # muscle and ribs around the rib cage, across and front to back
HEART_ANGLE_RAD = np.deg2rad(35)
PERICARDIUM_MM = 4.0  # between heart and lung


@dataclass(frozen=True)
class Wall:
    """Signed distances (slices, rows, columns) in mm, positive inside, with a common irregularity.

    Attributes:
        bump: Irregularity added to the analytic outlines.
        skin: Distance to the outline of the body.
        cage: Distance to the inner outline of the rib cage.
    """

    bump: FloatArray
    skin: FloatArray
    cage: FloatArray


def make_wall(rng: np.random.Generator, subject: ChestSubject, stack: Stack) -> Wall:
    """Draw the outlines with their irregularity."""
    bump = np.float32(2.5) * stack.noise(rng, 40.0, across_mm=30.0)
    outline = skin(subject, stack.y, stack.x) + bump
    return Wall(bump, outline, cage(subject, stack.z, stack.y, stack.x) + bump)


def paint_wall(rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, hu: FloatArray, wall: Wall) -> None:
    """Paint skin, subcutaneous fat, muscle with planes of fat, and fat in the rib cage where the organs will be."""
    lay_over(hu, SKIN_HU, stack.occupancy(wall.skin))
    fat = FAT_HU + FAT_TEXTURE_HU * stack.noise(rng, 3.0)
    lay_over(hu, fat, stack.occupancy(wall.skin - SKIN_MM))
    depth_mm = muscle(subject, stack.y, stack.x) + wall.bump + 1.5 * stack.noise(rng, 12.0)
    lay_over(hu, MUSCLE_HU + MUSCLE_TEXTURE_HU * stack.noise(rng, 2.0), stack.occupancy(depth_mm))
    # The layers of the wall, some 6 mm thick, are separated where a wide noise is near a multiple of its step.
    depth = depth_mm + 3.5 * stack.noise(rng, 18.0)
    plane = 0.9 - np.abs((depth + 3) % 6.5 - 3.25)
    lay_over(hu, FAT_HU, 0.75 * stack.occupancy(np.minimum(plane, depth_mm - 3), softness=2.5))
    lay_over(hu, MEDIASTINAL_FAT_HU, stack.occupancy(wall.cage + 2.5 + 0.8 * stack.noise(rng, 10.0)))


def couch_bottom_mm(subject: ChestSubject) -> float:
    """Return y of the lowest point of the couch."""
    return skin_half_axes_mm(subject)[1] + COUCH_GAP_MM + COUCH_MM


def paint_couch(subject: ChestSubject, stack: Stack, *, hu: FloatArray, wall: Wall) -> None:
    """Paint a dished couch of foam in a carbon-fibre shell."""
    centre = couch_bottom_mm(subject) - COUCH_MM / 2 - COUCH_CURVATURE * stack.x**2
    couch = np.minimum(COUCH_MM / 2 - np.abs(stack.y - centre), COUCH_HALF_WIDTH_MM - np.abs(stack.x))
    outside = stack.occupancy(-wall.skin)
    lay_over(hu, COUCH_SHELL_HU, stack.occupancy(couch) * outside)
    lay_over(hu, COUCH_FOAM_HU, stack.occupancy(couch - COUCH_SHELL_MM) * outside)


def paint_bones(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, hu: FloatArray, wall: Wall
) -> FloatArray:
    """Paint bones, muscles of the back, discs and cord, and return the occupancy of bone."""
    texture = SPONGIOSA_TEXTURE_HU * stack.noise(rng, 1.0)
    spine_y = stack.y - spine_front_mm(subject)
    back = ellipse(spine_y - 31, stack.x, (17.0, 42.0)) + stack.noise(rng, 10.0)
    lay_over(hu, PARASPINAL_MUSCLE_HU, stack.occupancy(np.minimum(back, np.minimum(wall.skin - 8, -wall.cage - 2))))
    ribs, cartilage = _ribs(subject, stack, wall)
    lay_over(hu, CARTILAGE_HU, stack.occupancy(cartilage))
    cord = ellipse(spine_y - 23, stack.x, (8.0, 9.5))
    vertebrae = np.minimum(_vertebral_arches(subject, stack), wall.skin - 5)
    body = ellipse(spine_y - 2, stack.x, (15.0, 18.0)) + 0.6 * stack.noise(rng, 8.0)
    bones = [
        (ribs, 0.8, subject.cortex_hu, 230.0),
        (_sternum(subject, stack, wall), 1.0, 0.75 * subject.cortex_hu, 150.0),
        (_scapulae(subject, stack, wall), 1.0, subject.cortex_hu, 300.0),
        (vertebrae, 1.0, 0.9 * subject.cortex_hu, 260.0),
        (body, 1.0, 0.8 * subject.cortex_hu, subject.spongiosa_hu),
    ]
    for distance, cortex, compact_hu, spongiosa_hu in bones:
        lay_over(hu, compact_hu, stack.occupancy(distance))
        lay_over(hu, spongiosa_hu + texture, stack.occupancy(distance - cortex * CORTEX_MM))
    disc = stack.occupancy(body) * _disc_share(subject, stack)
    lay_over(hu, DISC_HU, disc)
    lay_over(hu, CORD_HU, stack.occupancy(np.minimum(cord, 1.0 - body)))
    outline = np.maximum.reduce([distance for distance, *_ in bones])
    return np.asarray(stack.occupancy(np.minimum(outline, -cord)) * (1 - disc), dtype=np.float32)


def _ribs(subject: ChestSubject, stack: Stack, wall: Wall) -> tuple[FloatArray, FloatArray]:
    """Compute the distances to the ribs, oblique rings around the cage, and to the cartilage at their front ends."""
    ring = cage(subject, stack.z, stack.y, stack.x, larger=RIB_HALF_THICKNESS_MM + 1.0) + wall.bump
    angle = np.arctan2(stack.y, np.abs(stack.x))
    level = stack.z + RIB_FALL_MM * (angle - 1.2) + subject.rib_phase_mm
    from_rib = (level + RIB_PITCH_MM / 2) % RIB_PITCH_MM - RIB_PITCH_MM / 2
    distance = ellipse(from_rib, ring, (RIB_HALF_HEIGHT_MM, RIB_HALF_THICKNESS_MM))
    near_midline = np.abs(stack.x) < 22
    bony = np.where((angle < CARTILAGE_ANGLE_RAD) | near_midline, FAR_MM, distance)
    front = (angle < CARTILAGE_ANGLE_RAD) & (angle > STERNUM_ANGLE_RAD)
    return bony, np.where(front, distance, FAR_MM)


def _sternum(subject: ChestSubject, stack: Stack, wall: Wall) -> FloatArray:
    """Compute the distance to the sternum, a slightly hollow plate in front of the cage."""
    _, cage_y = cage_half_axes_mm(subject, stack.z)
    half_width = 17 + 6 * np.exp(-(((stack.z - 45) / 25) ** 2))
    plate = ellipse(stack.y + cage_y + 7 - 0.004 * stack.x**2, stack.x, (6.0, half_width))
    return np.asarray(np.minimum(plate, wall.skin - 4), dtype=np.float32)


def _scapulae(subject: ChestSubject, stack: Stack, wall: Wall) -> FloatArray:
    """Compute the distance to the shoulder blades: curved plates at the back of the wall that end in a tip."""
    across, deep = subject.muscle_half_axes_mm
    angle = 0.85
    a, b = np.abs(stack.x) - 0.70 * across, stack.y - 0.74 * deep
    along = a * np.cos(angle) - b * np.sin(angle)
    normal = a * np.sin(angle) + b * np.cos(angle) + 0.004 * along**2
    length = np.clip(48 * (SCAPULA_END_MM - stack.z) / 60, 0, 48)
    blade = ellipse(normal, along, (3.2, np.maximum(length, 1.0)))
    blade = np.where(length > 3, blade, FAR_MM)
    return np.asarray(np.minimum(np.minimum(blade, wall.skin - 8), -wall.cage - 10), dtype=np.float32)


def _vertebral_arches(subject: ChestSubject, stack: Stack) -> FloatArray:
    """Compute the distance to pedicles, laminae, transverse and spinous processes of all vertebrae."""
    y = spine_front_mm(subject)
    segments, radii = [], []
    first = subject.vertebra_phase_mm - 2 * VERTEBRA_PITCH_MM
    for level in np.arange(first, 300, VERTEBRA_PITCH_MM):
        for side in (-1, 1):
            segments.append(((level, y + 12, 12 * side), (level + 2, y + 27, 13 * side)))  # pedicle
            segments.append(((level - 3, y + 28, 13 * side), (level + 12, y + 35, 2 * side)))  # lamina
            segments.append(((level + 1, y + 26, 13 * side), (level - 3, y + 33, 38 * side)))  # transverse process
            radii += [4.2, 4.0, 4.2]
        segments.append(((level + 6, y + 35, 0), (level + 28, y + 50, 0)))  # spinous process
        radii.append(3.6)
    return stack.tubes(np.array(segments), np.array(radii))


def _disc_share(subject: ChestSubject, stack: Stack) -> FloatArray:
    """Compute the fraction of intervertebral disc at each level (slices, 1, 1)."""
    level = (stack.z - subject.vertebra_phase_mm + VERTEBRA_PITCH_MM / 2) % VERTEBRA_PITCH_MM
    return np.asarray(np.clip(DISC_MM - np.abs(level - DISC_MM), 0, 1), dtype=np.float32)


def super_ellipse(y: FloatArray, x: FloatArray, half_y: FloatArray, half_x: FloatArray, exponent: float) -> FloatArray:
    """Compute the distance to a super-ellipse around the origin, exact on the smaller half axis."""
    total = (np.abs(x) / half_x) ** exponent + (np.abs(y) / half_y) ** exponent
    return (1 - total ** np.float32(1 / exponent)) * np.minimum(half_x, half_y)


def skin_half_axes_mm(subject: ChestSubject) -> tuple[float, float]:
    """Return the half axes of the body, across (x) and front to back (y)."""
    across, deep = subject.muscle_half_axes_mm
    return across + subject.fat_mm + 6, deep + 0.8 * subject.fat_mm + 4


def cage_half_axes_mm(subject: ChestSubject, z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Compute the inner half axes (x, y) of the rib cage, which widens downwards."""
    height = z / LUNG_HEIGHT_MM
    widening = np.clip(0.80 + 0.55 * height - 0.30 * height**2, 0.75, 1.05)
    across, deep = subject.muscle_half_axes_mm
    return (across - WALL_MM[0]) * widening, (deep - WALL_MM[1]) * np.clip(widening, 0.85, 1)


def spine_front_mm(subject: ChestSubject) -> float:
    """Return y of the centre of the vertebral bodies."""
    return (subject.muscle_half_axes_mm[1] - WALL_MM[1]) * 0.97 - 21


def skin(subject: ChestSubject, y: FloatArray, x: FloatArray) -> FloatArray:
    """Compute the distance to the outline of the body."""
    half_x, half_y = skin_half_axes_mm(subject)
    return super_ellipse(y, x, np.float32(half_y), np.float32(half_x), BODY_EXPONENT)


def muscle(subject: ChestSubject, y: FloatArray, x: FloatArray) -> FloatArray:
    """Compute the distance to the outline of the muscles of the chest wall."""
    half_x, half_y = subject.muscle_half_axes_mm
    return super_ellipse(y, x, np.float32(half_y), np.float32(half_x), BODY_EXPONENT)


def cage(subject: ChestSubject, z: FloatArray, y: FloatArray, x: FloatArray, *, larger: float = 0.0) -> FloatArray:
    """Compute the distance to the inner outline of the rib cage, or of one that is `larger` by so many mm."""
    half_x, half_y = cage_half_axes_mm(subject, z)
    return super_ellipse(y, x, half_y + np.float32(larger), half_x + np.float32(larger), CAGE_EXPONENT)


def mediastinum_shape(subject: ChestSubject, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Compute the distance to the space between the lungs without heart and vessels: a septum with the spine behind."""
    _, cage_y = cage_half_axes_mm(subject, z)
    roots = np.exp(-(((z - 112) / 40) ** 2) - ((y - 2) / 28) ** 2)
    # The lungs nearly touch behind the sternum, and reach in front of the spine below their roots.
    narrowing = np.clip((-y - 0.40 * cage_y) / 1.8, 0, 14)
    septum = 17 + 11 * roots - narrowing - np.abs(x - 2)
    spine = ellipse(y - spine_front_mm(subject) - 6, x, (27.0, 21.5))
    return np.maximum(septum, spine)


def heart_shape(subject: ChestSubject, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Compute the distance to the heart, an ellipsoid whose long axis points forward and to the left."""
    centre_z, centre_y, centre_x = subject.heart_centre_mm
    half_z, half_y, half_x = subject.heart_half_axes_mm
    cos, sin = np.float32(np.cos(HEART_ANGLE_RAD)), np.float32(np.sin(HEART_ANGLE_RAD))
    along = (x - centre_x) * cos - (y - centre_y) * sin
    across = (x - centre_x) * sin + (y - centre_y) * cos
    radius = np.sqrt(((z - centre_z) / half_z) ** 2 + (across / half_y) ** 2 + (along / half_x) ** 2)
    return (1 - radius) * half_y


def diaphragm(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Compute the distance below the domes of the diaphragm; the right one stands higher."""
    dome = 26 * np.exp(-(((np.abs(x) - 70) / 55) ** 2) - ((y + 10) / 60) ** 2)
    right = 12 / (1 + np.exp(np.clip(x / 8, -30, 30)))
    return z - (218 - dome - right)


def lung(subject: ChestSubject, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Compute the distance to the outline of the lungs, without the irregularities of the grid."""
    outside = np.maximum(mediastinum_shape(subject, z, y, x), heart_shape(subject, z, y, x) + PERICARDIUM_MM)
    outside = np.maximum(outside, diaphragm(z, y, x))
    return np.minimum(cage(subject, z, y, x), -outside)
