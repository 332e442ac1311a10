"""The tumour of the brain phantom: solid part, necrotic core and the oedema around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .brain_subject import HeadPoints
from .fields import FloatArray, PeriodicField
from .raster import soft_occupancy

RADIUS_MM = (8.0, 18.0)
OEDEMA_WIDTH_MM = (6.0, 16.0)
FORWARD_MM = (-45.0, 40.0)
LATERAL_MM = (24.0, 42.0)
# Filter width and SD of the irregularity of each surface in mm.
SOLID_NOISE_MM = (5.0, 2.8)
OEDEMA_NOISE_MM = (7.0, 6.0)
NECROSIS_NOISE_MM = (4.0, 1.5)
NECROSIS_DEPTH = 0.38  # of the radius
WHITE_MATTER_SPREAD_MM = 3.0  # oedema follows white matter and spares the cortex


@dataclass(frozen=True)
class Tumour:
    """A tumour of irregular shape in one hemisphere.

    Attributes:
        centre_mm: z, y, x in the subject's frame.
        radius_mm: of the solid part.
        oedema_width_mm: beyond the solid part.
        solid, oedema, necrosis: unit-variance noise that makes the surfaces irregular.
    """

    centre_mm: tuple[float, float, float]
    radius_mm: float
    oedema_width_mm: float
    solid: PeriodicField
    oedema: PeriodicField
    necrosis: PeriodicField

    @classmethod
    def draw(cls, rng: np.random.Generator, z_range_mm: tuple[float, float]) -> Tumour:
        """Draw a tumour whose centre lies between the two levels."""
        side = rng.choice([-1.0, 1.0])
        return cls(
            centre_mm=(rng.uniform(*z_range_mm), rng.uniform(*FORWARD_MM), side * rng.uniform(*LATERAL_MM)),
            radius_mm=rng.uniform(*RADIUS_MM),
            oedema_width_mm=rng.uniform(*OEDEMA_WIDTH_MM),
            solid=PeriodicField.noise(rng, SOLID_NOISE_MM[0]),
            oedema=PeriodicField.noise(rng, OEDEMA_NOISE_MM[0]),
            necrosis=PeriodicField.noise(rng, NECROSIS_NOISE_MM[0]),
        )


def tumour_occupancy(
    tumour: Tumour, points: HeadPoints, *, white_matter: FloatArray, grey_matter: FloatArray
) -> dict[str, FloatArray]:
    """Shares of oedema, tumour and necrosis, to be laid over each other in this order.

    Args:
        tumour: the tumour.
        points: N points.
        white_matter, grey_matter: (N,) shares without the tumour; oedema spreads in white matter.

    Returns:
        three (N,) occupancies in [0, 1].
    """
    z, y, x = points.z, points.y, points.x
    cz, cy, cx = tumour.centre_mm
    depth = tumour.radius_mm - np.sqrt((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2)
    solid = depth + SOLID_NOISE_MM[1] * tumour.solid.at(z, y, x)
    oedema = depth + tumour.oedema_width_mm + OEDEMA_NOISE_MM[1] * tumour.oedema.at(z, y, x)
    oedema = oedema + WHITE_MATTER_SPREAD_MM * (white_matter - 0.7)
    core = solid - NECROSIS_DEPTH * tumour.radius_mm + NECROSIS_NOISE_MM[1] * tumour.necrosis.at(z, y, x)
    susceptible = np.clip(1.1 * white_matter + 0.25 * grey_matter, 0, 1) * (points.depth > 0)
    inside = points.depth > 1
    return {
        "oedema": 0.85 * soft_occupancy(oedema, 2.0) * susceptible,
        "tumour": soft_occupancy(solid, 1.2) * inside,
        "necrosis": soft_occupancy(core, 1.0) * inside,
    }
