"""What a network leaves as it is comes back in the HU of the source, to the last unit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.helpers.inference import CT_BUNDLES, Nearest, translated
from tests.helpers.verdicts import refusal
from tests.helpers.volumes import Stored, ct, for_all, rounds

LIMITS = (-1200, 400)  # the HU that sr_cyclegan encodes, by its network.json


@rounds(10)
@pytest.mark.parametrize("bundle", CT_BUNDLES)
def test_an_identity_network_returns_the_hu_of_its_source_with_padding_and_metal(bundle, examples):
    def holds(volume: Stored) -> None:
        with tempfile.TemporaryDirectory() as folder:
            output = nib.load(translated(bundle, volume.save(Path(folder, "scan.nii")), Path(folder, "out")))
            np.testing.assert_array_equal(np.asarray(output.dataobj), np.rint(volume.values))

    for_all(examples, holds, ct(least=3 if bundle == "nect2cect" else 1))


@pytest.mark.parametrize("bundle", CT_BUNDLES)
def test_hu_beyond_the_type_of_the_output_are_refused_or_kept_but_never_wrapped(bundle, tmp_path):
    hu = np.random.default_rng(0).integers(-1024, 3071, (8, 9, 4)).astype(np.float32)
    hu[2, 2, 2] = 36000.0
    source = Stored(hu, np.diag([0.7, 0.7, 2.0, 1.0]), 1.0, 0.0).save(tmp_path / "scan.nii")
    with pytest.raises((ValueError, RuntimeError)) as error:
        translated(bundle, source, tmp_path / "out")
    root = refusal(error.value)
    assert "scan.nii" in root
    assert "run from -10" in root
    assert "to 36000" in root
    assert not list(tmp_path.glob("out/**/*"))


@rounds(10)
def test_nearest_super_resolution_keeps_the_clipped_hu_of_every_voxel_and_its_place(examples):
    def holds(volume: Stored) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = volume.save(Path(folder, "scan.nii.gz"))
            output = nib.load(translated("sr_cyclegan", source, Path(folder, "out")))
            assert np.prod(output.shape) == Nearest.factor**2 * volume.raw.size
            fine = np.indices(output.shape).reshape(3, -1)
            world = nib.affines.apply_affine(output.affine, fine.T)
            coarse = np.rint(nib.affines.apply_affine(np.linalg.inv(volume.affine), world)).astype(int)
            values = np.rint(volume.values)[tuple(coarse.T)]
            expected, found = np.clip(values, *LIMITS), np.asarray(output.dataobj).reshape(-1)
            # Beyond the limits padding keeps its values, and next to it the output passes into them.
            assert (found >= np.minimum(expected, values)).all()
            assert (found <= np.maximum(expected, values)).all()
            inside = (volume.values >= LIMITS[0]).all() and (volume.values <= LIMITS[1]).all()
            assert inside or (found == expected).mean() > 0.5

    for_all(examples, holds, ct(whole=True))
