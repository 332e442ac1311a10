"""The subject of the brain phantom: what varies between people, and points of the head in the subject's own frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..fields import FloatArray, PeriodicField

AGE_YEARS = (25.0, 85.0)
SCALE_SD = 0.04  # SD of the scale of each axis
ATROPHY, VENTRICLE_SIZE = (0.3, 1.0), (0.75, 1.5)
ROTATION_SD_RAD = 0.05  # SD of the rotation about the cranio-caudal axis

# Smooth unit-variance noise that shapes the anatomy: filter width in mm.
FIELD_SIGMA_MM = {
    "warp_z": 26.0,
    "warp_y": 26.0,
    "warp_x": 26.0,
    "bend_z": 7.0,
    "bend_y": 7.0,
    "bend_x": 7.0,
    "sulcal_depth": 8.0,
    "cortex_thickness": 9.0,
    "midline": 5.0,
    "sylvian": 5.0,
    "wobble": 6.0,
    "meninges": 6.0,
    "gliosis": 4.5,
}
SULCAL_SIGMA_MM = 3.6  # high-frequency end of the sulcal pattern, see `shape.sulci`
SULCAL_PERIOD_MM = 200.0  # room for both hemispheres' patterns side by side
WARP_AMPLITUDE_MM = {"z": 2.2, "y": 2.6, "x": 2.0}

# The pial hull: a super-ellipsoid whose front is a little narrower than its back.
HULL_HALF_AXES_MM = (72.0, 84.0, 66.0)  # z, y, x
HULL_CENTRE_MM = (8.0, -2.0)  # z, y
HULL_EXPONENT = 2.3
HULL_DEPTH_MM = 69.0  # from the surface to the centre
FRONT_NARROWING = 0.06


@dataclass(frozen=True)
class Subject:
    """Properties drawn once per subject; the anatomy is a pure function of them and of position.

    Attributes:
        age_years: Age, which drives atrophy, ventricles, iron and white-matter change.
        atrophy: Width of the sulci as a fraction of the widest.
        ventricle_size: Size of the ventricles relative to the mean.
        scale: Scale of the axes z, y, x.
        rotation_rad: Rotation of the head about its long axis.
        noise: Fields of `FIELD_SIGMA_MM`.
        sulcal_noise: Noise whose zero set on the pial surface is the sulcal pattern (see `shape.sulci`).
    """

    age_years: float
    atrophy: float
    ventricle_size: float
    scale: NDArray[np.float64]
    rotation_rad: float
    noise: dict[str, PeriodicField]
    sulcal_noise: PeriodicField

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Subject:
        """Draw a subject, using the same number of random values whatever is drawn."""
        age = rng.uniform(*AGE_YEARS)
        ageing = (age - AGE_YEARS[0]) / (AGE_YEARS[1] - AGE_YEARS[0])
        return cls(
            age_years=age,
            atrophy=float(np.clip(0.35 + 0.55 * ageing + rng.normal(0, 0.08), *ATROPHY)),
            ventricle_size=float(np.clip(0.8 + 0.55 * ageing + rng.normal(0, 0.12), *VENTRICLE_SIZE)),
            scale=rng.normal(1, SCALE_SD, 3),
            rotation_rad=rng.normal(0, ROTATION_SD_RAD),
            noise={name: PeriodicField.noise(rng, sigma) for name, sigma in FIELD_SIGMA_MM.items()},
            sulcal_noise=PeriodicField.noise(rng, SULCAL_SIGMA_MM, period_mm=SULCAL_PERIOD_MM),
        )

    @classmethod
    def draw_varied(cls, rng: np.random.Generator) -> Subject:
        """Draw a subject whose sulci and ventricles have any size at any age."""
        return replace(cls.draw(rng), atrophy=rng.uniform(*ATROPHY), ventricle_size=rng.uniform(*VENTRICLE_SIZE))

    @property
    def ageing(self) -> float:
        """Age relative to its range: 0 at the youngest age, 1 at the oldest."""
        return (self.age_years - AGE_YEARS[0]) / (AGE_YEARS[1] - AGE_YEARS[0])


@dataclass(frozen=True)
class HeadPoints:
    """Points inside the head in the subject's own frame (mm; the axes point up, forward and to the right).

    Attributes:
        z, y, x: Coordinates (N,) after the subject's rotation, scale and smooth deformation; z = 0 is the level of the
            basal ganglia, x = 0 the midline.
        radius: Super-ellipsoid radius (N,), 1 on the pial hull.
        depth: Distance (N,) below the pial hull in mm, positive inside.
        noise: Samples (N,) of each of the subject's fields.
    """

    z: FloatArray
    y: FloatArray
    x: FloatArray
    radius: FloatArray
    depth: FloatArray
    noise: dict[str, FloatArray]


def head_points(
    subject: Subject, axes: tuple[FloatArray, FloatArray, FloatArray], *, margin_mm: float
) -> tuple[HeadPoints, NDArray[np.bool_]]:
    """Find the points of a grid that lie inside the pial hull or at most `margin_mm` outside it.

    Args:
        subject: Subject.
        axes: Coordinates along z (up), y (forward) and x (right) in mm.
        margin_mm: Largest distance from the hull.

    Returns:
        The N points, and the boolean mask (nz, ny, nx) of where they lie on the grid.
    """
    z0, y0, x0 = np.meshgrid(*axes, indexing="ij", sparse=True)
    cos, sin = np.float32(np.cos(subject.rotation_rad)), np.float32(np.sin(subject.rotation_rad))
    straight = {"z": z0, "y": cos * y0 + sin * x0, "x": cos * x0 - sin * y0}
    z, y, x = (
        straight[axis] * np.float32(scale) + np.float32(amplitude) * subject.noise[f"warp_{axis}"].on_grid(*axes)
        for (axis, amplitude), scale in zip(WARP_AMPLITUDE_MM.items(), subject.scale, strict=True)
    )
    radius = hull_radius(z, y, x)
    depth = (1 - radius) * np.float32(HULL_DEPTH_MM)
    inside = depth > -margin_mm
    noise = {name: subject.noise[name].on_grid(*axes)[inside] for name in FIELD_SIGMA_MM if "warp" not in name}
    return HeadPoints(z[inside], y[inside], x[inside], radius[inside], depth[inside], noise), inside


def hull_radius(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Compute the super-ellipsoid radius of points in the subject's frame: 0 at the centre, 1 on the pial hull."""
    from_centre = (z - HULL_CENTRE_MM[0], y - HULL_CENTRE_MM[1])
    narrowing = 1 - FRONT_NARROWING * from_centre[1] / HULL_HALF_AXES_MM[1]
    relative = (from_centre[0] / HULL_HALF_AXES_MM[0], from_centre[1] / HULL_HALF_AXES_MM[1])
    across = x / (HULL_HALF_AXES_MM[2] * narrowing)
    total = sum(np.abs(r) ** np.float32(HULL_EXPONENT) for r in (*relative, across))
    return np.asarray(total ** np.float32(1 / HULL_EXPONENT), dtype=np.float32)
