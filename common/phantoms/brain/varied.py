"""What varies between patients and scanners of the kind `brain_varied`.

White-matter lesions, the head around the brain, sequences and field strength, bias fields and noise, the field of view
and the unit of the stored values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..fields import FloatArray
from ..stack import soft_occupancy
from .anatomy import Fractions, move
from .signal import TISSUES, InversionRecovery, Protocol, Relaxation, Scanner, SpinEcho, Weighting, inflow, pulsation
from .subject import HeadPoints

# Lesions as in multiple sclerosis: around the ventricles and in the deep white matter, and longer across than along.
LESION_COUNT = (6, 40)
LESION_RADIUS_MM = (1.5, 6.0)
LESION_LATERAL_MM, LESION_FORWARD_MM = (13.0, 42.0), (-55.0, 50.0)
LESION_ELONGATION = (1.0, 1.8)
LESION_SHARE = 0.9  # of the white matter in its middle
LESION_T1_MS, LESION_T2_MS, LESION_PD = (
    (1050.0, 1600.0),
    (125.0, 210.0),
    0.80,
)  # at 3 T; the shortest T1 hides them in T1

# Layers around the brain from the inside: range of their thickness in mm along the hull's shortest axes.
LAYERS_MM = {
    "outer_csf": (0.5, 3.5),
    "dura": (0.6, 1.0),
    "inner_table": (1.2, 2.2),
    "diploe": (1.5, 4.0),
    "outer_table": (1.2, 2.2),
    "muscle": (2.0, 6.0),
    "fat": (2.0, 6.0),
    "skin": (1.5, 2.2),
}
HALF = 0.5  # largest relative change of a thickness
UNEVEN = 0.2  # SD of radii of lesions, and of the thickness of fluid and diploe, relative to the mean
SMOOTH = 0.06  # the same of the scalp
MUSCLE_TOP_MM, MUSCLE_EDGE_MM = 45.0, 20.0  # the temporal muscle ends there, over the width of its edge
MUSCLE_LATERAL_MM, MUSCLE_FORWARD_MM, MUSCLE_HALF_LENGTH_MM = 35.0, 12.0, 50.0  # and is thickest in its middle
# Tissues that each layer consists of.
LAYER_TISSUES = {"inner_table": "bone", "outer_table": "bone"}
# At 3 T; fat: C. M. J. de Bazelaire et al., Radiology 230(3), 2004, 652-659 (T1), with the T2 that it has in trains of
# refocused echoes, where it looks bright; muscle: Stanisz et al. 2005. Others: chosen to look as they do in patients.
HEAD_TISSUES = {
    "outer_csf": Relaxation(4000, 1000, 1.00),
    "dura": Relaxation(900, 45, 0.65),
    "bone": Relaxation(400, 2, 0.12),
    "diploe": Relaxation(400, 70, 0.40),
    "muscle": Relaxation(1410, 42, 0.78),
    "fat": Relaxation(370, 180, 0.90),
    "skin": Relaxation(1000, 38, 0.70),
}

# Scanners.
FIELDS_T = (1.5, 3.0)
T1_EXPONENT = (
    0.38  # T1 of brain tissue grows with this power of the field; W. D. Rooney et al., MRM 57(2), 2007, 308-318
)
SAME_T1 = ("ventricles", "sulcal_csf", "outer_csf", "fat", "diploe", "bone")  # at any field
INVERSION_SHARE = 0.5  # of the T1-weighted images
SPIN_ECHO_TR_MS, SPIN_ECHO_TE_MS = (400.0, 700.0), (8.0, 18.0)
INVERSION_TR_MS, INVERSION_TI_MS, INVERSION_TE_MS = (1800.0, 2500.0), (950.0, 1200.0), (2.0, 5.0)
T2_TR_MS, T2_TE_MS = (3000.0, 7000.0), (75.0, 125.0)
POINT_SPREAD_MM = (0.3, 1.6)
NOISE_SD = (0.01, 0.12)  # relative to white matter
RECEIVE_BIAS_SD, SEQUENCE_BIAS_SD = (0.0, 0.3), (0.0, 0.15)
WHITE_MATTER_LEVELS = (20.0, 2000.0)  # mean of white matter in the stored images
LARGEST_VALUE = 32767.0  # of the stored type
FIELD_OF_VIEW_MM = (250.0, 300.0)
PADDING_SHARE, PADDING_MM = 0.4, (10.0, 80.0)  # fraction of patients; zeros on both sides together


@dataclass(frozen=True)
class WhiteMatterLesions:
    """Small ellipsoids that replace white matter.

    Attributes:
        centres_mm: Centres (N, 3) (z, y, x) in the subject's frame.
        radii_mm: Radii (N,) along z and y.
        elongation: Radius (N,) along x relative to that, away from the ventricles.
    """

    centres_mm: FloatArray
    radii_mm: FloatArray
    elongation: FloatArray

    @classmethod
    def draw(cls, rng: np.random.Generator, z_range_mm: tuple[float, float]) -> WhiteMatterLesions:
        """Draw lesions whose centres lie between the two levels."""
        count = int(rng.integers(LESION_COUNT[0], LESION_COUNT[1], endpoint=True))
        lateral = rng.choice([-1.0, 1.0], count) * rng.uniform(*LESION_LATERAL_MM, count)
        centres = np.stack([rng.uniform(*z_range_mm, count), rng.uniform(*LESION_FORWARD_MM, count), lateral], axis=1)
        radii = _log_uniform(rng, LESION_RADIUS_MM, count)
        return cls(centres, radii, rng.uniform(*LESION_ELONGATION, count))

    def __call__(self, fractions: Fractions, points: HeadPoints, half_width_mm: float) -> None:
        """Turn white matter into lesion, in place."""
        share = np.zeros_like(points.z)
        for (z, y, x), radius, elongation in zip(self.centres_mm, self.radii_mm, self.elongation, strict=True):
            squared = (points.z - z) ** 2 + (points.y - y) ** 2 + ((points.x - x) / elongation) ** 2
            distance = radius * (1 + UNEVEN * points.noise["gliosis"]) - np.sqrt(squared)
            np.maximum(share, soft_occupancy(distance, half_width_mm), out=share, casting="same_kind")
        for tissue in ("white_matter", "gliosis"):
            move(fractions, tissue, "white_matter_lesion", np.float32(LESION_SHARE) * share)


@dataclass(frozen=True)
class Head:
    """Fluid, skull, muscle, fat and skin around the brain.

    Attributes:
        thickness_mm: Mean thickness of each of `LAYERS_MM`.
    """

    thickness_mm: dict[str, float]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Head:
        """Draw a head."""
        return cls({name: float(rng.uniform(*limits)) for name, limits in LAYERS_MM.items()})

    @property
    def reach_mm(self) -> float:
        """Distance from the hull beyond which there is air."""
        return float((1 + HALF) * sum(self.thickness_mm.values()))

    def __call__(self, fractions: Fractions, points: HeadPoints, half_width_mm: float) -> None:
        """Add the layers around the brain, in place."""
        free = 1 - np.sum(list(fractions.values()), axis=0)
        noise = points.noise
        uneven = {
            "outer_csf": UNEVEN * noise["sulcal_depth"],
            "diploe": UNEVEN * noise["cortex_thickness"],
            "fat": SMOOTH * noise["sulcal_depth"],
        }
        start, beyond = points.depth, np.ones_like(points.depth)  # share of the voxel outside of the layer before
        for name, thickness in self.thickness_mm.items():
            amount = thickness * (1 + np.clip(uneven.get(name, np.float32(0)), -HALF, HALF))
            if name == "muscle":
                amount = amount * _muscle(points)
            start = start + amount
            rest = 1 - soft_occupancy(start, half_width_mm)
            tissue = LAYER_TISSUES.get(name, name)
            fractions[tissue] = fractions.get(tissue, np.float32(0)) + free * (beyond - rest)
            beyond = rest


def _muscle(points: HeadPoints) -> FloatArray:
    """Compute the thickness (N,) of the temporal muscle relative to its middle."""
    sides = np.clip((np.abs(points.x) - MUSCLE_LATERAL_MM) / MUSCLE_EDGE_MM, 0, 1)
    below = np.clip((MUSCLE_TOP_MM - points.z) / MUSCLE_EDGE_MM, 0, 1)
    along = np.clip(1 - ((points.y - MUSCLE_FORWARD_MM) / MUSCLE_HALF_LENGTH_MM) ** 2, 0, 1)
    return np.asarray(sides * below * along)


def draw_scanner(rng: np.random.Generator, *, noise_outside: bool) -> Scanner:
    """Draw a scanner of 1.5 or 3 T with its bias fields; the patient's lesions have a relaxation of their own."""
    field_t = float(rng.choice(FIELDS_T))
    lesion = Relaxation(rng.uniform(*LESION_T1_MS), rng.uniform(*LESION_T2_MS), LESION_PD)
    tissues = {**TISSUES, "white_matter_lesion": lesion, **HEAD_TISSUES}
    return Scanner(
        {name: at_field(name, tissue, field_t) for name, tissue in tissues.items()},
        receive_bias_sd=rng.uniform(*RECEIVE_BIAS_SD),
        sequence_bias_sd=rng.uniform(*SEQUENCE_BIAS_SD),
        noise_outside=noise_outside,
    )


