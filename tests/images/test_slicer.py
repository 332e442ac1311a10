"""NRRD and MetaImage: values, and places in the patient, told by points that are computed by hand."""

from __future__ import annotations

import gzip
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage

from common.dicom import image_readers
from common.errors import own_error
from common.transforms.guards.findings import doubts_of
from tests.helpers.shared import needs_shared, shared

SimpleITK = pytest.importorskip("SimpleITK", reason="SimpleITK (the extra `slicer`) is not installed")

load = LoadImage(reader=image_readers(), dtype=None)
VALUES = np.random.default_rng(0).integers(-1000, 900, (5, 4, 3)).astype(np.int16)  # X, Y, Z


def write_nrrd(path, space="left-posterior-superior", encoding="raw"):
    """A file as the format's definition says, with axes that are turned by 30 degrees."""
    lines = ["NRRD0004", "type: short", "dimension: 3", "sizes: 5 4 3", "endian: little", f"encoding: {encoding}"]
    if space:
        lines += [f"space: {space}", "space directions: (0.6,0.3,0) (-0.4,0.8,0) (0,0,2.5)", "space origin: (10,20,30)"]
    voxels = VALUES.tobytes(order="F")
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + (gzip.compress(voxels) if encoding == "gzip" else voxels))
    return path


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize(
    ("space", "signs"),
    [("left-posterior-superior", (-1, -1, 1)), ("right-anterior-superior", (1, 1, 1)), ("LAS", (-1, 1, 1))],
)
def test_an_nrrd_lies_where_its_header_says(tmp_path, space, signs, encoding):
    image = load(str(write_nrrd(tmp_path / "a.nrrd", space, encoding)))
    np.testing.assert_array_equal(image.numpy(), VALUES)
    for voxel in ((0, 0, 0), (4, 0, 0), (0, 3, 0), (4, 3, 2)):
        x, y, z = voxel
        place = np.array([10 + 0.6 * x - 0.4 * y, 20 + 0.3 * x + 0.8 * y, 30 + 2.5 * z]) * signs
        np.testing.assert_allclose((image.affine.numpy() @ [*voxel, 1])[:3], place, atol=1e-5)
    assert doubts_of(image) == []


def test_an_nrrd_without_a_space_has_a_doubt(tmp_path):
    image = load(str(write_nrrd(tmp_path / "a.nrrd", "")))
    np.testing.assert_array_equal(image.numpy(), VALUES)
    assert "it names no space (NRRD)" in doubts_of(image)[0]


def test_a_metaimage_lies_where_its_header_says(tmp_path):
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        "TransformMatrix = 0 1 0 0 0 -1 -1 0 0\nOffset = 10 20 30\nElementSpacing = 0.6 0.8 2.5\n"
        "DimSize = 5 4 3\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    (tmp_path / "a.mha").write_bytes(header.encode() + VALUES.tobytes(order="F"))
    image = load(str(tmp_path / "a.mha"))
    np.testing.assert_array_equal(image.numpy(), VALUES)
    # In LPS the first axis runs along +y, the second along -z, the third along -x; RAS turns x and y over.
    for (x, y, z), place in (((0, 0, 0), (-10, -20, 30)), ((4, 3, 2), (-10 + 5, -20 - 2.4, 30 - 2.4))):
        np.testing.assert_allclose((image.affine.numpy() @ [x, y, z, 1])[:3], place, atol=1e-5)


def test_a_volume_is_the_same_in_every_format(tmp_path):
    affine = np.array([[-0.7, 0, 0, 30], [0, 0, -0.7, 20], [0, 1.5, 0, -300], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(VALUES, affine), tmp_path / "a.nii.gz")
    first = load(str(tmp_path / "a.nii.gz"))
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    for suffix in (".nrrd", ".mha", ".mhd", ".nhdr"):
        SimpleITK.WriteImage(image, str(tmp_path / f"b{suffix}"))
        second = load(str(tmp_path / f"b{suffix}"))
        np.testing.assert_array_equal(second.numpy(), first.numpy())
        np.testing.assert_allclose(second.affine.numpy(), affine, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SimpleITK.Image([4, 4, 4], SimpleITK.sitkVectorUInt8, 3), "has 3 values in each voxel"),
        (lambda: SimpleITK.Image([4, 4], SimpleITK.sitkInt16), "is 2-D, shape"),
        (lambda: SimpleITK.Image([4, 4, 4, 2], SimpleITK.sitkInt16), "is 4-D, shape"),
    ],
)
def test_what_is_no_volume_is_refused_by_name(tmp_path, make, message):
    SimpleITK.WriteImage(make(), str(tmp_path / "a.nrrd"))
    with pytest.raises((ValueError, RuntimeError)) as error:
        load(str(tmp_path / "a.nrrd"))
    assert f"a.nrrd' {message}" in str(own_error(error.value))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_damaged_file_is_refused_by_name(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"NRRD0004\ntype: sho")
    with pytest.raises((ValueError, RuntimeError)) as error:
        load(str(tmp_path / f"a{suffix}"))
    assert f"a{suffix}' is damaged or no volume" in str(own_error(error.value))


def test_without_simpleitk_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises((ValueError, RuntimeError)) as error:
        load(str(write_nrrd(tmp_path / "a.nrrd")))
    assert "needs SimpleITK to be read: `python -m pip install SimpleITK`" in str(own_error(error.value))


@needs_shared("cases", "nrrd-mha")
def test_a_users_nrrd_and_mha_are_one_volume():
    first, second = (load(str(shared("cases", "nrrd-mha", name))) for name in ("m.nrrd", "m.mha"))
    np.testing.assert_array_equal(first.numpy(), second.numpy())
    np.testing.assert_allclose(first.affine.numpy(), second.affine.numpy(), atol=1e-4)


def test_importing_needs_no_simpleitk():
    code = "import sys; import common.dicom, common.transforms; assert 'SimpleITK' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
