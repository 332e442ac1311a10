"""Limits of predicting a patient's enhancement from a NECT: its spread over patients, and one fitted dose factor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from .enhancement_regions import LABELS, ORGANS, Names, checked, organ_masks
from .image_quality import PSNR_CEILING_DB
from .window import WINDOW_HU

RANGE_HU = WINDOW_HU[1] - WINDOW_HU[0]

Patient = tuple[np.ndarray, np.ndarray, np.ndarray]
Spread = Mapping[str, Mapping[str, float]]


def enhancement_spread(patients: Iterable[Patient], label_names: Names | None = None) -> dict[str, dict[str, float]]:
    """Compute mean and SD over patients of each organ's true enhancement, once, on the training patients.

    Dose, body weight, timing and the patient's circulation determine how much an organ enhances, and a NECT shows none
    of
    these: the SD is the error that remains for the best prediction from a NECT, the mean.

    Args:
        patients: Triples (NECT, aligned CECT, label map), each `(X, Y, Z)`, in HU; read one at a time.
        label_names: Name of each label value; by default the abdomen phantom's.

    Returns:
        `{organ: {"mean_hu": ..., "sd_hu": ..., "patients": ...}}`, with the sample SD, for every label that at least
        two patients have.

    Raises:
        ValueError: If shapes differ or values are not finite.

    Example:
        >>> nect, labels = np.full((2, 2, 1), 40.0), np.full((2, 2, 1), 6)
        >>> enhancement_spread([(nect, nect + 90.0, labels), (nect, nect + 110.0, labels)])["aorta"]["mean_hu"]
        100.0
    """
    names = tuple(LABELS if label_names is None else label_names.values())
    found: dict[str, list[float]] = {}
    for plain, enhanced, label_map in patients:
        nect, cect, labels = checked(enhanced, nect=plain, cect=enhanced, labels=label_map)
        for organ, mask in organ_masks(labels, label_names, names).items():
            found.setdefault(organ, []).append(float((cect - nect)[mask].mean()))
    return {
        organ: {"mean_hu": float(np.mean(values)), "sd_hu": float(np.std(values, ddof=1)), "patients": len(values)}
        for organ, values in found.items()
        if len(values) > 1
    }


def irreducible_values(
    labels: np.ndarray, spread: Spread, *, body: np.ndarray, label_names: Names | None = None
) -> dict[str, float]:
    """Compute the error that remains for a perfect prediction of every organ's mean enhancement, and nothing else.

    Its expected square in a voxel is the variance over patients of that organ's enhancement. Noise and variation inside
    an organ add to it.

    Args:
        labels: Label map `(X, Y, Z)` of the patient.
        spread: Result of `enhancement_spread` over other patients.
        body: Boolean mask of the same shape.
        label_names: Name of each label value; by default the abdomen phantom's.

    Returns:
        `irreducible_rmse_hu` over the body, and `irreducible_<organ>_hu`, the SD in each reported organ that
        occurs.

    Raises:
        ValueError: If an SD is not a number >= 0, or the body is empty.

    Example:
        >>> labels = np.array([[[6, 6, 0, 0]]])
        >>> irreducible_values(labels, {"aorta": {"sd_hu": 10.0}}, body=labels >= 0)["irreducible_rmse_hu"] ** 2
        50.00000000000001
    """
    inside = np.asarray(body, dtype=bool)
    if not inside.any():
        raise ValueError("`body` must cover at least one voxel, got an empty mask.")
    square = 0.0
    values: dict[str, float] = {}
    for organ, mask in organ_masks(labels, label_names, tuple(spread)).items():
        sd = float(spread[organ]["sd_hu"])
        if not (np.isfinite(sd) and sd >= 0):
            raise ValueError(f"`spread` of {organ} must have an `sd_hu` >= 0, got {sd}; measure the spread again.")
        square += sd**2 * float((mask & inside).sum())
        if organ in ORGANS:
            values[f"irreducible_{organ}_hu"] = sd
    return {"irreducible_rmse_hu": float(np.sqrt(square / inside.sum())), **values}


def dose_values(prediction: np.ndarray, truth: np.ndarray, source: np.ndarray, *, body: np.ndarray) -> dict[str, float]:
    """Compute the error inside the body as predicted, and after one factor per patient on the predicted change.

    With p = prediction - source and t = truth - source, over all voxels of the body, the factor is the least-squares
    sum(p t) / sum(p^2), at least 0 (a dose is not negative): no other makes the RMSE smaller. It sees the truth, so it
    is not a result, but shows how much of the error is due to dose.

    Args:
        prediction: Predicted CECT `(X, Y, Z)` in HU.
        truth: Aligned CECT of the same shape.
        source: NECT of the same shape.
        body: Boolean mask of the same shape.

    Returns:
        `rmse_body_hu` and `psnr_body` [dB, range 300 HU]; `dose_factor`, and with it `rmse_dose_hu` and
        `psnr_dose` [dB]. Where nothing was changed there is no factor, and the errors are equal.

    Raises:
        ValueError: If the body is empty.

    Example:
        >>> nect, body = np.zeros((1, 1, 2)), np.ones((1, 1, 2)) > 0
        >>> values = dose_values(np.array([[[50.0, 0.0]]]), np.array([[[60.0, 0.0]]]), nect, body=body)
        >>> values["dose_factor"], values["rmse_dose_hu"]
        (1.2, 0.0)
    """
    inside = np.asarray(body, dtype=bool)
    if not inside.any():
        raise ValueError("`body` must cover at least one voxel, got an empty mask.")
    before, after, given = (np.asarray(volume, dtype=np.float64)[inside] for volume in (source, truth, prediction))
    predicted, true = given - before, after - before
    plain = _rmse(predicted - true)
    values = {"rmse_body_hu": plain, "psnr_body": _psnr(plain)}
    power = float(predicted @ predicted)
    if power == 0.0:
        return values | {"rmse_dose_hu": plain, "psnr_dose": _psnr(plain)}
    factor = max(float(predicted @ true) / power, 0.0)
    scaled = _rmse(factor * predicted - true)
    return values | {"dose_factor": factor, "rmse_dose_hu": scaled, "psnr_dose": _psnr(scaled)}


def _rmse(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))


def _psnr(rmse_hu: float) -> float:
    """Compute the PSNR over the window's width, at most 100 dB as elsewhere."""
    return PSNR_CEILING_DB if rmse_hu == 0.0 else min(float(20.0 * np.log10(RANGE_HU / rmse_hu)), PSNR_CEILING_DB)
