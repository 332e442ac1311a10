"""Emphysema index: the share of the lung that is darker than a threshold."""

from __future__ import annotations

import numpy as np

from .noise import check_volume

THRESHOLD_HU = -950.0


def emphysema_index(volume_hu: np.ndarray, lung_mask: np.ndarray, threshold_hu: float = THRESHOLD_HU) -> float:
    """Share of the lung's voxels below the threshold, in percent (also called LAA-950).

    P. A. Gevenois et al., "Comparison of computed density and macroscopic morphometry in pulmonary emphysema", Am. J.
    Respir. Crit. Care Med. 152, 1995. It rises with noise, hence with the sharpness of the reconstruction kernel.

    Args:
        volume_hu: CT volume ``(X, Y, Z)`` in HU.
        lung_mask: voxels of the lung, same shape.
        threshold_hu: below it a voxel counts.

    Raises:
        ValueError: when the shapes differ or the mask is empty.

    Example:
        >>> emphysema_index(np.array([[[-980.0, -850.0, -951.0, -950.0]]]), np.ones((1, 1, 4)))
        50.0
    """
    volume = check_volume(volume_hu, "volume_hu")
    mask = np.asarray(lung_mask).astype(bool)
    if mask.shape != volume.shape:
        raise ValueError(f"`lung_mask` must have the shape of `volume_hu` {volume.shape}, got {mask.shape}.")
    if not mask.any():
        raise ValueError("`lung_mask` must hold at least one voxel, got none; there is no lung in this volume.")
    return float(100.0 * (volume[mask] < threshold_hu).mean())
