"""
The shipped weights give the recorded outputs, so that no change of the code alters an image unnoticed.

`golden/` holds a small source per bundle and the translation that the command line wrote. A change that is meant to
alter an output records it anew with `python -m tests.bundles.test_golden BUNDLE` and says why in its commit.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden")
OPTIONS: dict[str, dict[str, object]] = {
    "ggcl": {"source": "B30f", "target": "B70f"},
    "kcgan_kernel_conversion": {"source": "B70f", "target": "B30f"},
    "nec_t1t2": {},
    "nect2cect": {},
    "sr_cyclegan": {"region": "all", "slab": [0, 2]},
}


def trunk() -> tuple[np.ndarray, np.ndarray]:
    """An oval of soft tissue with vessels, bone and lung in air, with noise, in HU."""
    x, y, z = np.mgrid[-32:32, -28:28, 0:4].astype(float)
    noise = np.random.default_rng(7).integers(-30, 31, x.shape)
    volume = np.where(np.hypot(x / 29, y / 22) < 1, 45 + noise, -1000 + abs(noise))
    for (cx, cy), radius, value in [((-12, 3), 7, -850), ((13, 4), 6, 90), ((0, -14), 4, 700), ((3 + 2, 2), 3, 40)]:
        volume = np.where(np.hypot(x - cx - z, y - cy) < radius, value + noise, volume)
    return volume, np.array([[-0.8, 0, 0, 20], [0, -0.8, 0, 15], [0, 0, 3, -40], [0, 0, 0, 1.0]])


def clinical_lung() -> tuple[np.ndarray, np.ndarray]:
    """A small cube of the same, since each of its voxels becomes 512."""
    volume, affine = trunk()
    return volume[18:38, 22:42], affine


def head() -> tuple[np.ndarray, np.ndarray]:
    """A T1-like head without a skull: white above grey matter above fluid, in arbitrary units."""
    x, y, z = np.mgrid[-30:30, -32:32, 0:4].astype(float)
    distance = np.hypot(x / 25, (y + z) / 28)
    noise = np.random.default_rng(7).integers(-25, 26, x.shape)
    volume = np.select([distance < 0.25, distance < 0.75, distance < 1], [180 + noise, 820 + noise, 560 + noise], 0)
    return volume, np.array([[-2.8, 0, 0, 80], [0, -2.8, 0, 90], [0, 0, 3, -10], [0, 0, 0, 1.0]])


SOURCES = {"nec_t1t2": head, "sr_cyclegan": clinical_lung}


def translate(bundle: str, source: Path, folder: Path) -> Path:
    """Run a bundle's `inference.yaml` as it is shipped; returns its only output."""
    parser = ConfigParser()
    root = ROOT / "bundles" / bundle
    parser.read_config(str(root / "configs" / "inference.yaml"))
    places = {"bundle_root": str(root), "dataset_dir": str(source), "output_dir": str(folder)}
    parser.update({**places, "device": "$torch.device('cpu')", **OPTIONS[bundle]})
    parser.get_parsed_content("run")
    (output,) = folder.rglob("*_synthetic_*.nii*")
    return output


@pytest.mark.parametrize("bundle", OPTIONS)
def test_the_shipped_weights_give_the_recorded_output(bundle, tmp_path):
    output = nib.load(translate(bundle, GOLDEN / f"{bundle}_source.nii.gz", tmp_path))
    recorded = nib.load(GOLDEN / f"{bundle}_output.nii.gz")
    assert output.get_data_dtype() == recorded.get_data_dtype()
    np.testing.assert_array_equal(output.affine, recorded.affine)
    found, expected = (np.asarray(image.dataobj, dtype=np.float64) for image in (output, recorded))
    # Bit for bit on the machine that recorded it. Another processor sums in another order, which moves what is near a
    # half to the next integer (HU), or a float32 of MR by its last digits.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1.0)
    assert np.mean(~np.isclose(found, expected, rtol=1e-4, atol=0.01)) < 1e-3
    assert len(np.unique(expected)) > 100


def record(bundle: str) -> None:
    """Write the source and the output of a bundle to `golden/`."""
    volume, affine = SOURCES.get(bundle, trunk)()
    source, recorded = (GOLDEN / f"{bundle}_{name}.nii.gz" for name in ("source", "output"))
    nib.save(nib.Nifti1Image(volume.round().astype(np.int16), affine), source)
    with tempfile.TemporaryDirectory() as folder:
        nib.save(nib.load(translate(bundle, source, Path(folder))), recorded)


if __name__ == "__main__":
    for name in sys.argv[1:] or OPTIONS:
        record(name)
