"""Noticing a NIfTI file whose header places its voxels nowhere: no such image can be resampled, or written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

WIDEST_MM = 5000.0  # no patient is longer
FINEST_MM = 1e-4
UNITS = {1: "metres", 3: "micrometres"}  # codes of xyzt_units


def check_grid(path: Path, image: Any) -> None:
    """
    Refuses a volume whose affine is no map to millimetres.

    Resampling to the pixels of a network costs memory with the volume's size in millimetres: a damaged header can ask
    for terabytes.

    Args:
        path: of the file, for messages.
        image: what nibabel loaded from it.

    Raises:
        ValueError: when the unit of its voxel sizes is not mm, the affine is not finite or flat, or a voxel is
            finer than 0.1 micrometres, or a side longer than 5 m. The message names the file.

    Example:
        >>> check_grid(Path("a.nii"), nib.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.diag([1, 1, 1e4, 1])))
        Traceback (most recent call last):
        ...
        ValueError: 'a.nii' is 9 x 9 x 90000 mm large by its header: its affine is damaged, or its unit is not mm. ...
    """
    cure = "Correct its header, or convert the original anew."
    code = int(image.header["xyzt_units"]) & 7 if "xyzt_units" in image.header else 0
    if code in UNITS:
        raise ValueError(f"{str(path)!r} gives its voxel sizes in {UNITS[code]}, they must be in mm. {cure}")
    affine = np.asarray(image.affine, dtype=float)
    if not np.isfinite(affine).all():
        raise ValueError(f"{str(path)!r} has an affine that is not finite, {affine[:3].tolist()}. {cure}")
    sizes = nib.affines.voxel_sizes(affine)
    sides = sizes * (list(image.shape) + [1, 1, 1])[:3]
    if sizes.min() < FINEST_MM or sides.max() > WIDEST_MM:
        large = " x ".join(f"{side:.4g}" if side < 1e4 else f"{side:.0f}" for side in sides)
        raise ValueError(
            f"{str(path)!r} is {large} mm large by its header: its affine is damaged, or its unit is not mm. {cure}"
        )
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-3:
        raise ValueError(f"{str(path)!r} has axes that lie in one plane, {affine[:3, :3].tolist()}. {cure}")
