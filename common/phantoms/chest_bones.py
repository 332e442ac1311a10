"""Bones of the chest phantom: ribs with cartilage, sternum, scapulae and spine."""

from __future__ import annotations

import numpy as np

from . import chest_shape as shape
from .chest_stack import Stack, ellipse, lay_over
from .chest_subject import ChestSubject
from .chest_wall import Wall
from .fields import FloatArray

CORTEX_MM = 1.3
SPONGIOSA_TEXTURE_HU = 45.0
RIB_PITCH_MM, RIB_HALF_HEIGHT_MM, RIB_HALF_THICKNESS_MM = 25.0, 6.5, 4.6
RIB_FALL_MM = 55.0  # a radian, towards the front
CARTILAGE_ANGLE_RAD, STERNUM_ANGLE_RAD = -0.75, -1.25  # from the side; the back is at +pi/2
CARTILAGE_HU = 105.0
VERTEBRA_PITCH_MM, DISC_MM, DISC_HU = 26.0, 3.0, 85.0
CORD_HU, PARASPINAL_MUSCLE_HU = 28.0, 52.0
SCAPULA_END_MM = 130.0  # z of its lower tip
FAR_MM = -9.0


def paint_bones(
    rng: np.random.Generator, subject: ChestSubject, stack: Stack, *, hu: FloatArray, wall: Wall
) -> FloatArray:
    """Bones and what belongs to them (muscles of the back, discs, cord); returns the occupancy of bone."""
    texture = SPONGIOSA_TEXTURE_HU * stack.noise(rng, 1.0)
    spine_y = stack.y - shape.spine_front_mm(subject)
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
    """Distances to the ribs, oblique rings around the cage, and to the cartilage at their front ends."""
    ring = shape.cage(subject, stack.z, stack.y, stack.x, larger=RIB_HALF_THICKNESS_MM + 1.0) + wall.bump
    angle = np.arctan2(stack.y, np.abs(stack.x))
    level = stack.z + RIB_FALL_MM * (angle - 1.2) + subject.rib_phase_mm
    from_rib = (level + RIB_PITCH_MM / 2) % RIB_PITCH_MM - RIB_PITCH_MM / 2
    distance = ellipse(from_rib, ring, (RIB_HALF_HEIGHT_MM, RIB_HALF_THICKNESS_MM))
    near_midline = np.abs(stack.x) < 22
    bony = np.where((angle < CARTILAGE_ANGLE_RAD) | near_midline, FAR_MM, distance)
    front = (angle < CARTILAGE_ANGLE_RAD) & (angle > STERNUM_ANGLE_RAD)
    return bony, np.where(front, distance, FAR_MM)


def _sternum(subject: ChestSubject, stack: Stack, wall: Wall) -> FloatArray:
    """Distance to the sternum, a slightly hollow plate in front of the cage."""
    _, cage_y = shape.cage_half_axes_mm(subject, stack.z)
    half_width = 17 + 6 * np.exp(-(((stack.z - 45) / 25) ** 2))
    plate = ellipse(stack.y + cage_y + 7 - 0.004 * stack.x**2, stack.x, (6.0, half_width))
    return np.asarray(np.minimum(plate, wall.skin - 4), dtype=np.float32)


def _scapulae(subject: ChestSubject, stack: Stack, wall: Wall) -> FloatArray:
    """Distance to the shoulder blades: curved plates in the wall behind, which end with a tip."""
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
    """Distance to pedicles, laminae, transverse and spinous processes of all vertebrae."""
    y = shape.spine_front_mm(subject)
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
    """Share of intervertebral disc at each level (slices, 1, 1)."""
    level = (stack.z - subject.vertebra_phase_mm + VERTEBRA_PITCH_MM / 2) % VERTEBRA_PITCH_MM
    return np.asarray(np.clip(DISC_MM - np.abs(level - DISC_MM), 0, 1), dtype=np.float32)
