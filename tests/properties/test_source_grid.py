"""Outputs lie where their sources lie, whatever the order, direction, tilt, shear and size of the voxels."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.inference import CT_BUNDLES, translated
from tests.helpers.volumes import Stored, ct, for_all, mr, rounds


class Constant(nn.Module):
    """All pixels in the middle of the encoded range."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(image)


@rounds(5)
@pytest.mark.parametrize("network", [nn.Identity, Constant])
@pytest.mark.parametrize("bundle", [*CT_BUNDLES, "nec_t1t2"])
def test_an_output_lies_on_the_grid_of_its_source(bundle, network, examples):
    least = 3 if bundle == "nect2cect" else 1  # it sees slices with their neighbours

    def holds(volume: Stored) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = nib.load(volume.save(Path(folder, "scan.nii.gz")))
            output = nib.load(
                translated(bundle, Path(folder, "scan.nii.gz"), Path(folder, "out"), network_def=network())
            )
            assert output.shape == source.shape
            np.testing.assert_allclose(output.affine, source.affine, rtol=1e-5, atol=1e-3)
            assert nib.aff2axcodes(output.affine) == nib.aff2axcodes(source.affine)
            assert output.header.get_xyzt_units()[0] == "mm"
            assert int(output.header["sform_code"]) > 0
            assert np.isfinite(output.get_fdata()).all()

    for_all(examples, holds, mr() if bundle == "nec_t1t2" else ct(least=least))
