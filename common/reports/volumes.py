"""Axial slices of a case as a radiologist expects them: patient's right on the left, front on top, true proportions.

In a chest CT a part is enlarged: a bronchus, whose wall and lumen show sharpness, else the middle of a lung.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.utils.module import optional_import

from ..metrics.score import foreground_mask
from .inputs import LESION, Case

ndimage, _ = optional_import("scipy.ndimage")

AIRWAY = "airway_lumen"
# Trachea and main bronchi are wider: every kernel shows these.
WIDEST_AIRWAY_MM = 8.0
LUNG_BELOW_HU = -500.0
SMOOTHING_MM = 2.0
LEAST_LUNG_MM2 = 2000.0

MARGIN_MM = 6.0
INSET_MM = 50.0
# A hundredth of every CT is air or lung; interpolated MR undershoots 0 in fewer voxels.
AIR_BELOW_HU = -200.0


@dataclass(frozen=True)
class Focus:
    """Place to enlarge: its name, its slice, its first two voxel indices `(x, y)`."""

    name: str
    index: int
    position: tuple[int, int]


def find_focus(
    volume_hu: np.ndarray,
    body: np.ndarray,
    label: np.ndarray | None,
    label_names: Mapping[int, str],
    zooms: tuple[float, float, float],
) -> Focus | None:
    """Find the place to enlarge; None if there is neither airway nor lung.

    Args:
        volume_hu: CT `(X, Y, Z)` in HU, Z the axial slice axis.
        body: Mask of the same shape, lungs included.
        label: Label map of the same shape, or None.
        label_names: Names of the label values, of which `airway_lumen` is used.
        zooms: Voxel size in mm.
    """
    values = [value for value, name in label_names.items() if name == AIRWAY]
    if label is not None and values:
        airway = _airway(np.isin(np.round(label), values), zooms)
        if airway:
            return airway
    return _lung(volume_hu, body, zooms)


def _airway(lumen: np.ndarray, zooms: tuple[float, float, float]) -> Focus | None:
    """Find the widest cross-section that is neither trachea nor main bronchus, else the narrowest of these."""
    found = []
    for index in np.flatnonzero(lumen.any(axis=(0, 1))):
        parts, number = ndimage.label(lumen[:, :, index])
        areas = np.bincount(parts.ravel())[1:] * zooms[0] * zooms[1]
        centres = ndimage.center_of_mass(lumen[:, :, index], parts, range(1, number + 1))
        found += [(2 * np.sqrt(area / np.pi), int(index), centre) for area, centre in zip(areas, centres, strict=True)]
    if not found:
        return None
    narrow = [entry for entry in found if entry[0] <= WIDEST_AIRWAY_MM]
    _, place, centre = max(narrow) if narrow else min(found)
    return Focus("airway", place, (round(centre[0]), round(centre[1])))


def _lung(volume_hu: np.ndarray, body: np.ndarray, zooms: tuple[float, float, float]) -> Focus | None:
    """Find the point farthest from the surface of the lungs, in the slice with most lung."""
    dark = body & (volume_hu < LUNG_BELOW_HU)
    index = int(dark.sum(axis=(0, 1)).argmax())
    sigma = [SMOOTHING_MM / step for step in zooms[:2]]
    smooth = ndimage.gaussian_filter(np.clip(volume_hu[:, :, index], -1024, 3071), sigma)
    lung = body[:, :, index] & (smooth < LUNG_BELOW_HU)
    if lung.sum() * zooms[0] * zooms[1] < LEAST_LUNG_MM2:
        return None
    depth = ndimage.distance_transform_edt(lung, sampling=zooms[:2])
    x, y = divmod(int(depth.argmax()), depth.shape[1])
    return Focus("lung", index, (x, y))


@dataclass(frozen=True)
class AxialSlice:
    """Slice of a case, rows from front to back, columns from the patient's right to left.

    All images have shape `(rows, columns)`; `pixel_mm` is (height, width). With `hu` the images are CT in HU; then
    `inset`, rows and columns, is worth enlarging for its `focus_name`.
    """

    source: np.ndarray
    prediction: np.ndarray
    target: np.ndarray | None
    label: np.ndarray | None
    pixel_mm: tuple[float, float]
    index: int
    slices: int
    hu: bool = False
    focus_name: str = ""
    inset: tuple[slice, slice] | None = None


@dataclass(frozen=True)
class CaseVolumes:
    """Volumes of a case `(X, Y, Z)` in RAS on one grid, and its voxel size in mm."""

    source: np.ndarray
    prediction: np.ndarray
    target: np.ndarray | None
    label: np.ndarray | None
    zooms: tuple[float, float, float]


def load_case(case: Case) -> CaseVolumes:
    """Load all volumes of a case.

    Raises:
        ValueError: If they do not share one grid.
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
    return CaseVolumes(source, others["prediction"], others.get("target"), others.get("label"), zooms)


