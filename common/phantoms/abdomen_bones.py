"""Bones of the abdomen phantom: vertebrae with their discs, and the lower ribs."""

from __future__ import annotations

import numpy as np

from .abdomen_canvas import UNLABELLED, Canvas
from .abdomen_subject import SIDES, AbdomenSubject
from .abdomen_wall import Body
from .chest_stack import Stack, ellipse
from .fields import FloatArray

CORTEX_MM = 1.8
SPONGIOSA_TEXTURE_HU = 30.0
BODY_CORTEX_HU, ARCH_CORTEX_HU, ARCH_SPONGIOSA_HU = 560.0, 600.0, 230.0
BODY_HALF_AXES_MM = (16.5, 22.0)
VERTEBRA_PITCH_MM, DISC_BELOW_PEDICLE_MM, CORD_HU = 30.0, 21.0, 30.0
DISC_MM, DISC_HU, END_PLATE_MM = 3.5, 80.0, 1.5  # half the height of a disc, and the compact bone above and below it
RIB_PITCH_MM, RIB_HALF_AXES_MM = 25.0, (6.0, 4.0)
RIB_FALL_MM = 55.0  # a radian, towards the front
LAST_RIB_MM = 120.0  # the ribs thin out below
FAR_MM = -9.0


def paint_bones(rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, body: Body) -> None:
    """Spine and ribs; the agent does not change them."""
    spine_y = stack.y - subject.spine_y_mm
    texture = SPONGIOSA_TEXTURE_HU * stack.noise(rng, 2.5)
    vertebra = ellipse(spine_y, stack.x, BODY_HALF_AXES_MM) + 0.6 * stack.noise(rng, 8.0)
    cord = np.broadcast_to(ellipse(spine_y - 22, stack.x, (8.0, 10.0)), stack.shape)
    arches = np.minimum(_arches(subject, stack), body.skin - 5)
    ribs = _ribs(subject, stack, body)
    bones = [
        (vertebra, BODY_CORTEX_HU, subject.spongiosa_hu),
        (arches, ARCH_CORTEX_HU, ARCH_SPONGIOSA_HU),
        (ribs, ARCH_CORTEX_HU, ARCH_SPONGIOSA_HU),
    ]
    for distance, cortex, spongiosa in bones:
        canvas.paint((cortex, cortex), stack.occupancy(distance), "bone")
        canvas.paint((spongiosa, spongiosa), stack.occupancy(distance - CORTEX_MM), "bone", texture=texture)
    from_disc = _distance_to_disc(subject, stack)
    whole = stack.occupancy(vertebra)
    canvas.paint((BODY_CORTEX_HU, BODY_CORTEX_HU), whole * (from_disc < DISC_MM + END_PLATE_MM), "bone")
    canvas.paint((DISC_HU, DISC_HU), whole * (from_disc < DISC_MM), UNLABELLED)
    canvas.paint((CORD_HU, CORD_HU), stack.occupancy(np.minimum(cord, -vertebra)), UNLABELLED)


def _arches(subject: AbdomenSubject, stack: Stack) -> FloatArray:
    """Distance to pedicles, laminae, transverse and spinous processes of all vertebrae."""
    y = subject.spine_y_mm
    segments, radii = [], []
    for level in np.arange(subject.vertebra_phase_mm - 2 * VERTEBRA_PITCH_MM, 260, VERTEBRA_PITCH_MM):
        for side in SIDES.values():
            segments.append(((level, y + 11, 14 * side), (level + 2, y + 27, 14 * side)))  # pedicle
            segments.append(((level - 4, y + 28, 15 * side), (level + 14, y + 36, 2 * side)))  # lamina
            segments.append(((level + 18, y + 27, 15 * side), (level + 28, y + 27, 15 * side)))  # facet joint
            segments.append(((level + 2, y + 25, 15 * side), (level - 2, y + 28, 40 * side)))  # transverse process
            radii += [4.4, 3.6, 5.0, 3.4]
        segments.append(((level + 8, y + 37, 0), (level + 16, y + 56, 0)))  # spinous process
        radii.append(3.6)
    return stack.tubes(np.array(segments), np.array(radii))


def _distance_to_disc(subject: AbdomenSubject, stack: Stack) -> FloatArray:
    """Distance in mm of each level (slices, 1, 1) from the middle of the nearest disc."""
    disc = subject.vertebra_phase_mm + DISC_BELOW_PEDICLE_MM
    from_disc = (stack.z - disc + VERTEBRA_PITCH_MM / 2) % VERTEBRA_PITCH_MM - VERTEBRA_PITCH_MM / 2
    return np.asarray(np.abs(from_disc), dtype=np.float32)


def _ribs(subject: AbdomenSubject, stack: Stack, body: Body) -> FloatArray:
    """Distance to the ribs, oblique rings in the wall at the sides and behind."""
    angle = np.arctan2(stack.y, np.abs(stack.x))
    level = stack.z + RIB_FALL_MM * (angle - 1.2) + subject.rib_phase_mm
    from_rib = (level + RIB_PITCH_MM / 2) % RIB_PITCH_MM - RIB_PITCH_MM / 2
    distance = ellipse(from_rib, body.muscle - 8, RIB_HALF_AXES_MM)
    distance = distance - 20 * np.clip((stack.z - LAST_RIB_MM) / 30, 0, 1)
    return np.asarray(np.where((angle < -0.2) | (angle > 1.3), FAR_MM, distance), dtype=np.float32)
