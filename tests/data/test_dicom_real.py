"""Real DICOM series: values and places agree with NIfTI files that others converted from the same scans."""

import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImaged

from common.data import find_images
from common.data.derived_source import read_source_series
from common.dicom import DicomSeriesReader, image_readers, source_files
from common.dicom.geometry import stack
from common.dicom.headers import read_header, slices_of
from common.dicom.pixels import read_volume

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SERIES = {  # shape, voxel sizes in mm, modality and kernel, as their headers and `../shared/data/README.md` tell
    "ibsi_STS_019_CT": ((136, 134, 47), (0.976562, 0.976562, 3.27), "CT", "SOFT"),
    "ibsi_STS_019_MR_T1": ((112, 110, 47), (1.171875, 1.171875, 3.27), "MR", None),
    "lidc_idri_0314_12slices": ((512, 512, 12), (0.78125, 0.78125, 1.0), "CT", "D"),
    "philips_headphantom_UB_8slices": ((512, 512, 8), (0.451172, 0.451172, 1.0), "CT", "UB"),
    "philips_headphantom_YA_8slices": ((512, 512, 8), (0.451172, 0.451172, 1.0), "CT", "YA"),
}
NIFTI = {
    "lidc_idri_0314_12slices": "chest_ct/lidc_idri_0314_native_40slices",
    "philips_headphantom_UB_8slices": "kernel_pair_ct/philips_headphantom_UB_soft_brain_40slices",
    "philips_headphantom_YA_8slices": "kernel_pair_ct/philips_headphantom_YA_sharp_bone_40slices",
}

pytestmark = pytest.mark.skipif(not (SHARED / "dicom").is_dir(), reason="real DICOM (../shared/data) is not there")


def load(name):
    (item,) = find_images(SHARED / "dicom" / f"{name}.zip")
    return LoadImaged(keys="image", reader=image_readers())(item)["image"]


@pytest.mark.parametrize("name", SERIES)
def test_shape_voxel_size_modality_and_kernel_are_those_of_the_headers(name):
    image = load(name)
    shape, sizes, modality, kernel = SERIES[name]
    assert image.shape == shape
    np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine.numpy()), sizes, atol=1e-4)
    assert (image.meta["modality"], image.meta.get("00181210")) == (modality, kernel)
    if name != "ibsi_STS_019_MR_T1":
        assert -1100 < float(image.min()) <= -1000


@pytest.mark.parametrize("name", NIFTI)
def test_values_and_places_agree_with_the_nifti_file_of_the_scan(name):
    image, other = load(name), nib.load(SHARED / f"{NIFTI[name]}.nii.gz")
    to_image = np.linalg.inv(image.affine.numpy()) @ other.affine
    np.testing.assert_allclose(to_image[:3, :3], np.eye(3), atol=1e-6)  # a crop: no turn, no scale, a shift
    shift = to_image[:3, 3].round()
    np.testing.assert_allclose(to_image[:3, 3], shift, atol=1e-4)
    start = np.maximum(shift, 0).astype(int)
    stop = np.minimum(shift + other.shape, image.shape).astype(int)
    ours = image.numpy()[tuple(slice(a, b) for a, b in zip(start, stop))]
    start, stop = start - shift.astype(int), stop - shift.astype(int)
    theirs = np.asarray(other.dataobj)[tuple(slice(a, b) for a, b in zip(start, stop))]
    assert ours.size > 100_000
    np.testing.assert_array_equal(ours, theirs)


def test_the_writer_finds_the_grid_that_was_read():
    image = load("philips_headphantom_UB_8slices")
    np.testing.assert_allclose(read_source_series(source_files(image.meta)).affine, image.affine.numpy(), atol=1e-6)


def test_a_real_enhanced_object_is_placed_by_its_frames():
    path = SHARED / "dicom" / "eCT_Supplemental.dcm"
    ordered = stack(slices_of(read_header(path), path), path.name)
    expected = [[0.388672, 0, 0, -99.5], [0, -0.388672, 0, 301.5], [0, 0, -10, -149], [0, 0, 0, 1]]
    np.testing.assert_allclose(ordered.affine, expected, atol=1e-6)  # from its headers, by hand
    assert [image.frame for image in ordered.slices] == [1, 0]  # the normal runs downwards
    assert read_volume(ordered.slices, path.name).shape == (512, 512, 2)


def test_a_perfusion_map_is_no_ct_to_translate():
    with pytest.raises(ValueError, match=r"eCT_Supplemental\.dcm' .*a map or projection \(ImageType PERFUSION\)"):
        find_images(SHARED / "dicom" / "eCT_Supplemental.dcm")


def test_a_missing_real_slice_is_named(tmp_path):
    with zipfile.ZipFile(SHARED / "dicom" / "lidc_idri_0314_12slices.zip") as archive:
        archive.extractall(tmp_path)
    path = next(tmp_path.rglob("000021.dcm"))
    path.unlink()
    reader = DicomSeriesReader()
    with pytest.raises(ValueError, match=r"lacks 1 of its 12 slices, at -532\.80 mm"):
        reader.get_data(reader.read(path.parent))
