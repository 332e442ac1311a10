"""Fine structure of the brain phantom: vessels and meninges in the fluid, gliosis and perivascular spaces.

They are what keeps T1- and T2-weighted images of patients from being one another's negative: flowing blood is dark
in both, meninges are dark in T2 only, gliosis is bright in T2 and barely visible in T1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .brain_subject import HeadPoints, Subject
from .fields import FloatArray, gaussian_random_field

MENINGES_DEPTH_MM = 0.6  # they fill part of the fluid this far below the hull
GLIOSIS_REACH_MM = (2.0, 7.0)  # beyond the ventricles' walls, at the youngest and at the oldest age
GLIOSIS_SHARE = 0.6  # of the white matter where gliosis is densest
VESSEL_SIGMA_MM = 2.6
VESSEL_THRESHOLD = 0.25  # of unit-variance noise, above which fluid holds a vessel
VESSEL_SHARE = 0.95
PERIVASCULAR_SIGMA_MM = 0.9
PERIVASCULAR_THRESHOLD = 2.2
PERIVASCULAR_SHARE = 0.5


def meninges_share(points: HeadPoints) -> FloatArray:
    """(N,) share of the fluid at the brain's surface that is dura and arachnoid left by skull stripping, patchy."""
    near_surface = np.clip((MENINGES_DEPTH_MM - points.depth) / MENINGES_DEPTH_MM + 0.5, 0, 1)
    patches = np.clip(0.55 + 0.45 * points.noise["meninges"], 0, 1)
    return near_surface * patches


def gliosis_share(subject: Subject, points: HeadPoints, *, outside_ventricles_mm: FloatArray) -> FloatArray:
    """(N,) share of white matter replaced by gliosis: caps and bands around the ventricles, and spots; grows with age.

    Args:
        subject: the subject.
        points: N points.
        outside_ventricles_mm: (N,) distance from the lateral ventricles.
    """
    young, old = GLIOSIS_REACH_MM
    reach = (young + (old - young) * subject.ageing) * np.exp(0.4 * points.noise["gliosis"])
    caps = np.clip(1 - outside_ventricles_mm / reach, 0, 1)
    spots = np.clip(points.noise["gliosis"] - (3.2 - 1.2 * subject.ageing), 0, 1)
    return GLIOSIS_SHARE * np.maximum(caps, spots)


def vessel_share(rng: np.random.Generator, shape: Sequence[int], *, spacing_mm: Sequence[float]) -> FloatArray:
    """(nz, ny, nx) share of the fluid in sulci and fissures that is flowing blood in pial vessels."""
    noise = gaussian_random_field(rng, shape, sigma=[VESSEL_SIGMA_MM / s for s in spacing_mm])
    return VESSEL_SHARE * np.clip(noise - VESSEL_THRESHOLD, 0, 1)


def perivascular_share(rng: np.random.Generator, shape: Sequence[int], *, spacing_mm: Sequence[float]) -> FloatArray:
    """(nz, ny, nx) share of white matter and basal ganglia that is fluid around perforating vessels."""
    noise = gaussian_random_field(rng, shape, sigma=[PERIVASCULAR_SIGMA_MM / s for s in spacing_mm])
    return PERIVASCULAR_SHARE * np.clip(2 * (noise - PERIVASCULAR_THRESHOLD), 0, 1)
