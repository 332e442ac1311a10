"""Axial slices of a case as a radiologist expects them: patient's right on the left, front on top, true proportions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from ..metrics.masks import foreground_mask
from .inputs import Case
from .methods import LESION

MARGIN_MM = 6.0


@dataclass(frozen=True)
class AxialSlice:
    """One slice of a case, rows from front to back, columns from the patient's right to left.

    All images have shape ``(rows, columns)``; ``pixel_mm`` is (height, width).
    """

    source: np.ndarray
    prediction: np.ndarray
    target: np.ndarray | None
    label: np.ndarray | None
    pixel_mm: tuple[float, float]
    index: int
    slices: int


def load_slice(case: Case, label_names: Mapping[int, str]) -> AxialSlice:
    """Load a case, choose the slice with most disease (else the middle of the body) and crop it to the body.

    Raises:
        ValueError: when the volumes of the case do not share one grid.
    """
    source, zooms = load_ras(case.source)
    named = {"prediction": case.prediction, "target": case.target, "label": case.label}
    others = {name: load_ras(path)[0] for name, path in named.items() if path is not None}
    for name, volume in others.items():
        if volume.shape != source.shape:
            raise ValueError(
                f"`{name}` of patient {case.patient} must lie on the source's grid {source.shape}, got {volume.shape}; "
                "save it with the source's affine and shape."
            )
    body = foreground_mask(source) | foreground_mask(others["prediction"])
    label = others.get("label")
    index = choose_slice(body, label, label_names)
    window = _crop(body[:, :, index], zooms)

    def view(volume: np.ndarray | None) -> np.ndarray | None:
        return None if volume is None else radiological(volume[:, :, index][window])

    return AxialSlice(
        source=radiological(source[:, :, index][window]),
        prediction=radiological(others["prediction"][:, :, index][window]),
        target=view(others.get("target")),
        label=view(label),
        pixel_mm=(zooms[1], zooms[0]),
        index=index,
        slices=source.shape[2],
    )


def load_ras(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """A NIfTI volume reoriented to RAS, float32 ``(X, Y, Z)``, and its voxel size in mm; channel axes of 1 go."""
    image: Any = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[no-untyped-call]
    volume = np.asarray(image.dataobj, dtype=np.float32)
    while volume.ndim > 3 and volume.shape[-1] == 1:
        volume = volume[..., 0]
    if volume.ndim != 3:
        raise ValueError(f"`{path}` must hold one volume (X, Y, Z), got shape {volume.shape}.")
    x, y, z = (float(zoom) for zoom in image.header.get_zooms()[:3])
    return np.nan_to_num(volume), (x, y, z)


def radiological(plane: np.ndarray) -> np.ndarray:
    """Turn a RAS plane ``(X, Y)`` into display rows and columns: front on top, patient's right on the left.

    >>> radiological(np.array([["left back", "left front"], ["right back", "right front"]])).tolist()
    [['right front', 'left front'], ['right back', 'left back']]
    """
    return np.asarray(plane[::-1, ::-1].T)


def choose_slice(body: np.ndarray, label: np.ndarray | None, label_names: Mapping[int, str]) -> int:
    """Index of the slice with most disease; the middle of the body where there is none.

    Args:
        body: boolean mask ``(X, Y, Z)``.
        label: label map of the same shape, or None.
        label_names: name of each label value; disease is told from anatomy by its name.
    """
    if label is not None:
        area = np.isin(np.round(label), disease_values(label_names)).sum(axis=(0, 1))
        if area.any():
            return int(area.argmax())
    covered = np.flatnonzero(body.any(axis=(0, 1)))
    return int(covered[len(covered) // 2]) if covered.size else body.shape[2] // 2


def disease_values(label_names: Mapping[int, str]) -> list[int]:
    """Label values whose name is a disease's.

    >>> disease_values({1: "oedema", 2: "tumour", 5: "ventricles"})
    [1, 2]
    """
    return [value for value, name in label_names.items() if LESION.search(name)]


def _crop(body: np.ndarray, zooms: tuple[float, float, float]) -> tuple[slice, slice]:
    """The body's bounding box in a plane ``(X, Y)``, with a margin."""
    if not body.any():
        return slice(None), slice(None)
    window = []
    for axis in (0, 1):
        filled = np.flatnonzero(body.any(axis=1 - axis))
        margin = int(np.ceil(MARGIN_MM / zooms[axis]))
        window.append(slice(max(int(filled[0]) - margin, 0), int(filled[-1]) + 1 + margin))
    return window[0], window[1]
