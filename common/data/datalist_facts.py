"""What the headers of an image say: its grid, and of DICOM its series; no voxels are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from .datalist import VOLUME_SUFFIXES
from .datalist_found import Facts

TOLERANCE_MM = 1e-2  # as the evaluators


def facts_of(path: Path) -> Facts:
    """
    The facts of a NIfTI file, or of a folder or a file that is one DICOM series.

    Raises:
        ValueError: when it is neither, cut off in its header, or several series.
    """
    if path.is_dir() or not path.name.lower().endswith(VOLUME_SUFFIXES):
        from .datalist_series import series_below

        series, left_out = series_below(path if path.is_dir() else path.parent, deep=False)
        own = [one for one in series if path in (one.place, one.place.parent)]
        if len(own) != 1:
            reasons = "".join(f"; {reason}" for reason in left_out.values())
            raise ValueError(f"it must be one DICOM series, got {len(own)}{reasons}")
        return own[0].facts
    try:
        image: Any = nib.load(path)
        shape, affine = tuple(int(size) for size in image.shape), np.asarray(image.affine, dtype=np.float64)
    except Exception as error:  # nibabel raises whatever a damaged header makes it meet
        raise ValueError(f"cannot be read as NIfTI ({error})") from error
    if len(shape) < 3 or set(shape[3:]) - {1} or 0 in shape:
        raise ValueError(f"must be a volume of three axes, got the shape {shape}")
    return Facts(shape, affine)


def same_grid(first: Facts, second: Facts) -> bool:
    """Whether two images have the same voxels at the same places, in one frame of reference.

    Example:
        >>> import numpy as np
        >>> same_grid(Facts((4, 4, 2), np.eye(4)), Facts((4, 4, 3), np.eye(4)))
        False
    """
    return (
        first.shape == second.shape
        and first.frame == second.frame
        and np.allclose(first.affine, second.affine, atol=TOLERANCE_MM)
    )
