"""A series and a NIfTI file of one volume give one output: the same values at the same places."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from tests.helpers.dicom_series import write_source_series
from tests.helpers.inference import translated
from tests.helpers.volumes import affines, for_all, rounds, shapes

Volume = tuple[NDArray[np.int16], NDArray[np.float64]]


class Shift(nn.Module):
    """The neighbour's value on one side: an output turned or mirrored on its way would differ."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.roll(image, 1, dims=2)


@st.composite
def volumes(draw: st.DrawFn, pixel_mm: float | None) -> Volume:
    """
    Whole numbers, and axes that DICOM can tell: perpendicular ones.

    Args:
        draw: of Hypothesis.
        pixel_mm: of the network, so that nothing is resampled: for tilted volumes MONAI's `Spacing` lets its new grid
            begin at the first voxel or centres it, by the eighth digit of the affine, and NIfTI has but seven.
            None: any size.
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = random.integers(-1024, 3071, draw(shapes(least=3, largest=8)), dtype=np.int16)
    affine = draw(affines(shear=False))
    affine[:3, :3] *= (pixel_mm or random.uniform(0.5, 6.0, 3)) / np.linalg.norm(affine[:3, :3], axis=0)
    return values, affine


@rounds(6)
@pytest.mark.parametrize(("bundle", "pixel_mm"), [("ggcl", None), ("nect2cect", 2.5), ("nec_t1t2", 1.0)])
def test_dicom_and_nifti_of_a_volume_give_the_same_output(bundle, pixel_mm, examples):
    modality = "MR" if bundle == "nec_t1t2" else "CT"

    def holds(volume: Volume) -> None:
        values, affine = volume
        values = np.abs(values) if modality == "MR" else values
        with tempfile.TemporaryDirectory() as folder:
            nib.save(nib.Nifti1Image(values, affine), Path(folder, "scan.nii.gz"))
            kernel = {"ConvolutionKernel": "B30f"} if modality == "CT" else {}
            write_source_series(Path(folder, "series"), values, affine, modality, **kernel)
            outputs = [
                nib.as_closest_canonical(
                    nib.load(translated(bundle, Path(folder, name), Path(folder, f"of_{name}"), network_def=Shift()))
                )
                for name in ("scan.nii.gz", "series")
            ]
            expected, found = (np.asarray(output.dataobj) for output in outputs)
        np.testing.assert_allclose(outputs[1].affine, outputs[0].affine, rtol=1e-5, atol=2e-3)
        if modality == "MR":
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.ptp(expected))
        else:
            assert np.abs(found - expected).max() <= 1  # the last bit of a resampled half HU
            assert (found == expected).mean() > 0.99

    for_all(examples, holds, volumes(pixel_mm))
