"""Enhancement in HU: errors of a predicted CECT against the aligned one, and how well contrast was removed from one.

The removal is Figure 5 of Seo et al., WACV 2021, in numbers: correct against false change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .dose import Spread, dose_values, irreducible_values
from .enhancement_regions import TOLERANCE_HU, Names, checked, organ_masks, quiet_region, smooth_change
from .score import foreground_mask
from .window import WINDOW_HU, window_quality


def contrast_metrics(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    spacing_mm: Sequence[float],
    label_names: Names | None = None,
    source: np.ndarray | None = None,
    spread: Spread | None = None,
    window_hu: tuple[float, float] = WINDOW_HU,
) -> dict[str, float]:
    """Compute all numbers of a predicted CECT beside the general ones; undefined numbers are omitted.

    Args:
        prediction: Predicted CECT `(X, Y, Z)` in HU, Z the axial slice axis.
        truth: CECT on the same grid; if it is not aligned, all but the first group below measure the misalignment.
        labels: Organs and lesions, of the same shape.
        spacing_mm: Voxel size along X, Y (and Z), in mm.
        label_names: Name of each label value; by default the abdomen phantom's.
        source: NECT of the same shape.
        spread: Result of `enhancement_spread` over the training patients; loaded, never measured on what is scored.
        window_hu: The paper's window.

    Returns:
        In the window: `mse_window`, `ms_ssim_window` (or `ms_ssim_window_kernel7`), `psnr_window` [dB] and
        `ssim_window`, see `window_quality`. With labels, for each organ that occurs: `enhancement_bias_<organ>_hu`,
        `enhancement_mae_<organ>_hu`, `truth_above_window_<organ>_percent` and, with a source,
        `enhancement_true_<organ>_hu`. With a source: `false_enhancement_hu` and the numbers of `dose_values`. With
        labels and a spread: the numbers of `irreducible_values`.

    Raises:
        ValueError: If shapes differ, values are not finite, the spacing is invalid, or the window does not rise.

    Example:
        >>> nect = np.full((40, 40, 1), -1000.0); nect[5:35, 5:35] = 40.0
        >>> labels = np.zeros(nect.shape); labels[10:20, 10:20] = 6
        >>> truth = nect + 100.0 * labels / 6
        >>> values = contrast_metrics(nect, truth, labels=labels, spacing_mm=(1, 1, 1), source=nect)
        >>> values["enhancement_bias_aorta_hu"], values["enhancement_true_aorta_hu"], values["false_enhancement_hu"]
        (-100.0, 100.0, 0.0)
    """
    prediction, truth = checked(truth, prediction=prediction, truth=truth)
    body = foreground_mask(truth)
    values = window_quality(prediction, truth, body=body, window_hu=window_hu)
    nect = None if source is None else checked(truth, source=source)[0]
    organs = None if labels is None else checked(truth, labels=labels)[0]
    if organs is not None:
        values |= _organ_values(prediction, truth, organ_masks(organs, label_names), nect, window_hu[1])
    if nect is not None and body.any():
        false = false_enhancement(
            prediction, truth, nect, spacing_mm=spacing_mm, body=body, labels=organs, label_names=label_names
        )
        values |= ({} if false is None else {"false_enhancement_hu": false}) | dose_values(
            prediction, truth, nect, body=body
        )
    if organs is not None and spread is not None and body.any():
        values |= irreducible_values(organs, spread, body=body, label_names=label_names)
    return values


def enhancement_errors(
    prediction: np.ndarray, truth: np.ndarray, masks: Mapping[str, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Compute mean error (prediction minus truth) and mean absolute error inside each organ, in HU.

    Source and truth show the same organ, so this is also the error of the enhancement. The mean error is free of noise
    (an organ has hundreds of voxels); the absolute one contains the rest of the source's noise.

    Args:
        prediction: Predicted CECT `(X, Y, Z)` in HU.
        truth: Aligned CECT of the same shape.
        masks: Boolean masks by organ, from `organ_masks`.

    Example:
        >>> aorta = {"aorta": np.ones((1, 1, 2), dtype=bool)}
        >>> enhancement_errors(np.array([[[90.0, 120.0]]]), np.full((1, 1, 2), 100.0), aorta)
        {'aorta': (5.0, 15.0)}
    """
    error = np.subtract(prediction, truth, dtype=np.float64)
    return {name: (float(error[mask].mean()), float(np.abs(error[mask]).mean())) for name, mask in masks.items()}


