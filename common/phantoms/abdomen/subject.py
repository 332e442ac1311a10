"""The subject of the abdomen phantom: what varies between people, and how their tissues take up contrast agent.

The patient's frame in mm: z downwards from the dome of the liver (kidneys near 110), y backwards and x to the
patient's left, both from the centre of the trunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

SIDES = {"right": -1, "left": 1}  # sign of x
REFERENCE_HALF_WIDTH_MM = 136.0  # half width of the trunk's muscles for which the positions of the organs hold
DOSE_FACTOR = (0.8, 1.2)  # contrast agent per body weight, and timing
ORGAN_SD = 0.06  # relative SD of the uptake of one organ, clipped at two SD
STEATOSIS_SHARE, STEATOSIS_HU = 0.25, (15.0, 35.0)  # fraction of patients; attenuation that their liver loses
CALCIFICATION_SHARE = 0.4  # fraction of patients
# Of varied patients: range of the difference from `TISSUES` before contrast, in HU. Muscle loses HU to fat with age,
# and kidneys to their collecting system.
PLAIN_SHIFTS_HU = {
    "liver": (-10.0, 8.0),
    "spleen": (-14.0, 6.0),
    "pancreas": (-20.0, 6.0),
    "kidney": (-22.0, 2.0),
    "blood": (-6.0, 6.0),
    "muscle": (-34.0, 6.0),
    "bowel_wall": (-12.0, 8.0),
}
# Of varied patients: fluid in the collecting system of a kidney, by how far it reaches beyond the sinus or stays within
# it, stones, and a gallbladder of their own; no contrast agent reaches these in the portal-venous phase.
PELVIS_SHARE, PELVIS_MM, URINE_HU = 0.6, (-8.0, 4.0), (0.0, 14.0)
STONE_SHARE, STONE_RADIUS_MM, STONE_HU = 0.25, (1.5, 5.0), (300.0, 1000.0)
GALLBLADDER_SHARE, GALLBLADDER_MM, GALLBLADDER_SCALE, BILE_HU = 0.8, (12.0, 14.0, 18.0), (0.7, 1.5), (0.0, 22.0)
BLOOD = ("aorta", "inferior_vena_cava", "portal_vein", "hepatic_veins")


class Tissue(NamedTuple):
    """HU before contrast, and mean uptake in HU in the portal-venous phase (about 70 s)."""

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


class Pelvis(NamedTuple):
    """Collecting system of a kidney.

    Attributes:
        beyond_mm: How far urine reaches beyond the sinus; negative within it.
        urine_hu: HU of the urine.
        stone: Radius in mm and HU of a stone; None without one.
    """

    beyond_mm: float
    urine_hu: float
    stone: tuple[float, float] | None


class Gallbladder(NamedTuple):
    """Shift of a gallbladder from its usual place (z, y, x), its size relative to the usual one, and HU of its bile."""

    shift_mm: tuple[float, float, float]
    scale: float
    bile_hu: float


@dataclass(frozen=True)
class AbdomenSubject:
    """Properties drawn once per subject (mm and HU), apart from textures, trees and lesions.

    Attributes:
        muscle_half_axes_mm: Half axes of the outline of the trunk's muscles, across (x) and front to back (y).
        fat_mm: Thickness of the subcutaneous fat at the sides.
        visceral_fat: Amount of visceral fat, from 0.3 (lean) to 1.
        dose: Common factor of all uptake.
        uptake_hu: Uptake of each tissue, including dose and the deviation of the organ.
        steatosis_hu: Attenuation that the liver loses; 0 in healthy people.
        kidney_centres_mm: Centre of each kidney: z, y relative to the spine (negative in front), x away from the
            midline.
        pancreas_mm: Course (6, 3) of the pancreas from head to tail.
        stomach_fluid_hu: HU of the content of the stomach.
        stomach_fluid_level_mm: y of the surface of the fluid; there is gas in front of it.
        rib_phase_mm: Level of the ribs.
        vertebra_phase_mm: Level of the first vertebra.
        spongiosa_hu: HU of the vertebral bodies.
        calcification_rad: Middle of the calcified arc of the aortic wall, from left over back; None without one.
        plain_shift_hu: Difference from `TISSUES` before contrast, by tissue; 0 for what it lacks.
        pelvis: Collecting systems that hold visible urine, by side.
        gallbladder: A gallbladder that lies over the liver, besides the usual one below it; None without one.
        couch_curvature: Rise of the sides of the couch in 1/mm; 0 for a flat one.
        spleen_bands_hu: Amplitude of the bands of the spleen after contrast, which last for the arterial phase.
        metal: Implants, by name the level of their middle in mm, see `metal.paint_metal`.
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
    plain_shift_hu: Mapping[str, float] = field(default_factory=dict)
    pelvis: Mapping[str, Pelvis] = field(default_factory=dict)
    gallbladder: Gallbladder | None = None
    couch_curvature: float = 0.0006
    spleen_bands_hu: float = 0.0
    metal: Mapping[str, float] = field(default_factory=dict)

    @property
    def width(self) -> float:
        """Half width of the trunk relative to `REFERENCE_HALF_WIDTH_MM`."""
        return self.muscle_half_axes_mm[0] / REFERENCE_HALF_WIDTH_MM

    @property
    def spine_y_mm(self) -> float:
        """Position y of the centre of the vertebral bodies."""
        return self.muscle_half_axes_mm[1] - 36

    def hu(self, tissue: str) -> tuple[float, float]:
        """Return the HU of a tissue of `TISSUES` before and after contrast."""
        plain = TISSUES[tissue].plain_hu - (self.steatosis_hu if tissue == "liver" else 0)
        plain += self.plain_shift_hu.get(tissue, 0.0)
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

    @classmethod
    def draw_varied(cls, rng: np.random.Generator) -> AbdomenSubject:
        """Draw a subject of a wider range of builds, and of attenuation before contrast."""
        subject, u = cls.draw(rng), rng.uniform
        shifts = {name: u(*limits) for name, limits in PLAIN_SHIFTS_HU.items()}
        kidney, blood = shifts.pop("kidney"), shifts.pop("blood")
        shifts |= {"kidney_cortex": kidney, "kidney_medulla": kidney} | dict.fromkeys(BLOOD, blood)
        return replace(
            subject,
            muscle_half_axes_mm=(u(118, 144), u(84, 108)),
            fat_mm=u(4, 21),
            visceral_fat=u(0.1, 1.3),
            spongiosa_hu=u(80, 220),
            plain_shift_hu=shifts,
            pelvis={side: _pelvis(rng) for side in SIDES if u() < PELVIS_SHARE},
            gallbladder=_gallbladder(rng) if u() < GALLBLADDER_SHARE else None,
        )


