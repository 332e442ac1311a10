"""A bundle gives the same voxels from a DICOM series, a zip, an enhanced object and NIfTI."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from tests.helpers.bundles import ROOT, done, run
from tests.helpers.dicom_files import AFFINE, series, write_enhanced

BUNDLE = ROOT / "bundles" / "kcgan_kernel_conversion"
NAMES = {"series": "case", "zip": "P1_3", "enhanced": "E7_5", "nifti": "scan"}


def scan() -> np.ndarray:
    """A disk of water in air with noise and a corner of padding (64, 48, 3), HU."""
    x, y = np.ogrid[-32:32, -24:24]
    volume = np.repeat(np.where(x**2 + y**2 < 400, 0, -1000)[..., None], 3, axis=2)
    volume = volume + np.random.default_rng(0).normal(0, 20, volume.shape).round().astype(int)
    volume[:4, :4] = -3024
    return volume


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    volume = scan()
    one = series(folder / "case", volume)
    archive = Path(shutil.make_archive(str(folder / "sent by mail"), "zip", folder, "case"))
    several = write_enhanced(folder / "Doe.Jane", volume + 1000, order=[1, 2, 0], scales=[(1, -1000)] * 3)
    nib.save(nib.Nifti1Image(volume.astype(np.int16), AFFINE), folder / "scan.nii.gz")
    return {"series": one, "zip": archive, "enhanced": several, "nifti": folder / "scan.nii.gz"}


def output(folder: Path) -> tuple[str, nib.Nifti1Image]:
    (path,) = folder.rglob("*.nii.gz")
    return path.name, nib.load(path)


def translated(source: Path, folder: Path) -> tuple[str, nib.Nifti1Image]:
    workflow = ConfigWorkflow(
        str(BUNDLE / "configs" / "inference.yaml"),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(BUNDLE),
        dataset_dir=str(source),
        output_dir=str(folder),
        source="B30f",
        target="B70f",
        guards="off",
    )
    workflow.initialize()
    workflow.run()
    return output(folder)


@pytest.fixture(scope="module")
def reference(sources, tmp_path_factory) -> nib.Nifti1Image:
    return translated(sources["nifti"], tmp_path_factory.mktemp("nifti"))[1]


@pytest.mark.parametrize("kind", ["series", "zip", "enhanced"])
def test_dicom_is_translated_as_nifti_is(sources, reference, tmp_path, kind):
    name, image = translated(sources[kind], tmp_path)
    assert name == f"{NAMES[kind]}_synthetic_B70f.nii.gz"
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(reference.dataobj))
    np.testing.assert_allclose(image.affine, reference.affine, atol=1e-5)
    assert np.abs(np.asarray(image.dataobj)[10:-10, 10:-10] - scan()[10:-10, 10:-10]).max() > 0


def test_the_command_line_takes_a_zip(sources, reference, tmp_path):
    places = ["--dataset_dir", sources["zip"], "--output_dir", tmp_path / "out", "--models_dir", BUNDLE / "models"]
    options = ["--source", "B30f", "--target", "B70f", "--guards", "off"]
    process = done(run(BUNDLE, "inference", ["inference"], *places, *options, cwd=tmp_path))
    assert "Found series 3 'source', CT, patient P1, 3 slices" in process.stderr
    np.testing.assert_array_equal(np.asarray(output(tmp_path / "out")[1].dataobj), np.asarray(reference.dataobj))
