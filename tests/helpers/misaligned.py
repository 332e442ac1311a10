"""A small body with organs, before and after contrast, and how it is moved by a known deformation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

AFFINE = np.array([[-4.0, 0, 0, 100], [0, -4.0, 0, 90], [0, 0, 5.0, -60], [0, 0, 0, 1]])
SHAPE = (50, 46, 22)
ORGANS = [  # centre and half axes in mm, plain and enhanced HU
    ((-40, 10, -10), (40, 35, 35), 58, 114),
    ((45, 15, 0), (22, 26, 24), 48, 120),
    ((30, -25, -15), (14, 12, 28), 32, 180),
    ((-32, -25, -20), (14, 12, 26), 32, 170),
    ((0, -38, 0), (14, 14, 90), 190, 192),
    ((5, -16, 0), (9, 9, 90), 40, 150),
]
_rng = np.random.default_rng(7)
WAVES = [(0.12 * direction / np.linalg.norm(direction), _rng.uniform(0, 6)) for direction in _rng.normal(0, 1, (12, 3))]
Points = NDArray[np.float64]


def points(affine: np.ndarray = AFFINE, shape: tuple[int, ...] = SHAPE) -> Points:
    """Places of the voxels in RAS mm, (X, Y, Z, 3)."""
    return np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]


def body_at(places: Points, *, enhanced: bool) -> NDArray[np.float32]:
    """HU of the body at places (..., 3) in its own frame, with soft borders."""
    x, y, z = np.moveaxis(places, -1, 0)
    values = np.where((x / 88) ** 2 + (y / 66) ** 2 < 1, -95.0, -1000.0)
    values = np.where((x / 80) ** 2 + (y / 58) ** 2 < 1, 54.0 + 6 * enhanced, values)
    for centre, half, plain, after in ORGANS:
        radius = np.sqrt(sum(((c - m) / h) ** 2 for c, m, h in zip((x, y, z), centre, half)))
        share = np.clip((1 - radius) * min(half) / 4 + 0.5, 0, 1)
        values = values + share * ((after if enhanced else plain) - values)
    texture = sum(np.sin(np.stack([x, y, z], -1) @ wave + phase) for wave, phase in WAVES)
    values = np.where(values > -300, values + 9 * texture, values)
    return values.astype(np.float32)


def noisy(values: NDArray[np.float32], seed: int, sd: float = 8.0) -> NDArray[np.float32]:
    return (values + np.random.default_rng(seed).normal(0, sd, values.shape)).astype(np.float32)


def rotated(degrees: float = 5.0, shift: tuple[float, float, float] = (9.0, -6.0, 8.0)) -> Callable[[Points], Points]:
    """A rotation about z, a scaling and a shift of places."""
    angle = np.deg2rad(degrees)
    turn = 1.03 * np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return lambda places: places @ turn.T + shift


def breathed(largest_mm: float = 9.0) -> Callable[[Points], Points]:
    """A smooth deformation, strongest in the middle of the body, that vanishes at its sides."""

    def move(places: Points) -> Points:
        x, y, z = np.moveaxis(places, -1, 0)
        bump = largest_mm * np.exp(-((x / 55) ** 2 + ((y - 5) / 45) ** 2 + (z / 70) ** 2))
        return places + np.stack([0.3 * bump, -0.4 * bump, bump], axis=-1)

    return move


def moved(
    move: Callable[[Points], Points], *, affine: np.ndarray = AFFINE, shape: tuple[int, ...] = SHAPE, seed: int = 1
) -> NDArray[np.float32]:
    """The enhanced body, moved: it shows at move(p) what lies at p, by fixed-point iteration."""
    places = points(affine, shape)
    origin = places.copy()
    for _ in range(40):
        origin = origin - 0.7 * (move(origin) - places)
    return noisy(body_at(origin, enhanced=True), seed)