def _deviation(rng: np.random.Generator) -> float:
    """Draw the relative uptake of an organ."""
    return float(1 + ORGAN_SD * np.clip(rng.normal(), -2, 2))


def _kidney_centre(rng: np.random.Generator, side: str) -> tuple[float, float, float]:
    """Draw the centre of a kidney; the left one lies higher."""
    z, y, x = np.array([104.0 if side == "left" else 112.0, -18.0, 62.0]) + np.clip(rng.normal(0, 3, 3), -6, 6)
    return float(z), float(y), float(x)


def _pelvis(rng: np.random.Generator) -> Pelvis:
    stone = (rng.uniform(*STONE_RADIUS_MM), rng.uniform(*STONE_HU)) if rng.random() < STONE_SHARE else None
    return Pelvis(rng.uniform(*PELVIS_MM), rng.uniform(*URINE_HU), stone)


def _gallbladder(rng: np.random.Generator) -> Gallbladder:
    z, y, x = (rng.uniform(-largest, largest) for largest in GALLBLADDER_MM)
    return Gallbladder((z, y, x), rng.uniform(*GALLBLADDER_SCALE), rng.uniform(*BILE_HU))


def _pancreas(rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    course = np.array(
        [[112, -4, -28], [98, -10, -10], [86, -14, 14], [78, -6, 38], [70, 8, 60], [62, 16, 76]], dtype=float
    )
    return tuple((float(z), float(y), float(x)) for z, y, x in course + np.clip(rng.normal(0, 3, course.shape), -6, 6))
