"""
Whether an image shows the part of the body that a network was trained with, in axial slices near to one another.

A 2.5-D network needs enough slices; all else is only warned of, as the measures are simple.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ...images.grids import coarse_volume
from ...images.names import file_name
from ...metrics.score import BODY_HU, foreground_mask
from ..lung import lung_mask

logger = logging.getLogger(__name__)

BODY_PART = "body_part"  # in the meta data of a volume from DICOM
SLICE_MM = 5.0
CHEST_SHARE = 0.25  # of a cross-section that is lung: hilar slices have 0.3 to 0.6, those of the lung's bases below 0.2
CHEST_SLICES = 0.6  # of all slices; an abdomen has its lung in the uppermost fifth
ABDOMEN_MM = 180.0  # a trunk's cross-section as a disc; adults have 250 to 400 mm, heads and thighs up to 180 mm
BRAIN_MM = (110.0, 230.0)  # likewise the largest of a brain, with or without the scalp: 132 to 163 in our test data
WHOLE = ("WHOLEBODY", "BODY")
NAMES = {
    "brain": ("HEAD", "BRAIN", "SKULL", *WHOLE),
    "abdomen": ("ABD", "PELVIS", "LIVER", "KIDNEY", "PANCREAS", "SPLEEN", "TRUNK", *WHOLE),
    "lung": ("CHEST", "LUNG", "THORAX", "TRUNK", *WHOLE),
}


class CheckBodyPartd(MapTransform):
    """
    Warns of an image that seems to show another part of the body, with the evidence.

    Measured are: for the brain, whether the largest cross-section of the foreground has the size of one; for the
    abdomen, whether the cross-sections have the size of a trunk's and are not those of a chest; for the lung, whether
    there is one (see `lung_mask`). BodyPartExamined of a DICOM header, where filled, must not contradict.

    Args:
        keys: keys of volumes (1, X, Y, Z), with an affine; CT in HU.
        part: `brain`, `abdomen` or `lung`.

    Raises:
        ValueError: when `part` is another.
    """

    def __init__(self, keys: KeysCollection, part: str, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if part not in NAMES:
            raise ValueError(f"`part` must be one of {', '.join(NAMES)}, got {part!r}.")
        self.part = part

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            image = data[key]
            doubts = [*_header_doubts(image, self.part)]
            coarse, spacing = coarse_volume(image, slice_mm=0.0 if self.part == "brain" else SLICE_MM)
            if (evidence := MEASURES[self.part](coarse, spacing)) is not None:
                doubts.append(evidence)
            if doubts:
                logger.warning(
                    f"{file_name(image)} may not show the {self.part}, which the network was made for:"
                    f" {'; '.join(doubts)}. If so, the result means nothing; check the series."
                )
        return dict(data)


def brain_doubt(volume: np.ndarray, spacing_mm: Sequence[float]) -> str | None:
    """
    Why an MR volume does not look like a brain, or None.

    Args:
        volume: shape (X, Y, Z), axial slices along Z, any unit.
        spacing_mm: voxel size.

    Example:
        >>> disc = np.hypot(*np.mgrid[-60:60, -60:60])[..., None] < 25
        >>> brain_doubt(disc * 100.0, (3.0, 3.0, 5.0))  # 150 mm
        >>> brain_doubt(disc * 100.0, (1.0, 1.0, 5.0))
        'its largest cross-section is that of a disc of 50 mm, a brain has 110 to 230 mm'
    """
    width = disc_mm(foreground_mask(volume), spacing_mm).max(initial=0)
    if BRAIN_MM[0] <= width <= BRAIN_MM[1]:
        return None
    low, high = BRAIN_MM
    return f"its largest cross-section is that of a disc of {width:.0f} mm, a brain has {low:g} to {high:g} mm"


def abdomen_doubt(volume_hu: np.ndarray, spacing_mm: Sequence[float]) -> str | None:
    """
    Why a CT volume does not look like an abdomen, or None.

    Args:
        volume_hu: shape (X, Y, Z), axial slices along Z.
        spacing_mm: voxel size.
    """
    body = volume_hu > BODY_HU
    width = float(np.median(disc_mm(body, spacing_mm)))
    if width < ABDOMEN_MM:
        return (
            f"its median cross-section is that of a disc of {width:.0f} mm, an abdomen has {ABDOMEN_MM:g} mm or more (a"
            " head or a limb has less, a small child, too)"
        )
    lung = _lung(volume_hu, spacing_mm)
    share = lung.sum(axis=(0, 1)) / np.maximum((lung | body).sum(axis=(0, 1)), 1)
    chest = float((share > CHEST_SHARE).mean())
    if chest <= CHEST_SLICES:
        return None
    return f"in {chest:.0%} of its slices more than {CHEST_SHARE:.0%} of the cross-section is lung, as in a chest"


def lung_doubt(volume_hu: np.ndarray, spacing_mm: Sequence[float]) -> str | None:
    """Why a CT volume, as in `abdomen_doubt`, does not look as if it had a lung, or None."""
    found = _lung(volume_hu, spacing_mm).any()
    return None if found else "no region enclosed by the body has the density and the size of a lung"


MEASURES: dict[str, Callable[[np.ndarray, Sequence[float]], str | None]] = {
    "brain": brain_doubt,
    "abdomen": abdomen_doubt,
    "lung": lung_doubt,
}


def disc_mm(mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Diameter of the disc that has the area of each axial slice of a mask (X, Y, Z)."""
    return np.asarray(2 * np.sqrt(mask.sum(axis=(0, 1)) * spacing_mm[0] * spacing_mm[1] / np.pi))