def at_field(name: str, tissue: Relaxation, field_t: float) -> Relaxation:
    """Return the relaxation of a tissue of 3 T at another field; T2 hardly depends on it (Stanisz et al. 2005).

    Example:
        >>> round(at_field("white_matter", Relaxation(832, 75, 0.71), 1.5).t1_ms)
        639
    """
    factor = 1.0 if name in SAME_T1 else (field_t / 3.0) ** T1_EXPONENT
    return tissue._replace(t1_ms=tissue.t1_ms * factor)


def draw_protocol(rng: np.random.Generator) -> Protocol:
    """Draw a T1-weighted spin or inversion-prepared gradient echo and a T2-weighted fast spin echo."""
    u = rng.uniform
    t1: SpinEcho | InversionRecovery = SpinEcho(u(*SPIN_ECHO_TR_MS), u(*SPIN_ECHO_TE_MS))
    if u() < INVERSION_SHARE:
        t1 = InversionRecovery(u(*INVERSION_TR_MS), u(*INVERSION_TI_MS), u(*INVERSION_TE_MS))
    t2 = SpinEcho(u(*T2_TR_MS), u(*T2_TE_MS))
    spread, noise = partial(u, *POINT_SPREAD_MM), partial(u, *np.log(NOISE_SD))
    return {
        "T1": Weighting(t1, spread(), float(np.exp(noise())), inflow),
        "T2": Weighting(t2, spread(), float(np.exp(noise())), pulsation),
    }


