"""A folder in BraTS' layout, of small volumes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1.0, 0, 59], [0, 0, 1.0, 0], [0, 0, 0, 1.0]])  # LPS, as BraTS


def write_brats(folder: Path, *, subjects: int = 7, size: int = 60, slices: int = 5, year: int = 2023) -> Path:
    """Subjects of smooth ellipsoids on an empty background; a T2 is the T1's intensities turned over."""
    rng = np.random.default_rng(0)
    ends = ("-t1n", "-t2w") if year == 2023 else ("_t1", "_t2")
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (size, size, slices)), indexing="ij")
    for number in reversed(range(subjects)):  # not in the order of the names
        name = f"BraTS-GLI-{number:05d}-000" if year == 2023 else f"BraTS2021_{number:05d}"
        brain = (x / 0.7) ** 2 + (y / 0.85) ** 2 + (z / 1.5) ** 2 < 1
        texture = gaussian_filter(rng.normal(size=brain.shape), 3)
        t1 = np.where(brain, 600 + 4000 * texture + 10 * number, 0)
        (folder / name).mkdir(parents=True)
        for image, end in ((t1, ends[0]), (np.where(brain, 1500 - t1, 0), ends[1])):
            nib.save(nib.Nifti1Image(image.astype(np.float32), AFFINE), folder / name / f"{name}{end}.nii.gz")
    return folder