def _lung(volume_hu: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    try:
        return lung_mask(volume_hu, spacing_mm)
    except ValueError:  # none was found
        return np.zeros(volume_hu.shape, dtype=bool)


def _header_doubts(image: Any, part: str) -> list[str]:
    said = getattr(image, "meta", {}).get(BODY_PART)
    if not said or any(name in said.upper().replace(" ", "") for name in NAMES[part]):
        return []
    return [f"its DICOM header says {said!r}"]


MAX_TILT_DEGREES = 30.0
MAX_SLICE_MM = 10.0


class CheckAxiald(MapTransform):
    """
    Refuses volumes of too few axial slices; warns of slices that are not axial enough, or too far apart.

    "Axial" are the slices across the volume's axis that is nearest to the patient's long axis, however it is stored:
    a network is given these, and it was trained with the patient's axial plane. Oblique and anisotropic volumes are
    not resliced; up to the limits the network is near to what it has seen.

    Args:
        keys: keys of volumes of shape (C, X, Y, Z) with an affine.
        min_slices: fewest axial slices; three for a network that sees each with its two neighbours.
        max_tilt_degrees: largest angle between the slices and the axial plane.
        max_slice_mm: largest distance between slices.

    Raises:
        ValueError: when a volume has fewer than `min_slices` axial slices. The message names the file.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        min_slices: int = 1,
        max_tilt_degrees: float = MAX_TILT_DEGREES,
        max_slice_mm: float = MAX_SLICE_MM,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.min_slices, self.max_tilt_degrees, self.max_slice_mm = min_slices, max_tilt_degrees, max_slice_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            self._check(data[key])
        return dict(data)

    def _check(self, volume: Any) -> None:
        affine = np.asarray(volume.affine, dtype=float)
        slices, tilt, distance = axial_geometry(tuple(volume.shape[1:]), affine)
        if slices < self.min_slices:
            raise ValueError(
                f"{file_name(volume)} has {slices} axial slice(s), but the network sees each slice together with its"
                f" neighbours: at least {self.min_slices} are needed. Give the whole series, not a part of it."
            )
        if tilt > self.max_tilt_degrees:
            warnings.warn(
                f"The slices of {file_name(volume)} are tilted by {tilt:.0f} degrees from the axial plane, more than"
                f" {self.max_tilt_degrees:g}: the network knows axial slices, the result may be wrong. Check the"
                " orientation in the header, or reslice the volume to axial.",
                stacklevel=2,
            )
        if slices > 1 and distance > self.max_slice_mm:
            warnings.warn(
                f"The slices of {file_name(volume)} are {distance:.3g} mm apart, more than {self.max_slice_mm:g} mm:"
                " neighbouring slices show different anatomy, the result may be wrong. Give a thinner reconstruction.",
                stacklevel=2,
            )


def axial_geometry(shape: tuple[int, ...], affine: np.ndarray) -> tuple[int, float, float]:
    """
    How many slices a volume (X, Y, Z) has along the patient's long axis, their tilt and their distance.

    Args:
        shape: of the volume.
        affine: (4, 4), from voxel indices to RAS+ millimetres.

    Returns:
        number of slices; angle in degrees between them and the axial plane; distance between slices in mm.

    Example:
        >>> sagittal = np.array([[0, 0, 5.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # stored as A, S, R
        >>> axial_geometry((30, 40, 20), sagittal)
        (40, 0.0, 1.0)
    """
    axes = nib.orientations.io_orientation(affine)[:, 0]
    right, anterior, superior = (int(np.flatnonzero(axes == axis)[0]) for axis in range(3))
    columns = affine[:3, :3]
    normal = np.cross(columns[:, right], columns[:, anterior])
    normal /= np.linalg.norm(normal)
    tilt = float(np.degrees(np.arccos(min(1.0, abs(normal[2])))))
    return shape[superior], tilt, float(abs(columns[:, superior] @ normal))
