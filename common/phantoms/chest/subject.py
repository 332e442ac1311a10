"""The subject of the chest phantom: what varies between people.

The patient's frame in mm: z downwards from the apex of the lungs (diaphragm near 200), y backwards and x to the
patient's left, both from the centre of the rib cage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SMALLEST_FIELD_MM, LARGEST_FIELD_MM = 280.0, 436.0  # fields of view; larger people are scanned with larger ones
EMPHYSEMA_SHARE = (0.03, 0.25)  # fraction of the lung, if there is any
LARGEST_NUMBER_OF_NODULES = 3


@dataclass(frozen=True)
class ChestSubject:
    """Properties drawn once per subject (mm and HU), apart from textures and trees.

    Attributes:
        muscle_half_axes_mm: Half axes of the outline of the muscles, across (x) and front to back (y).
        fat_mm: Thickness of the subcutaneous fat at the sides.
        heart_centre_mm: Centre of the heart (z, y, x).
        heart_half_axes_mm: Half axes of the heart (z, y, x) before its rotation about z.
        ascending_aorta_mm: Radius of the ascending aorta; the other great vessels scale with it.
        trachea_mm: Radius of the lumen of the trachea.
        rib_phase_mm: Level of the ribs, the same on both sides.
        vertebra_phase_mm: Level of the first vertebra.
        blood_hu: HU of unenhanced blood.
        parenchyma_hu: HU of the lung at mid-height of a supine patient.
        cortex_hu: HU of compact bone.
        spongiosa_hu: HU of the vertebral bodies.
        emphysema_share: Fraction of the lung voxels in the scanned slices with emphysema; 0 without emphysema.
        nodules: Number of lung nodules.
        oesophageal_air: Whether the oesophagus contains air.
    """

    muscle_half_axes_mm: tuple[float, float]
    fat_mm: float
    heart_centre_mm: tuple[float, float, float]
    heart_half_axes_mm: tuple[float, float, float]
    ascending_aorta_mm: float
    trachea_mm: float
    rib_phase_mm: float
    vertebra_phase_mm: float
    blood_hu: float
    parenchyma_hu: float
    cortex_hu: float
    spongiosa_hu: float
    emphysema_share: float
    nodules: int
    oesophageal_air: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, *, field_mm: float, emphysema: bool) -> ChestSubject:
        """Draw a subject who is scanned with a field of view of `field_mm`."""
        size = np.clip((field_mm - SMALLEST_FIELD_MM) / (LARGEST_FIELD_MM - SMALLEST_FIELD_MM), 0, 1)
        u = rng.uniform
        share = u(*EMPHYSEMA_SHARE)
        return cls(
            muscle_half_axes_mm=(u(138, 148) + 10 * size, u(92, 100) + 6 * size),
            fat_mm=u(8, 16) + 8 * size,
            heart_centre_mm=(u(178, 192), u(-30, -20), u(18, 28)),
            heart_half_axes_mm=(u(52, 60), u(42, 50), u(54, 64)),
            ascending_aorta_mm=u(13.5, 17),
            trachea_mm=u(7.5, 9.5),
            rib_phase_mm=u(0, 25),
            vertebra_phase_mm=u(0, 26),
            blood_hu=u(36, 48),
            parenchyma_hu=u(-875, -845),
            cortex_hu=u(650, 900),
            spongiosa_hu=u(130, 210),
            emphysema_share=share if emphysema else 0.0,
            nodules=int(rng.integers(0, LARGEST_NUMBER_OF_NODULES + 1)),
            oesophageal_air=bool(u() < 0.6),
        )
