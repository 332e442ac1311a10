"""
MONAI Deploy's own classes run each release, and lose exactly what docs/monai_deploy.md says: all but 8 bits.

`stock_deploy.py` has no class of this project. The TorchScript file is MONAI's own export; it runs in a directory that
has nothing to do with the bundle.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from .conftest import BUNDLES
from .in_release import call_in
from .test_deploy import command_line

pytestmark = pytest.mark.interop

SCRIPT = Path(__file__).with_name("stock_deploy.py")
KERNELS = {"source": "B30f", "target": "B70f"}
GIVEN: dict[str, dict[str, str]] = {  # written into the config: the SDK's operator has no way to override it
    "ggcl": KERNELS,
    "kcgan_kernel_conversion": KERNELS,
    "sr_cyclegan": {"region": "all"},
}
SERIES = {
    "ggcl": "chest/B30f",
    "kcgan_kernel_conversion": "chest/B30f",
    "nec_t1t2": "brain/T1",
    "nect2cect": "abdomen/NECT",
    "sr_cyclegan": "lung/clinical",
}


@pytest.fixture(scope="module")
def exported(unpacked, tmp_path_factory):
    """From a bundle and the values to write into its config to a copy of its release with `models/model.ts`."""

    def release(bundle: str, given: dict[str, str]) -> Path:
        folder = tmp_path_factory.mktemp("exported") / bundle
        shutil.copytree(unpacked[bundle], folder)
        config = folder / "configs" / "inference.yaml"
        text = config.read_text()
        for name, value in given.items():
            text, count = re.subn(rf"^{name}: .*$", f"{name}: {value}", text, flags=re.MULTILINE)
            assert count == 1
        config.write_text(text)
        twin = folder / "configs" / "inference.json"
        twin.write_text(json.dumps({**json.loads(twin.read_text()), **given}))
        files: dict[str, Any] = {"meta_file": "configs/metadata.json", "config_file": "configs/inference.yaml"}
        files |= {"net_id": "network_def", "ckpt_file": "models/model.pt", "filepath": "models/model.ts"}
        assert call_in(folder, [("ckpt_export", files)]) == [None]
        return folder

    return release


def stock_app(python: Path, release: Path, model: Path, dicom: Path, output: Path) -> subprocess.CompletedProcess:
    """The app with a TorchScript file, or with a bundle's folder, which the SDK does not take by `-m`."""
    output.parent.mkdir(exist_ok=True, parents=True)
    command = [python, SCRIPT, "-i", dicom, "-o", output, *(["-m", model] if model.is_file() else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(release), "BUNDLE_PATH": str(model)}
    return subprocess.run(
        [str(part) for part in command],
        cwd=output.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def received(output: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (X, Y, Z) and affine of what the operator sent."""
    with np.load(output / "received.npz") as file:
        return np.swapaxes(file["voxels"], 0, 2), file["affine"]


def as_stored(voxels: np.ndarray, affine: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The voxels along the axes of another volume: the SDK may stack slices the other way."""
    change = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.io_orientation(like))
    return nib.orientations.apply_orientation(voxels, change)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_stock_operator_gives_the_command_lines_voxels_cast_to_8_bit(
    bundle, environment, exported, dicom_studies, tmp_path
):
    release, dicom = exported(bundle, GIVEN.get(bundle, {})), dicom_studies / SERIES[bundle]
    done = stock_app(environment("deploy"), release, release / "models" / "model.ts", dicom, tmp_path / "app" / "out")
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    voxels, affine = received(tmp_path / "app" / "out")
    expected = command_line(release, dicom, tmp_path / "command", {})
    right = np.asarray(expected.dataobj, dtype=np.float32)
    assert voxels.dtype == np.uint8
    # The voxels are right but for the cast: -1000 HU is 24, 40 HU is 40, and 296 HU is 40, too.
    np.testing.assert_array_equal(as_stored(voxels, affine, expected.affine), right.astype(np.uint8))
    assert (right < 0).any() or (right > 255).any()  # so something is lost
    sizes = nib.affines.voxel_sizes(affine), nib.affines.voxel_sizes(expected.affine)
    if bundle == "sr_cyclegan":  # and here the operator gives the geometry of the source
        np.testing.assert_allclose(sizes[0][:2], 8 * sizes[1][:2], rtol=1e-5)
    else:
        np.testing.assert_allclose(affine, expected.affine, atol=1e-3)


def test_the_stock_operator_runs_a_bundles_folder_from_anywhere(environment, exported, dicom_studies, tmp_path):
    release = exported("nect2cect", {})
    (release / "models" / "model.ts").unlink()  # model.pt, and the network that the config describes
    dicom = dicom_studies / SERIES["nect2cect"]
    done = stock_app(environment("deploy"), release, release, dicom, tmp_path / "app" / "out")
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    expected = command_line(release, dicom, tmp_path / "command", {})
    voxels, affine = received(tmp_path / "app" / "out")
    right = np.asarray(expected.dataobj, dtype=np.float32).astype(np.uint8)
    np.testing.assert_array_equal(as_stored(voxels, affine, expected.affine), right)


def test_an_export_without_its_network_json_is_refused(environment, exported, dicom_studies, tmp_path):
    release = exported("nect2cect", {})
    (tmp_path / "app").mkdir()
    shutil.copy(release / "models" / "model.ts", tmp_path / "app" / "model.ts")
    dicom = dicom_studies / SERIES["nect2cect"]
    done = stock_app(environment("deploy"), release, tmp_path / "app" / "model.ts", dicom, tmp_path / "app" / "out")
    assert done.returncode != 0 or not (tmp_path / "app" / "out" / "received.npz").exists()
    assert "read_definition(" in done.stdout + done.stderr  # of the chain of errors, the SDK prints the last one
