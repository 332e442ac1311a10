"""Brain phantoms for tests, and their intensities."""

from __future__ import annotations

import numpy as np


def brain(inverted: bool) -> np.ndarray:
    """A dark rim and ventricle in a bright core, as in T1; or the reverse."""
    y, x = np.mgrid[-32:32, -32:32]
    radius = np.hypot(x, y)
    image = np.where(radius < 28, 300.0, 0.0)
    image[(radius > 24) & (radius < 28)] = 100.0
    image[radius < 5] = 60.0
    if inverted:
        image = np.where(radius < 28, 400.0 - image, 0.0)
    rng = np.random.default_rng(1)
    return (image[..., None] + rng.normal(0, 5, (64, 64, 3)) * (radius < 28)[..., None]).astype(np.float32)
