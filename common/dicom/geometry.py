"""Order and places of the slices of a volume, and what prevents them from being one even, upright stack."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .headers import Slice

if TYPE_CHECKING:
    from pydicom import Dataset

logger = logging.getLogger(__name__)
Floats = NDArray[np.float64]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SAME_PLACE = 0.01  # of a slice distance
WHOLE = 0.1  # how near a gap must be to a multiple of the slice distance to be one of missing slices
PARALLEL = 1e-3  # of direction cosines: beyond it, their difference is told
SAME_DIRECTION = 1e-5  # of direction cosines: rounding in headers
JITTER = 5e-3  # of direction cosines, 0.3 degrees: within it, slices are of one volume, with their mean orientation
MOST_NAMED = 5


@dataclass(frozen=True)
class Stack:
    """The slices of a volume in order: the one model of a series, from reading to writing.

    Args:
        slices: slices along a line, evenly spaced.
        affine: (4, 4), from (column, row, slice) to RAS in mm.
    """

    slices: tuple[Slice, ...]
    affine: Floats

    @property
    def headers(self) -> tuple[Dataset, ...]:
        """Header of each slice's file."""
        return tuple(image.header for image in self.slices)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of columns, rows and slices."""
        return *self.slices[0].matrix, len(self.slices)

    @property
    def modality(self) -> str:
        """`CT` or `MR`."""
        return self.slices[0].modality

    def as_numbered(self) -> Stack:
        """Put the slices in the order of their InstanceNumbers, if that is an order in space.

        Numbers that fall all along the stack turn it over. Others that do not rise say nothing of space: ignored.
        """
        if len(self.slices) < 2:
            return self
        numbers = [int(image.header.InstanceNumber) for image in self.slices]
        if not all(one > other for one, other in pairwise(numbers)):
            return self
        turned_over = np.diag([1.0, 1.0, -1.0, 1.0])
        turned_over[2, 3] = len(self.slices) - 1
        return Stack(self.slices[::-1], self.affine @ turned_over)


def stack(slices: Sequence[Slice], name: str, *, tolerance_mm: float = 0.02, upright: bool = True) -> Stack:
    """Sort slices by their position along their normal, the cross product of a row's and a column's direction.

    Args:
        slices: slices of one volume, in any order.
        name: name of the volume, for messages.
        tolerance_mm: how far a slice may lie from its place in an even stack; 1 % of the slice distance, if larger.
        upright: refuse a stack that leans (gantry tilt).

    Raises:
        ValueError: when a slice lacks its place, matrix, orientation or pixel size differ, two slices share a place,
            slices are missing, the distance varies, or the stack leans.
    """
    _check_attributes(slices, name)
    first = slices[0]
    along_row, along_column = _directions(slices, name)
    normal = np.cross(along_row, along_column)
    positions = np.array([image.position for image in slices], dtype=float)
    order = np.argsort(positions @ normal, kind="stable")
    ordered, positions = tuple(slices[n] for n in order), positions[order]
    if len(ordered) > 1:
        _check_distances(ordered, positions @ normal, name, tolerance_mm)
        _check_line(ordered, positions, normal, name, tolerance_mm, upright=upright)
        step = _step(positions)
    else:
        step = normal * _thickness(first, name)
    return Stack(ordered, _affine(ordered[0], (along_row, along_column), step))


def _directions(slices: Sequence[Slice], name: str) -> tuple[Floats, Floats]:
    """Return the directions of a row and of a column: those of all slices, or the mean of almost equal ones."""
    each = np.reshape([image.orientation for image in slices], (-1, 2, 3)).astype(float)
    for image, (along_row, along_column) in zip(slices, each):
        _check_directions(along_row, along_column, image, name)
    if (off := float(np.abs(each - each[0]).max())) <= SAME_DIRECTION:
        return each[0, 0], each[0, 1]
    if off > PARALLEL:
        logger.warning(
            f"{name}: the orientation of its slices varies by up to {off:.2g} (direction cosines), the mean is taken."
        )
    along_row, along_column = each.mean(axis=0)
    along_row /= np.linalg.norm(along_row)
    along_column -= (along_column @ along_row) * along_row
    return along_row, along_column / np.linalg.norm(along_column)


def _step(positions: Any) -> Floats:
    """Return the mean vector from one slice to the next, in mm (LPS)."""
    places = np.asarray(positions, dtype=float)
    step: Floats = (places[-1] - places[0]) / (len(places) - 1)
    return step


def _affine(first: Slice, directions: tuple[Floats, Floats], step: Floats) -> Floats:
    """Return the (4, 4) affine, from (column, row, slice) to RAS in mm, of a stack that begins with a slice."""
    along_row, along_column = directions
    between_rows, between_columns = first.pixel_mm or (1.0, 1.0)
    affine = np.eye(4)
    origin = np.array(first.position, dtype=float)
    affine[:3] = np.stack([along_row * between_columns, along_column * between_rows, step, origin], axis=1)
    return np.asarray(LPS_TO_RAS @ affine)


def _check_attributes(slices: Sequence[Slice], name: str) -> None:
    first = slices[0]
    places = {"position": "ImagePositionPatient", "orientation": "ImageOrientationPatient", "pixel_mm": "PixelSpacing"}
    for image in slices:
        if missing := [keyword for field, keyword in places.items() if getattr(image, field) is None]:
            raise ValueError(
                f"{name}: {image.name} lacks {', '.join(missing)}, it cannot be placed in space: export the original"
                " series, in which they are required."
            )
        if min(image.pixel_mm or (0.0,)) <= 0:
            raise ValueError(f"{name}: {image.name} has PixelSpacing {image.pixel_mm}: it must be positive.")
        if differing := difference(image, first):
            raise ValueError(f"{name}: {image.name} and {first.name} differ in {differing}: they are no one volume.")


def difference(one: Slice, other: Slice) -> str:
    """Name the geometry in which two slices differ, with the values; empty when they can be of one volume."""
    if one.matrix != other.matrix:
        return f"matrix ({_times(one.matrix)}, {_times(other.matrix)})"
    if not _close(one.orientation, other.orientation, JITTER):
        return f"orientation ({_rounded(one.orientation)}, {_rounded(other.orientation)})"
    if not _close(one.pixel_mm, other.pixel_mm, 1e-4):
        return f"pixel spacing ({_rounded(one.pixel_mm)} mm, {_rounded(other.pixel_mm)} mm)"
    return ""


def _check_directions(along_row: Floats, along_column: Floats, image: Slice, name: str) -> None:
    lengths = np.linalg.norm([along_row, along_column], axis=1)
    if np.abs(lengths - 1).max() > JITTER or abs(along_row @ along_column) > JITTER:
        raise ValueError(
            f"{name}: ImageOrientationPatient of {image.name}, {_rounded(image.orientation)}, must be two perpendicular"
            " directions of length 1: the header is damaged, export the series anew."
        )


def _check_distances(slices: Sequence[Slice], along: Floats, name: str, tolerance_mm: float) -> None:
    gaps = np.diff(along)
    apart = gaps[gaps > 1e-3]
    usual = float(np.quantile(apart, 0.25, method="lower")) if len(apart) else 0.0  # most of few may span missing ones
    doubled = np.flatnonzero(gaps <= max(SAME_PLACE * usual, 1e-3))
    if len(doubled):
        pairs = [f"{slices[n].name} and {slices[n + 1].name} at {along[n]:.2f} mm" for n in doubled[:MOST_NAMED]]
        raise ValueError(
            f"{name}: slices share {len(doubled)} of their places: {'; '.join(pairs)}{_more(doubled)}. Give one"
            " reconstruction, phase or echo, without copies."
        )
    counts = np.rint(gaps / usual)
    if (counts > 1).any() and np.abs(gaps / usual - counts).max() < WHOLE:
        places = [along[n] + usual * k for n in np.flatnonzero(counts > 1) for k in range(1, int(counts[n]))]
        named = ", ".join(f"{place:.2f}" for place in places[:MOST_NAMED])
        raise ValueError(
            f"{name} lacks {len(places)} of its {len(slices) + len(places)} slices, at {named} mm{_more(places)} along"
            f" their normal; the others are {usual:.3g} mm apart. Export the complete series."
        )
    mean = (along[-1] - along[0]) / (len(along) - 1)
    errors = np.abs(along - along[0] - mean * np.arange(len(along)))
    if errors.max() > max(tolerance_mm, 0.01 * mean):
        worst = int(errors.argmax())
        raise ValueError(
            f"{name}: the distance of its slices varies from {gaps.min():.4g} to {gaps.max():.4g} mm;"
            f" {slices[worst].name} lies {errors[worst]:.3g} mm from its place in an even stack. Resample it to even"
            " slices, or give the parts of equal distance one by one."
        )


def _check_line(
    slices: Sequence[Slice], positions: Floats, normal: Floats, name: str, tolerance_mm: float, *, upright: bool
) -> None:
    offsets = positions - positions[0]
    along = offsets @ normal
    sideways = offsets - along[:, None] * normal
    lean = sideways[-1] / along[-1]
    crooked = np.linalg.norm(sideways - along[:, None] * lean, axis=1)
    distance = along[-1] / (len(slices) - 1)
    if crooked.max() > max(tolerance_mm, 0.01 * distance):
        worst = int(crooked.argmax())
        raise ValueError(
            f"{name}: {slices[worst].name} lies {crooked[worst]:.3g} mm sideways of the line through the others: the"
            " slices are of several acquisitions, or the patient table moved. Give one acquisition."
        )
    if upright and np.linalg.norm(sideways[-1]) > 0.1 * min(slices[0].pixel_mm or (1.0,)):
        angle = math.degrees(math.atan(np.linalg.norm(lean)))
        told = slices[0].values.get("GantryDetectorTilt")
        raise ValueError(
            f"{name} is a leaning stack, as of a tilted gantry: {angle:.1f} degrees, each slice is shifted by"
            f" {np.linalg.norm(lean) * distance:.3g} mm against the one before"
            f"{f' (GantryDetectorTilt {told})' if told else ''}. Resample it to an upright stack first, e.g. by"
            " dcm2niix, which writes such a NIfTI file beside its own (`_Tilt`)."
        )


def _thickness(image: Slice, name: str) -> float:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        if value := image.values.get(keyword):
            return abs(float(value))
    logger.warning(f"{name} is a single slice that tells no thickness: 1 mm is assumed.")
    return 1.0


def _close(one: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, rtol=0, atol=tolerance))


def _more(items: Sequence[float] | NDArray) -> str:
    return f" and {len(items) - MOST_NAMED} more" if len(items) > MOST_NAMED else ""


def _times(matrix: tuple[int, int]) -> str:
    return f"{matrix[0]} x {matrix[1]}"


def _rounded(values: tuple[float, ...] | None) -> str:
    return "none" if values is None else "\\".join(f"{value:.4g}" for value in values)
