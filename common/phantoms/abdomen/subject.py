"""One subject of the abdomen phantom: what varies between people, and how their tissues take up contrast agent.

The patient's frame in mm: z downwards from the dome of the liver (kidneys near 110), y backwards and x to the
patient's left, both from the centre of the trunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SIDES = {"right": -1, "left": 1}  # sign of x
REFERENCE_HALF_WIDTH_MM = 136.0  # of the trunk's muscles, for which the positions of the organs hold
DOSE_FACTOR = (0.8, 1.2)  # agent for body weight, and timing
ORGAN_SD = 0.06  # of the uptake of one organ, relative; at most twice as much
STEATOSIS_SHARE, STEATOSIS_HU = 0.25, (15.0, 35.0)  # of the patients; how much darker their liver is
CALCIFICATION_SHARE = 0.4  # of the patients


class Tissue(NamedTuple):
    """HU before contrast, and the mean uptake in the portal-venous phase (about 70 s) in HU."""

    plain_hu: float
    enhancement_hu: float


TISSUES: Mapping[str, Tissue] = {
    "liver": Tissue(58, 52),
    "spleen": Tissue(48, 68),
    "pancreas": Tissue(40, 58),
    "kidney_cortex": Tissue(34, 150),
    "kidney_medulla": Tissue(31, 105),
    "aorta": Tissue(40, 112),
    "inferior_vena_cava": Tissue(39, 98),
    "portal_vein": Tissue(42, 124),
    "hepatic_veins": Tissue(41, 108),
    "muscle": Tissue(54, 12),
    "bowel_wall": Tissue(38, 46),
}


@dataclass(frozen=True)
class AbdomenSubject:
    """Everything that is drawn once for a subject (mm and HU), apart from textures, trees and lesions.

    Attributes:
        muscle_half_axes_mm: of the outline of the trunk's muscles, across (x) and front to back (y).
        fat_mm: thickness of the subcutaneous fat at the sides.
        visceral_fat: 0.3 (lean) to 1.
        dose: common factor of all uptake.
        uptake_hu: of each tissue, with dose and the deviation of the organ.
        steatosis_hu: how much darker the liver is; 0 in healthy people.
        kidney_centres_mm: z, y before the spine, and x away from the midline, for each side.
        pancreas_mm: course (6, 3) from head to tail.
        stomach_fluid_hu: what the stomach holds.
        stomach_fluid_level_mm: y of its surface; there is gas in front of it.
        rib_phase_mm: level of the ribs.
        vertebra_phase_mm: level of the first vertebra.
        spongiosa_hu: of the vertebral bodies.
        calcification_rad: middle of the calcified arc of the aorta's wall, from left over back; None without.
    """

    muscle_half_axes_mm: tuple[float, float]
    fat_mm: float
    visceral_fat: float
    dose: float
    uptake_hu: Mapping[str, float]
    steatosis_hu: float
    kidney_centres_mm: Mapping[str, tuple[float, float, float]]
    pancreas_mm: tuple[tuple[float, float, float], ...]
    stomach_fluid_hu: float
    stomach_fluid_level_mm: float
    rib_phase_mm: float
    vertebra_phase_mm: float
    spongiosa_hu: float
    calcification_rad: float | None

    @property
    def width(self) -> float:
        """Half width of the trunk relative to ``REFERENCE_HALF_WIDTH_MM``."""
        return self.muscle_half_axes_mm[0] / REFERENCE_HALF_WIDTH_MM

    @property
    def spine_y_mm(self) -> float:
        """y of the centre of the vertebral bodies."""
        return self.muscle_half_axes_mm[1] - 36

    def hu(self, tissue: str) -> tuple[float, float]:
        """HU of a tissue of ``TISSUES`` before and after contrast."""
        plain = TISSUES[tissue].plain_hu - (self.steatosis_hu if tissue == "liver" else 0)
        return plain, plain + self.uptake_hu[tissue]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> AbdomenSubject:
        """Draw a subject who fits into the field of view."""
        u = rng.uniform
        dose = u(*DOSE_FACTOR)
        steatosis = u(*STEATOSIS_HU) * (u() < STEATOSIS_SHARE)
        angle, calcified = u(-2.0, 2.0), u() < CALCIFICATION_SHARE
        return cls(
            muscle_half_axes_mm=(u(129, 144), u(94, 108)),
            fat_mm=u(8, 20),
            visceral_fat=u(0.3, 1.0),
            dose=dose,
            uptake_hu={name: tissue.enhancement_hu * dose * _deviation(rng) for name, tissue in TISSUES.items()},
            steatosis_hu=steatosis,
            kidney_centres_mm={side: _kidney_centre(rng, side) for side in SIDES},
            pancreas_mm=_pancreas(rng),
            stomach_fluid_hu=u(5, 45),
            stomach_fluid_level_mm=u(-62, -42),
            rib_phase_mm=u(0, 25),
            vertebra_phase_mm=u(0, 30),
            spongiosa_hu=u(110, 190),
            calcification_rad=angle if calcified else None,
        )


def _deviation(rng: np.random.Generator) -> float:
    """Relative uptake of an organ."""
    return float(1 + ORGAN_SD * np.clip(rng.normal(), -2, 2))


def _kidney_centre(rng: np.random.Generator, side: str) -> tuple[float, float, float]:
    """The left one lies higher."""
    z, y, x = np.array([104.0 if side == "left" else 112.0, -18.0, 62.0]) + np.clip(rng.normal(0, 3, 3), -6, 6)
    return float(z), float(y), float(x)


def _pancreas(rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    course = np.array(
        [[112, -4, -28], [98, -10, -10], [86, -14, 14], [78, -6, 38], [70, 8, 60], [62, 16, 76]], dtype=float
    )
    return tuple((float(z), float(y), float(x)) for z, y, x in course + np.clip(rng.normal(0, 3, course.shape), -6, 6))
