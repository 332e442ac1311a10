"""Trunk of the abdomen phantom: skin, fat, muscles, bones (vertebrae with discs, lower ribs) and the couch below."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..chest.wall import super_ellipse
from ..fields import FloatArray
from ..stack import Stack, ellipse, lay_over
from .canvas import UNLABELLED, Canvas, ellipsoid
from .subject import SIDES, AbdomenSubject

# Soft tissue.
OUTLINE_EXPONENT = 2.3
LARGEST_BUMP_SD = 2.5
SKIN_MM, SKIN_HU = 2.0, 28.0
FAT_HU, FAT_TEXTURE_HU = -104.0, 6.0
MUSCLE_TEXTURE_HU = 4.0
WALL_MM = (13.0, 12.0)  # muscle and ribs around the cavity, across and front to back
# Couch.
COUCH_GAP_MM, COUCH_MM, COUCH_SHELL_MM = 2.0, 20.0, 1.2
COUCH_HALF_WIDTH_MM = 168.0  # the part in the field of view
COUCH_SHELL_HU, COUCH_FOAM_HU = -350.0, -940.0

# Bones.
CORTEX_MM = 1.8
SPONGIOSA_TEXTURE_HU = 30.0
BODY_CORTEX_HU, ARCH_CORTEX_HU, ARCH_SPONGIOSA_HU = 560.0, 600.0, 230.0
BODY_HALF_AXES_MM = (16.5, 22.0)
VERTEBRA_PITCH_MM, DISC_BELOW_PEDICLE_MM, CORD_HU = 30.0, 21.0, 30.0
DISC_MM, DISC_HU, END_PLATE_MM = 3.5, 80.0, 1.5  # half the height of a disc, and the compact bone above and below it
RIB_PITCH_MM, RIB_HALF_AXES_MM = 25.0, (6.0, 4.0)
RIB_FALL_MM = 55.0  # descent towards the front per radian
LAST_RIB_MM = 120.0  # level below which the ribs thin out
FAR_MM = -9.0


@dataclass(frozen=True)
class Body:
    """Signed distances (slices, rows, columns) in mm, positive inside, and the fat that fills the body.

    Attributes:
        skin: Distance to the outline of the body.
        muscle: Distance to the outline of the muscles.
        cavity: Distance to the inside of the wall.
        fat_hu: HU of fat in every voxel.
    """

    skin: FloatArray
    muscle: FloatArray
    cavity: FloatArray
    fat_hu: FloatArray


def make_body(rng: np.random.Generator, subject: AbdomenSubject, stack: Stack) -> Body:
    """Draw the outlines of the body with a common irregularity."""
    bump = 2.5 * np.clip(stack.noise(rng, 35.0), -LARGEST_BUMP_SD, LARGEST_BUMP_SD)
    across, deep = subject.muscle_half_axes_mm

    def outline(larger_x: float, larger_y: float) -> FloatArray:
        half_y, half_x = np.float32(deep + larger_y), np.float32(across + larger_x)
        return np.asarray(super_ellipse(stack.y, stack.x, half_y, half_x, OUTLINE_EXPONENT) + bump, dtype=np.float32)

    return Body(
        skin=outline(subject.fat_mm, 0.9 * subject.fat_mm),
        muscle=outline(0, 0),
        cavity=outline(-WALL_MM[0], -WALL_MM[1]),
        fat_hu=np.float32(FAT_HU) + FAT_TEXTURE_HU * stack.noise(rng, 4.0),
    )


def paint_wall(rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, body: Body) -> None:
    """Paint skin, subcutaneous fat, muscles with planes of fat between their layers, and fat in the cavity."""
    fat = (body.fat_hu, body.fat_hu)
    canvas.paint((SKIN_HU, SKIN_HU), stack.occupancy(body.skin), UNLABELLED)
    canvas.paint(fat, stack.occupancy(body.skin - SKIN_MM), "fat")
    texture = MUSCLE_TEXTURE_HU * stack.noise(rng, 2.5)
    canvas.paint(subject.hu("muscle"), stack.occupancy(body.muscle), "muscle", texture=texture)
    plane = 1.2 - np.abs(body.muscle - 6 + 1.5 * stack.noise(rng, 12.0))
    canvas.paint(fat, 0.8 * stack.occupancy(plane), "fat")
    canvas.paint(fat, stack.occupancy(body.cavity), "fat")


def paint_back(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, *, body: Body, kidneys: FloatArray
) -> None:
    """Paint the muscles around the spine: erector spinae, psoas, quadratus lumborum and the crura of the diaphragm."""
    spine = subject.spine_y_mm
    erectors = ellipsoid(stack, (60, spine + 32, 0), (900, 24, 58), exponent=3.0) + stack.noise(rng, 10.0)
    # Fat separates the muscles of both sides along the midline.
    erectors = np.minimum(np.minimum(erectors, body.muscle - 3), np.abs(stack.x) - 0.8)
    parts = [erectors, _crura(stack, spine)]
    for side in SIDES.values():
        parts.append(ellipsoid(stack, (150, spine - 1, side * 35), (78, 16, 14), turn=side * 0.3))
        parts.append(ellipsoid(stack, (150, spine + 14, side * 58), (85, 7, 18), turn=side * 0.35))
    muscles = np.maximum.reduce(parts) + 0.6 * stack.noise(rng, 6.0)
    occupancy = stack.occupancy(np.minimum(muscles, -kidneys - 2))
    canvas.paint(subject.hu("muscle"), occupancy, "muscle", texture=MUSCLE_TEXTURE_HU * stack.noise(rng, 2.5))


def paint_couch(subject: AbdomenSubject, stack: Stack, *, hu: FloatArray, body_share: FloatArray) -> None:
    """Paint a dished couch of foam in a carbon-fibre shell; `body_share` is the fraction of each voxel in the body."""
    back = subject.muscle_half_axes_mm[1] + 0.9 * subject.fat_mm
    centre = back + COUCH_GAP_MM + COUCH_MM / 2 - subject.couch_curvature * stack.x**2
    couch = np.minimum(COUCH_MM / 2 - np.abs(stack.y - centre), COUCH_HALF_WIDTH_MM - np.abs(stack.x))
    lay_over(hu, COUCH_SHELL_HU, stack.occupancy(couch) * (1 - body_share))
    lay_over(hu, COUCH_FOAM_HU, stack.occupancy(couch - COUCH_SHELL_MM) * (1 - body_share))


def _crura(stack: Stack, spine_y_mm: float) -> FloatArray:
    """Compute the distance to the crura, which pass the aorta on both sides and end at the lumbar spine."""
    courses = [
        ((-20, spine_y_mm - 32, -14), (70, spine_y_mm - 24, -8), (130, spine_y_mm - 18, -10)),
        ((-20, spine_y_mm - 32, 32), (70, spine_y_mm - 24, 25), (125, spine_y_mm - 15, 20)),
    ]
    return np.maximum.reduce([stack.path(course, 4.0) for course in courses])


def paint_bones(rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, body: Body) -> None:
    """Paint spine and ribs, which contrast agent does not change."""
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
    """Compute the distance to pedicles, laminae, transverse and spinous processes of all vertebrae."""
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
    """Compute the distance in mm of each level (slices, 1, 1) from the middle of the nearest disc."""
    disc = subject.vertebra_phase_mm + DISC_BELOW_PEDICLE_MM
    from_disc = (stack.z - disc + VERTEBRA_PITCH_MM / 2) % VERTEBRA_PITCH_MM - VERTEBRA_PITCH_MM / 2
    return np.asarray(np.abs(from_disc), dtype=np.float32)


def _ribs(subject: AbdomenSubject, stack: Stack, body: Body) -> FloatArray:
    """Compute the distance to the ribs, oblique rings in the wall at the sides and behind."""
    angle = np.arctan2(stack.y, np.abs(stack.x))
    level = stack.z + RIB_FALL_MM * (angle - 1.2) + subject.rib_phase_mm
    from_rib = (level + RIB_PITCH_MM / 2) % RIB_PITCH_MM - RIB_PITCH_MM / 2
    distance = ellipse(from_rib, body.muscle - 8, RIB_HALF_AXES_MM)
    distance = distance - 20 * np.clip((stack.z - LAST_RIB_MM) / 30, 0, 1)
    return np.asarray(np.where((angle < -0.2) | (angle > 1.3), FAR_MM, distance), dtype=np.float32)
