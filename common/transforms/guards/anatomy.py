"""Checks of the anatomy and of the slices: the body part that a network was trained on, in axial slices close together.

Too few slices for a 2.5-D network are refused; everything else is only warned of, as the measures are simple.
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

from ...errors import ImpossibleError
from ...images.grids import MOST_VOXELS, coarse_volume
from ...images.names import file_name
from ...metrics.score import BODY_HU, foreground_mask
from ..lung import lung_mask

logger = logging.getLogger(__name__)

BODY_PART = "body_part"  # in the meta data of a volume from DICOM
SLICE_MM = 5.0
CHEST_SHARE = 0.1  # lung in a cross-section: a chest has 0.1 (large patients) to 0.6, an abdomen below 0.05
CHEST_SLICES = 0.5  # share of all slices; an abdomen has its lung in the uppermost fifth
ABDOMEN_MM = 180.0  # diameter of a disc of a trunk's cross-section: adults 250 to 400 mm, heads and thighs up to 180 mm
BRAIN_MM = (110.0, 230.0)  # a brain's largest cross-section as a disc, with or without scalp: 132 to 163 in test data
MAX_TILT_DEGREES = 30.0
MAX_SLICE_MM = 10.0
WHOLE = ("WHOLEBODY", "BODY")
NAMES = {
    "brain": ("HEAD", "BRAIN", "SKULL", *WHOLE),
    "abdomen": ("ABD", "PELVIS", "LIVER", "KIDNEY", "PANCREAS", "SPLEEN", "TRUNK", *WHOLE),
    "lung": ("CHEST", "LUNG", "THORAX", "TRUNK", *WHOLE),
}


class CheckBodyPartd(MapTransform):
    """Warn of an image that seems to show another part of the body, with the evidence.

    For the brain, the largest cross-section of the foreground must have the size of a brain. For the abdomen, the
    cross-sections must have the size of a trunk and not look like a chest. For the lung, a lung must be found (see
    `lung_mask`). BodyPartExamined of a DICOM header, where it is filled, must not contradict.

    Args:
        keys: Keys of volumes (1, X, Y, Z) with an affine; CT in HU.
        part: Expected body part, `brain`, `abdomen` or `lung`.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ValueError: If `part` is none of the three.
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
            coarse, spacing = coarse_volume(image, slice_mm=0.0 if self.part == "brain" else SLICE_MM, most=MOST_VOXELS)
            if (evidence := MEASURES[self.part](coarse, spacing)) is not None:
                doubts.append(evidence)
            if doubts:
                logger.warning(
                    f"{file_name(image)} may not show the {self.part}, which the network was made for:"
                    f" {'; '.join(doubts)}. If so, the result means nothing; check the series."
                )
        return dict(data)


def brain_doubt(volume: np.ndarray, spacing_mm: Sequence[float]) -> str | None:
    """Return why an MR volume does not look like a brain, or None if it does.

    Args:
        volume: Volume (X, Y, Z) with axial slices along Z, in any unit.
        spacing_mm: Voxel size in mm along X, Y and Z.

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
    """Return why a CT volume does not look like an abdomen, or None if it does.

    Args:
        volume_hu: Volume (X, Y, Z) in HU with axial slices along Z.
        spacing_mm: Voxel size in mm along X, Y and Z.
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
    """Return why a CT volume does not seem to show a lung, or None if it does.

    Args:
        volume_hu: Volume (X, Y, Z) in HU with axial slices along Z.
        spacing_mm: Voxel size in mm along X, Y and Z.
    """
    found = _lung(volume_hu, spacing_mm).any()
    return None if found else "no region enclosed by the body has the density and the size of a lung"


MEASURES: dict[str, Callable[[np.ndarray, Sequence[float]], str | None]] = {
    "brain": brain_doubt,
    "abdomen": abdomen_doubt,
    "lung": lung_doubt,
}


def disc_mm(mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Return the diameter in mm of the disc that has the area of each axial slice of a mask (X, Y, Z)."""
    return np.asarray(2 * np.sqrt(mask.sum(axis=(0, 1)) * spacing_mm[0] * spacing_mm[1] / np.pi))


def _lung(volume_hu: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    try:
        return lung_mask(volume_hu, spacing_mm)
    except ValueError:  # no lung was found
        return np.zeros(volume_hu.shape, dtype=bool)


def _header_doubts(image: Any, part: str) -> list[str]:
    said = getattr(image, "meta", {}).get(BODY_PART)
    if not said or any(name in said.upper().replace(" ", "") for name in NAMES[part]):
        return []
    return [f"its DICOM header says {said!r}"]


class CheckAxiald(MapTransform):
    """Refuse volumes with too few axial slices; warn of slices that are far from axial, or far apart.

    Axial slices are those across the volume's axis that is nearest to the patient's long axis, however the volume is
    stored: the network gets these, and it was trained in the patient's axial plane. Oblique and anisotropic volumes
    are not resliced; within the limits they are close to what the network has seen.

    Args:
        keys: Keys of volumes (C, X, Y, Z) with an affine.
        min_slices: Smallest number of axial slices; 3 for a network that sees each slice with its two neighbours.
        max_tilt_degrees: Largest angle in degrees between the slices and the axial plane without a warning.
        max_slice_mm: Largest distance between slices in mm without a warning.
        allow_missing_keys: Whether items may lack some of the keys.

    Raises:
        ImpossibleError: When called, if a volume has fewer than `min_slices` axial slices. The message names the file.
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
            raise ImpossibleError(
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
    """Return the number of slices along the patient's long axis, their tilt and their distance.

    Args:
        shape: Shape (X, Y, Z) of the volume.
        affine: Affine (4, 4) from voxel indices to RAS+ millimetres.

    Returns:
        Number of slices, angle between them and the axial plane in degrees, and distance between slices in mm.

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
