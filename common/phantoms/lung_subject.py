"""What varies between the patients of the lung phantom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TUMOUR_SHARE = 0.4  # of the patients
TUMOUR_STEP = (5**0.5 - 1) / 2  # golden ratio
EMPHYSEMA_SHARE = 0.4  # of the patients
EMPHYSEMA_STEP = 1 / np.pi  # unlike the golden ratio, so that either disease also comes without the other
LARGEST_TUMOUR_FIELD_MM = 20.0  # a tumour grows with the field of view up to this


@dataclass(frozen=True)
class LungSubject:
    """One patient.

    Attributes:
        cell_mm: diameter of the alveoli (0.2 mm in M. Ochs et al., "The Number of Alveoli in the Human Lung", AJRCCM
            169(1), 2004, 120-124; larger here, so that a micro voxel of 0.078 mm resolves them).
        wall_mm: half the thickness of an alveolar wall with its capillaries.
        septum_mm: half the thickness of the septa between lobules.
        emphysema: share of the volume in which most alveolar walls are destroyed; 0 in health.
        tumour_share: radius of the tumour as a share of the field of view; None without one.
    """

    cell_mm: float
    wall_mm: float
    septum_mm: float
    emphysema: float
    tumour_share: float | None

    @classmethod
    def draw(cls, rng: np.random.Generator, *, tumour: bool, emphysema: bool) -> LungSubject:
        """Draw a patient; uses the same number of random values whatever the diseases."""
        cell, wall, septum = rng.uniform(0.26, 0.36), rng.uniform(0.009, 0.013), rng.uniform(0.03, 0.07)
        destroyed, radius = rng.uniform(0.1, 0.5), rng.uniform(0.18, 0.34)
        return cls(
            cell_mm=cell,
            wall_mm=wall,
            septum_mm=septum,
            emphysema=destroyed if emphysema else 0.0,
            tumour_share=radius if tumour else None,
        )

    def tumour_radius_mm(self, field_mm: float) -> float:
        """Radius of the tumour in a field of view of that width, 0 without a tumour."""
        return (self.tumour_share or 0.0) * min(field_mm, LARGEST_TUMOUR_FIELD_MM)


def has_tumour(patient: int, *, seed: int, task: int) -> bool:
    """Whether a patient has a tumour: 40 % have one, and of three neighbours at least one and never all.

    A golden-ratio sequence with an offset from the seed, so that every split of three patients has both.
    """
    offset = np.random.default_rng([task, seed]).random(2)[0]
    return bool((offset + patient * TUMOUR_STEP) % 1 < TUMOUR_SHARE)


def has_emphysema(patient: int, *, seed: int, task: int) -> bool:
    """Whether a patient has emphysema: 40 % have it, and of three neighbours at least one and never all."""
    offset = np.random.default_rng([task, seed]).random(2)[1]
    return bool((offset + patient * EMPHYSEMA_STEP) % 1 < EMPHYSEMA_SHARE)
