"""Metal in the abdomen phantom, and how CT sees it: screws and rods in the spine, clips in the hilum of the liver."""

from __future__ import annotations

import numpy as np

from ..fields import FloatArray
from ..stack import Stack
from .canvas import UNLABELLED, Canvas
from .subject import SIDES, AbdomenSubject
from .wall import VERTEBRA_PITCH_MM

IMPLANTS = ("fixation", "clips")
TITANIUM_HU = 12000.0  # 2.5 / cm at 70 keV
METAL_FROM_HU = 2000.0  # no bone of the phantom is as dense
SCREW_MM, ROD_MM = 2.75, 2.75  # radii
CLIPS, CLIP_MM, CLIP_HALF_LENGTH_MM = 5, 1.3, 5.0
HILUM_MM = (-10.0, -34.0)  # y, x
# Titanium's attenuation at 50, 70 and 100 keV over that at 70, and the weights of these energies. Water, bone and
# tissue are taken as corrected for the spectrum, as on a scanner.
ENERGIES = ((0.25, 2.2), (0.5, 1.0), (0.25, 0.49))


def paint_metal(subject: AbdomenSubject, stack: Stack, canvas: Canvas) -> None:
    """Paint the implants of a subject, which have no label: `fixation` of three vertebrae, or `clips`.

    Args:
        subject: Subject; `metal` has the level of the middle of each implant in mm.
        stack: Voxel grid.
        canvas: Canvas to paint on.
    """
    for name, level in subject.metal.items():
        segments, radii = (_fixation if name == "fixation" else _clips)(subject, level)
        metal = stack.occupancy(stack.tubes(segments, radii))
        canvas.paint((TITANIUM_HU, TITANIUM_HU), metal, UNLABELLED)


def hardened(line_integrals: FloatArray) -> FloatArray:
    """Compute what a scanner measures of line integrals through titanium: less, as the soft part of the beam is lost.

    Args:
        line_integrals: Line integrals of titanium at 70 keV, of any shape.

    Returns:
        -ln of the transmission of three energies, with slope 1 at 0: thin metal keeps its line integral.
    """
    mean = sum(weight * relative for weight, relative in ENERGIES)
    transmission = sum(weight * np.exp(-relative / mean * line_integrals) for weight, relative in ENERGIES)
    return np.asarray(-np.log(transmission), dtype=np.float32)


def _fixation(subject: AbdomenSubject, level: float) -> tuple[FloatArray, FloatArray]:
    """Return segments (z, y, x) and radii in mm of two rods and six screws through the pedicles."""
    y = subject.spine_y_mm
    first = subject.vertebra_phase_mm
    middle = first + VERTEBRA_PITCH_MM * np.round((level - first) / VERTEBRA_PITCH_MM)
    segments, radii = [], []
    for side in SIDES.values():
        reach = VERTEBRA_PITCH_MM + 8
        segments.append(((middle - reach, y + 40, 20 * side), (middle + reach, y + 40, 20 * side)))
        radii.append(ROD_MM)
        for vertebra in (middle - VERTEBRA_PITCH_MM, middle, middle + VERTEBRA_PITCH_MM):
            segments.append(((vertebra, y + 40, 20 * side), (vertebra, y - 6, 9 * side)))
            radii.append(SCREW_MM)
    return np.array(segments, dtype=float), np.array(radii)


def _clips(subject: AbdomenSubject, level: float) -> tuple[FloatArray, FloatArray]:
    """Return segments (z, y, x) and radii in mm of clips in a ring around the hilum of the liver."""
    segments = []
    for index in range(CLIPS):
        angle = 2 * np.pi * index / CLIPS + level
        y, x = HILUM_MM[0] + 9 * np.sin(angle), HILUM_MM[1] + 14 * np.cos(angle)
        z = level + 4 * (index - CLIPS // 2)
        segments.append(((z - CLIP_HALF_LENGTH_MM, y, x), (z + CLIP_HALF_LENGTH_MM, y + 3, x - 2)))
    return np.array(segments, dtype=float), np.full(CLIPS, CLIP_MM)
