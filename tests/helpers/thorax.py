"""A thorax of simple shapes in HU, small enough to be drawn in a moment."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

SHAPE, PIXEL_MM = (170, 140, 3), 2.0
NAMES = {1: "lung_parenchyma", 3: "airway_lumen"}
# Centres in pixels (RAS), slice of the bronchus, and diameters in mm.
TRACHEA, BRONCHUS, BRONCHUS_SLICE = (85, 80), (50, 60), 1
TRACHEA_MM, BRONCHUS_MM = 18.0, 7.0


def thorax(noise_hu: float = 0.0, seed: int = 0) -> np.ndarray:
    """Air, a body of soft tissue, two lungs, a trachea and in one slice a bronchus with its wall; white noise."""
    volume = np.full(SHAPE, -1000.0)
    volume[_ellipse((85, 70), 150, 120)] = 40.0
    for x in (48, 122):
        volume[_ellipse((x, 70), 50, 85)] = -850.0
    volume[_ellipse(TRACHEA, TRACHEA_MM / 2, TRACHEA_MM / 2)] = -1000.0
    for radius, hu in ((BRONCHUS_MM / 2 + 3, 0.0), (BRONCHUS_MM / 2, -1000.0)):
        volume[:, :, BRONCHUS_SLICE][_ellipse(BRONCHUS, radius, radius)[:, :, BRONCHUS_SLICE]] = hu
    return volume + np.random.default_rng(seed).normal(0.0, noise_hu, SHAPE) if noise_hu else volume


def labels() -> np.ndarray:
    """Lung 1, airway lumen 3."""
    label = np.where(thorax() == -850.0, 1, 0)
    label[_ellipse(TRACHEA, TRACHEA_MM / 2, TRACHEA_MM / 2)] = 3
    inside = _ellipse(BRONCHUS, BRONCHUS_MM / 2, BRONCHUS_MM / 2)[:, :, BRONCHUS_SLICE]
    label[:, :, BRONCHUS_SLICE][inside] = 3
    return label


def save(path: Path, volume: np.ndarray, axes: str = "RAS") -> Path:
    """Save a RAS volume with the given orientation on disk."""
    image = nibabel.Nifti1Image(np.asarray(volume, np.float32), np.diag([PIXEL_MM, PIXEL_MM, 5.0, 1.0]))
    wanted = nibabel.orientations.axcodes2ornt(axes)
    transform = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), wanted)
    nibabel.save(image.as_reoriented(transform), path)
    return path


def _ellipse(centre: tuple[int, int], a_mm: float, b_mm: float) -> np.ndarray:
    x, y, _ = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    inside = ((x - centre[0]) * PIXEL_MM / a_mm) ** 2 + ((y - centre[1]) * PIXEL_MM / b_mm) ** 2 <= 1.0
    return np.broadcast_to(inside, SHAPE)
