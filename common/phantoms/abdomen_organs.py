"""Solid organs of the upper abdomen phantom: liver, gallbladder, spleen, pancreas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .abdomen_canvas import UNLABELLED, Canvas, bent_tube, ellipsoid
from .abdomen_subject import AbdomenSubject
from .abdomen_wall import Body
from .chest_stack import Stack
from .fields import FloatArray

# Lobes of the liver: centre and half axes (z, y, x), and the turn in the plane.
RIGHT_LOBE = ((60.0, -4.0, -58.0), (105.0, 82.0, 74.0), 0.0)
LEFT_LOBE = ((40.0, -48.0, 8.0), (60.0, 36.0, 78.0), 0.12)
LOBES_BLEND_MM = 12.0
BILE_HU, GALLBLADDER_WALL_MM = 8.0, 1.6
PANCREAS_RADII_MM = (13.0, 10.0, 9.0, 9.0, 8.0)
LIVER_TEXTURE_HU = ((2.5, 4.0), (9.0, 2.0))  # pairs of filter width in mm and SD in HU


@dataclass(frozen=True)
class Organs:
    """Signed distances (slices, rows, columns) in mm, positive inside."""

    liver: FloatArray
    spleen: FloatArray
    pancreas: FloatArray


def make_organs(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, *, body: Body, kidneys: FloatArray
) -> Organs:
    """Outlines of the organs inside the wall; none overlaps another or the ``kidneys``, whose distance is given."""
    renal_fat = kidneys + 4 + 5 * subject.visceral_fat
    liver = _liver(rng, subject, stack, body=body, renal_fat=renal_fat)
    spleen = np.minimum(_spleen(rng, subject, stack), np.minimum(body.cavity - 3, -liver - 3))
    spleen = np.minimum(spleen, -renal_fat)
    pancreas = bent_tube(stack, subject.pancreas_mm, PANCREAS_RADII_MM, margin=8.0)
    pancreas = pancreas + 1.6 * stack.noise(rng, 4.0)  # lobulated
    return Organs(liver, spleen, np.minimum(pancreas, np.minimum(-liver - 1, -spleen - 1)))


def paint_organs(rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, canvas: Canvas, o: Organs) -> None:
    """Spleen, pancreas and liver, each with its texture."""
    fine = stack.noise(rng, 2.5)
    canvas.paint(subject.hu("spleen"), stack.occupancy(o.spleen), "spleen", texture=4 * fine)
    texture = 6 * stack.noise(rng, 4.0)
    canvas.paint(subject.hu("pancreas"), stack.occupancy(o.pancreas), "pancreas", texture=texture)
    texture = sum((sd * stack.noise(rng, width) for width, sd in LIVER_TEXTURE_HU), np.float32(0))
    canvas.paint(subject.hu("liver"), stack.occupancy(o.liver), "liver", texture=texture)


def paint_gallbladder(rng: np.random.Generator, stack: Stack, canvas: Canvas, body: Body) -> None:
    """A pear of bile below the liver, with a thin wall; no agent reaches it in this phase."""
    bladder = ellipsoid(stack, (98, -40, -50), (30, 20, 13), turn=0.4) + 0.8 * stack.noise(rng, 8.0)
    bladder = np.minimum(bladder, body.cavity - 4)
    canvas.paint((40.0, 75.0), stack.occupancy(bladder), UNLABELLED)
    canvas.paint((BILE_HU, BILE_HU), stack.occupancy(bladder - GALLBLADDER_WALL_MM), UNLABELLED)


def points_in_liver(rng: np.random.Generator, count: int) -> FloatArray:
    """About ``count`` points (N, 3) in mm, uniform in the two lobes without their irregularity."""
    points = rng.uniform((0, -90, -130), (155, 80, 80), (8 * count, 3))
    inside = np.zeros(len(points), dtype=bool)
    for centre, half_axes, _ in (RIGHT_LOBE, LEFT_LOBE):
        inside |= (((points - centre) / (0.93 * np.array(half_axes))) ** 2).sum(axis=1) < 1
    return points[inside][:count]


def _liver(
    rng: np.random.Generator, subject: AbdomenSubject, stack: Stack, *, body: Body, renal_fat: FloatArray
) -> FloatArray:
    right, left = (ellipsoid(stack, c, axes, turn=turn) / LOBES_BLEND_MM for c, axes, turn in (RIGHT_LOBE, LEFT_LOBE))
    lobes = LOBES_BLEND_MM * np.logaddexp(right, left) - 4 + 3.5 * stack.noise(rng, 14.0)
    retroperitoneum = ellipsoid(stack, (60, subject.spine_y_mm - 6, 0), (300, 40, 44))
    outside = np.maximum.reduce([retroperitoneum + 2, renal_fat, _fissure(rng, stack)])
    return np.asarray(np.minimum(np.minimum(lobes, body.cavity - 2), -outside), dtype=np.float32)


def _fissure(rng: np.random.Generator, stack: Stack) -> FloatArray:
    """Distance to the cleft of the round ligament, a wedge of fat that parts the lobes from in front."""
    tip, midline, slope = rng.uniform(-66, -46), rng.uniform(-14, 4), rng.uniform(-0.3, 0.3)
    half_width = np.clip(0.16 * (tip - stack.y), -4, 4)
    bend = midline + slope * (stack.y - tip) + 4 * stack.noise(rng, 10.0)
    return np.asarray(half_width - np.abs(stack.x - bend), dtype=np.float32)


def _spleen(rng: np.random.Generator, subject: AbdomenSubject, stack: Stack) -> FloatArray:
    """A crescent along the wall on the left."""
    w = subject.width
    outer = ellipsoid(stack, (52, 32, 94 * w), (62, 52, 36), turn=0.5) + 2 * stack.noise(rng, 12.0)
    hollow = ellipsoid(stack, (52, 8, 68 * w), (70, 42, 34), turn=0.4)
    return np.asarray(np.minimum(outer, -hollow), dtype=np.float32)