def false_enhancement(
    prediction: np.ndarray,
    truth: np.ndarray,
    source: np.ndarray,
    *,
    spacing_mm: Sequence[float],
    body: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    label_names: Names | None = None,
) -> float | None:
    """Average |prediction - source| in HU where the truth does not enhance; None where there is no such place.

    Bone, fat, bowel, cysts and unlabelled parts of the body count as far as the true change, smoothed over 2.5 mm,
    stays within 6 HU. Without labels the true change alone decides, and slight enhancement (muscle, 12 HU) is counted
    depending on its noise.

    Args:
        prediction: Predicted CECT `(X, Y, Z)` in HU.
        truth: Aligned CECT of the same shape.
        source: NECT of the same shape.
        spacing_mm: Voxel size along X, Y (and Z), in mm.
        body: Boolean mask; by default `foreground_mask` of the truth.
        labels: Label map of the same shape.
        label_names: Names of its values; by default the abdomen phantom's.

    Raises:
        ValueError: If shapes differ, values are not finite, or the spacing is invalid.
    """
    prediction, truth, source = checked(truth, prediction=prediction, truth=truth, source=source)
    inside = foreground_mask(truth) if body is None else body
    quiet = quiet_region(smooth_change(truth, source, spacing_mm), inside, labels, label_names)
    return float(np.abs(prediction - source)[quiet].mean()) if quiet.any() else None


def share_above(truth: np.ndarray, masks: Mapping[str, np.ndarray], level_hu: float = WINDOW_HU[1]) -> dict[str, float]:
    """Compute the percentage of each organ's true voxels above a level, which a network limited to it cannot reach.

    Example:
        >>> share_above(np.array([[[150.0, 210.0]]]), {"kidney_cortex": np.ones((1, 1, 2)) > 0})
        {'kidney_cortex': 50.0}
    """
    return {name: float(100.0 * (truth[mask] > level_hu).mean()) for name, mask in masks.items()}


def _organ_values(
    prediction: np.ndarray,
    truth: np.ndarray,
    masks: Mapping[str, np.ndarray],
    source: np.ndarray | None,
    highest_hu: float,
) -> dict[str, float]:
    above = share_above(truth, masks, highest_hu)
    values: dict[str, float] = {}
    for organ, (bias, absolute) in enhancement_errors(prediction, truth, masks).items():
        values[f"enhancement_bias_{organ}_hu"] = bias
        values[f"enhancement_mae_{organ}_hu"] = absolute
        if source is not None:
            values[f"enhancement_true_{organ}_hu"] = float((truth - source)[masks[organ]].mean())
        values[f"truth_above_window_{organ}_percent"] = above[organ]
    return values


class RemovalMaps(NamedTuple):
    """Change by a synthetic NECT, in HU `(X, Y, Z)`: `correct` where contrast was, `false` elsewhere."""

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
    """Split the change from a CECT into correct and false, as Figure 5 of Seo et al., WACV 2021, colours it.

    Contrast was where the true difference CECT - NECT, smoothed over 2.5 mm, exceeds 6 HU. There the removal
    CECT - synthetic NECT is correct (blue in the figure), in the rest of the body it is false (red). The paper had no
    aligned NECT and judged by eye; this function requires one.

    Args:
        synthetic_nect: Output of the contrast remover `(X, Y, Z)` in HU.
        nect: True NECT of the same shape, aligned with the CECT.
        cect: CECT of the same shape, the input of the remover.
        spacing_mm: Voxel size along X, Y (and Z), in mm.
        body: Boolean mask; by default `foreground_mask` of the CECT.

    Returns:
        Both maps, 0 where they do not apply, and the mask of where contrast was.

    Raises:
        ValueError: If shapes differ, values are not finite, or the spacing is invalid.
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
    """Summarise Figure 5 in numbers, for the direction CECT to NECT, with the arguments of the evaluator.

    Args:
        prediction: Synthetic NECT `(X, Y, Z)` in HU.
        truth: True NECT, aligned with the CECT.
        labels: Not used (all metrics are called alike): the true difference shows where contrast was.
        spacing_mm: Voxel size along X, Y (and Z), in mm.
        label_names: Not used.
        source: CECT; without it there are no numbers.

    Returns:
        `removal_correct_hu`: mean of CECT - synthetic NECT where contrast was; `removal_true_hu`: mean of
        CECT - NECT there, what it should be; `removal_false_hu`: mean |CECT - synthetic NECT| in the body elsewhere.
        Undefined numbers are omitted.

    Raises:
        ValueError: As in `removal_maps`.

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