def axial_slice(volumes: CaseVolumes, label_names: Mapping[int, str], *, chest: bool = True) -> AxialSlice:
    """Choose a slice of a case and crop it to the body.

    It is the slice with most disease, else the middle of the body; in CT of the `chest` the slice with the airway,
    else the centre of a lung, that is worth enlarging.
    """
    source = volumes.source
    hu = is_hu(source)
    body = foreground_mask(source) | foreground_mask(volumes.prediction)
    focus = find_focus(source, body, volumes.label, label_names, volumes.zooms) if hu and chest else None
    index = focus.index if focus else choose_slice(body, volumes.label, label_names)
    window = _crop(body[:, :, index], volumes.zooms)

    def view(volume: np.ndarray) -> np.ndarray:
        return radiological(volume[:, :, index][window])

    shown = view(source)
    return AxialSlice(
        source=shown,
        prediction=view(volumes.prediction),
        target=None if volumes.target is None else view(volumes.target),
        label=None if volumes.label is None else view(volumes.label),
        pixel_mm=(volumes.zooms[1], volumes.zooms[0]),
        index=index,
        slices=source.shape[2],
        hu=hu,
        focus_name=focus.name if focus else "",
        inset=_inset(focus, window, shown.shape, volumes.zooms) if focus else None,
    )


def load_ras(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Load a NIfTI volume reoriented to RAS, float32 `(X, Y, Z)`, and its voxel size in mm; channel axes of 1 go."""
    image = ras_image(path)
    x, y, z = (float(zoom) for zoom in image.header.get_zooms()[:3])
    return volume_of(image, path), (x, y, z)


def ras_image(path: Path) -> Any:
    """Open a NIfTI file reoriented to RAS, without its voxels."""
    return nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[no-untyped-call]


def volume_of(image: Any, path: Path) -> np.ndarray:
    """Return the voxels of an image, float32 `(X, Y, Z)`; channel axes of 1 go, and what is not finite becomes 0.

    Raises:
        ValueError: If it holds more than one volume; the message names `path`.
    """
    volume = np.asarray(image.dataobj, dtype=np.float32)
    while volume.ndim > 3 and volume.shape[-1] == 1:
        volume = volume[..., 0]
    if volume.ndim != 3:
        raise ValueError(f"`{path}` must hold one volume (X, Y, Z), got shape {volume.shape}.")
    return np.nan_to_num(volume)


def is_hu(volume: np.ndarray) -> bool:
    """Return whether a volume is CT in HU, by its values: at least 1 % of it is below -200.

    Example:
        >>> is_hu(np.array([-1000.0, 40.0])), is_hu(np.array([0.0, 40.0]))
        (True, False)
    """
    return float(np.percentile(volume, 1.0)) < AIR_BELOW_HU


def radiological(plane: np.ndarray) -> np.ndarray:
    """Turn a RAS plane `(X, Y)` into display rows and columns: front on top, patient's right on the left.

    Example:
        >>> radiological(np.array([["left back", "left front"], ["right back", "right front"]])).tolist()
        [['right front', 'left front'], ['right back', 'left back']]
    """
    return np.asarray(plane[::-1, ::-1].T)


def choose_slice(body: np.ndarray, label: np.ndarray | None, label_names: Mapping[int, str]) -> int:
    """Return the index of the slice with most disease, or the middle of the body if there is none.

    Args:
        body: Boolean mask `(X, Y, Z)`.
        label: Label map of the same shape, or None.
        label_names: Name of each label value; disease is told from anatomy by its name.
    """
    if label is not None:
        area = np.isin(np.round(label), disease_values(label_names)).sum(axis=(0, 1))
        if area.any():
            return int(area.argmax())
    covered = np.flatnonzero(body.any(axis=(0, 1)))
    return int(covered[len(covered) // 2]) if covered.size else body.shape[2] // 2


def disease_values(label_names: Mapping[int, str]) -> list[int]:
    """List label values whose name is a disease's.

    Example:
        >>> disease_values({1: "oedema", 2: "tumour", 5: "ventricles"})
        [1, 2]
    """
    return [value for value, name in label_names.items() if LESION.search(name)]


def _crop(body: np.ndarray, zooms: tuple[float, float, float]) -> tuple[slice, slice]:
    """Return the body's bounding box in a plane `(X, Y)`, with a margin."""
    if not body.any():
        return slice(None), slice(None)
    window = []
    for axis in (0, 1):
        filled = np.flatnonzero(body.any(axis=1 - axis))
        margin = int(np.ceil(MARGIN_MM / zooms[axis]))
        window.append(slice(max(int(filled[0]) - margin, 0), int(filled[-1]) + 1 + margin))
    return window[0], window[1]


def _inset(
    focus: Focus, window: tuple[slice, slice], shape: tuple[int, ...], zooms: tuple[float, float, float]
) -> tuple[slice, slice]:
    """Return rows and columns around a focus in the cropped, displayed slice, as far as they lie in it."""
    places = []
    for axis in (1, 0):  # rows run along Y, columns along X, both backwards
        length = shape[1 - axis]
        centre = length - 1 - (focus.position[axis] - (window[axis].start or 0))
        half = max(round(INSET_MM / zooms[axis] / 2), 1)
        places.append(slice(max(centre - half, 0), min(centre + half + 1, length)))
    return places[0], places[1]
