"""Visibility of the borders between tiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def seam_ratio(image: np.ndarray, borders: Sequence[Sequence[int]]) -> float:
    """Divide the mean absolute difference of neighbouring pixels across tile borders by that of all other neighbours.

    The ratio is 1 where borders are invisible; a step at the borders raises it. An image without tiles also differs
    from 1, since its structure near the borders may differ from that elsewhere: compare with it if there is one. Axes
    without borders do not count.

    Args:
        image: Image `(X, Y)` or `(X, Y, Z)`.
        borders: First pixel of each tile but the first, along X and along Y.

    Returns:
        The ratio; infinite for a step in an image that is constant elsewhere, 1 for a constant image.

    Raises:
        ValueError: If there is no border, or one lies outside the image.

    Example:
        >>> image = np.tile(np.arange(6.0), (4, 1))
        >>> image[:, 3:] += 1  # a step at Y = 3
        >>> seam_ratio(image, ([], [3]))
        2.0
    """
    across: list[np.ndarray] = []
    elsewhere: list[np.ndarray] = []
    for axis, places in enumerate(borders):
        if any(not 0 < place < image.shape[axis] for place in places):
            raise ValueError(
                f"`borders` along axis {axis} must lie in 1 ... {image.shape[axis] - 1}, got {list(places)}."
            )
        if not len(places):
            continue
        steps = np.abs(np.diff(np.asarray(image, dtype=float), axis=axis))
        at_border = np.isin(np.arange(steps.shape[axis]) + 1, list(places))
        across.append(steps.compress(at_border, axis=axis).ravel())
        elsewhere.append(steps.compress(~at_border, axis=axis).ravel())
    if not across:
        raise ValueError("`borders` must hold at least one border between tiles, got none.")
    crossing, other = np.concatenate(across), np.concatenate(elsewhere)
    if other.size and other.mean() > 0:
        return float(crossing.mean() / other.mean())
    return float("inf") if crossing.mean() > 0 else 1.0
