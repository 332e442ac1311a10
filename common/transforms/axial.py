"""Does a volume have axial slices, enough of them, and near enough to one another, for a network of slice triplets?"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from .check import file_name

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