@dataclass(frozen=True)
class FieldOfView:
    """Square field of view with zeros around it.

    Attributes:
        acquired_mm: Side that was acquired.
        total_mm: Side with the zeros.
    """

    acquired_mm: float
    total_mm: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> FieldOfView:
        """Draw one that holds a head."""
        acquired, padded, padding = rng.uniform(*FIELD_OF_VIEW_MM), rng.random(), rng.uniform(*PADDING_MM)
        return cls(acquired, acquired + padding * (padded < PADDING_SHARE))

    def acquired(self, in_plane_mm: tuple[FloatArray, FloatArray]) -> np.ndarray:
        """Return which pixels (ny, nx) at coordinates (ny,) and (nx,) were acquired."""
        rows, columns = (np.abs(axis) <= self.acquired_mm / 2 for axis in in_plane_mm)
        return rows[:, None] & columns


def stored(rng: np.random.Generator, images: dict[str, FloatArray], *, level: float) -> dict[str, FloatArray]:
    """Bring images whose white matter lies near `level` to units of their own, over orders of magnitude."""
    wanted = _log_uniform(rng, WHITE_MATTER_LEVELS, len(images))
    return {
        name: np.minimum(image * (each / level), LARGEST_VALUE) for (name, image), each in zip(images.items(), wanted)
    }


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float], count: int) -> NDArray[np.float64]:
    """Draw numbers (count,) whose logarithms are uniform."""
    low, high = limits
    return low * (high / low) ** rng.random(count)
