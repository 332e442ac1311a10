"""How well contrast was removed from a CECT: correct against false change, the paper's Figure 5 in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .enhancement_regions import TOLERANCE_HU, Names, checked, smooth_change
from .masks import foreground_mask


class RemovalMaps(NamedTuple):
    """What a synthetic NECT changed, in HU ``(X, Y, Z)``: ``correct`` where contrast was, ``false`` elsewhere."""

    correct: np.ndarray
    false: np.ndarray
    enhanced: np.ndarray


def removal_maps(
    synthetic_nect: np.ndarray,
    nect: np.ndarray,
    cect: np.ndarray,
    *,
    spacing_mm: Sequence[float],
    body: np.ndarray | None = None,
) -> RemovalMaps:
    """Split what was removed from a CECT into correct and false, as Figure 5 of Seo et al., WACV 2021, colours it.

    Contrast was where the true difference CECT - NECT, smoothed over 2.5 mm, exceeds 6 HU. There the removal
    CECT - synthetic NECT is correct (blue in the figure), in the rest of the body it is false (red). The paper had no
    aligned NECT and judged by eye; this needs one.

    Args:
        synthetic_nect: output of the contrast remover ``(X, Y, Z)`` in HU.
        nect: the true NECT, aligned with the CECT, same shape.
        cect: the CECT that was given to the remover, same shape.
        spacing_mm: voxel size along X, Y (and Z), in mm.
        body: boolean mask; default `foreground_mask` of the CECT.

    Returns:
        both maps, 0 where they do not apply, and the mask of where contrast was.

    Raises:
        ValueError: on unequal shapes, values that are not finite, or a bad spacing.
    """
    synthetic, before, after = checked(cect, synthetic_nect=synthetic_nect, nect=nect, cect=cect)
    inside = foreground_mask(after) if body is None else np.asarray(body, dtype=bool)
    enhanced = inside & (smooth_change(after, before, spacing_mm) > TOLERANCE_HU)
    removed = after - synthetic
    return RemovalMaps(np.where(enhanced, removed, 0.0), np.where(inside & ~enhanced, removed, 0.0), enhanced)


def removal_metrics(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    spacing_mm: Sequence[float],
    label_names: Names | None = None,
    source: np.ndarray | None = None,
) -> dict[str, float]:
    """Figure 5 in two numbers, with the arguments of the evaluator: for the direction CECT to NECT.

    Args:
        prediction: synthetic NECT ``(X, Y, Z)`` in HU.
        truth: the true NECT, aligned with the CECT.
        labels: taken because all metrics are called alike; the true difference tells where contrast was.
        spacing_mm: voxel size along X, Y (and Z), in mm.
        label_names: likewise.
        source: the CECT; without it there is no number.

    Returns:
        ``removal_correct_hu``: mean of CECT - synthetic NECT where contrast was; ``removal_true_hu``: mean of
        CECT - NECT there, what it should be; ``removal_false_hu``: mean |CECT - synthetic NECT| in the body elsewhere.
        What is undefined is left out.

    Raises:
        ValueError: as `removal_maps`.

    Example:
        >>> nect = np.full((40, 40, 1), -1000.0); nect[5:35, 5:35] = 40.0
        >>> cect = nect.copy(); cect[12:28, 12:28] = 140.0
        >>> values = removal_metrics(cect, nect, source=cect, spacing_mm=(2, 2, 5))
        >>> values["removal_correct_hu"], values["removal_true_hu"] > 50, values["removal_false_hu"]
        (0.0, True, 0.0)
    """
    if source is None:
        return {}
    cect = np.asarray(source, dtype=np.float64)
    body = foreground_mask(cect)
    maps = removal_maps(prediction, truth, cect, spacing_mm=spacing_mm, body=body)
    values: dict[str, float] = {}
    if maps.enhanced.any():
        values["removal_correct_hu"] = float(maps.correct[maps.enhanced].mean())
        values["removal_true_hu"] = float((cect - truth)[maps.enhanced].mean())
    elsewhere = body & ~maps.enhanced
    return values | ({"removal_false_hu": float(np.abs(maps.false[elsewhere]).mean())} if elsewhere.any() else {})
