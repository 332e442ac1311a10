"""Interpolations that every super-resolution is measured against; there is nothing to fit."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import interpolate

MODES = ("nearest", "bicubic")


class Interpolation:
    """
    Axial slices on pixels `factor` times as fine.

    Pixels are areas: the outer corners of both grids agree, and nothing shifts. Bicubic is Keys' kernel with a = -0.75,
    torch's, which overshoots at edges.

    Args:
        mode: "nearest" or "bicubic".
        factor: >= 1.

    Raises:
        ValueError: when an argument is out of its range.

    Example:
        >>> Interpolation("nearest", 2).predict(np.array([[[1.0], [2.0]]]))[:, :, 0].tolist()
        [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
    """

    def __init__(self, mode: str, factor: int) -> None:
        if mode not in MODES:
            raise ValueError(f"`mode` must be one of {MODES}, got {mode!r}.")
        if factor < 1:
            raise ValueError(f"`factor` must be >= 1, got {factor}.")
        self.name, self.factor = mode, factor

    def predict(self, volume: np.ndarray) -> np.ndarray:
        """Map ``(X, Y, Z)`` of any unit, Z the axial slice axis, to ``(factor X, factor Y, Z)``, float32.

        Raises:
            ValueError: when the volume has not three dimensions.
        """
        volume = np.asarray(volume, dtype=np.float32)
        if volume.ndim != 3:
            raise ValueError(f"`volume` must have 3 dimensions (X, Y, Z), got shape {volume.shape}.")
        slices = torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, 2, 0)))[:, None]
        options = {"align_corners": False} if self.name == "bicubic" else {}
        finer = interpolate(slices, scale_factor=float(self.factor), mode=self.name, **options)  # type: ignore[arg-type]
        return np.moveaxis(finer[:, 0].numpy(), 0, 2)
