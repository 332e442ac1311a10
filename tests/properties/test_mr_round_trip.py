"""MR inside the percentile range comes back as it was; what lies beyond is clipped, and counted in the sidecar."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.helpers.inference import BUNDLES, translated
from tests.helpers.volumes import Stored, for_all, mr, rounds

PERCENTILES = (1.0, 99.0)
TOLERANCE = 1e-5  # of the range: rounding of single precision when encoded, decoded and written


@rounds(20)
def test_an_identity_network_returns_mr_values_between_the_percentiles_and_clips_the_others(examples):
    given = json.loads((BUNDLES / "nec_t1t2" / "models" / "network.json").read_text())

    def holds(volume: Stored) -> None:
        low, high = np.percentile(volume.values, PERCENTILES)
        codec = {"percentiles": list(PERCENTILES), "reference": [float(low), float(high)]}
        with tempfile.TemporaryDirectory() as folder:
            source = volume.save(Path(folder, "scan.nii.gz"))
            path = translated("nec_t1t2", source, Path(folder, "out"), definition={**given, "codec": codec})
            output = np.asarray(nib.load(path).dataobj)
            facts = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        tolerance = TOLERANCE * max(abs(low), abs(high))
        np.testing.assert_allclose(output, np.clip(volume.values, low, high), rtol=0, atol=tolerance)
        counted = facts["clipped_voxels"]["below"], facts["clipped_voxels"]["above"]
        assert counted == ((volume.values < low).sum(), (volume.values > high).sum())

    for_all(examples, holds, mr(spacing=(1.0, 1.0), shear=False))  # the network's pixels: nothing is resampled
