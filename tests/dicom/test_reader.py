"""The reader through MONAI's own loading, batching and saving.

Real DICOM series: values and places agree with NIfTI files that others converted from the same scans.
"""

from __future__ import annotations

import zipfile

import nibabel as nib
import numpy as np
import pytest
from monai import data as monai_data
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from pydicom import Dataset

from common.data import find_images
from common.dicom import DicomSeriesReader, files, image_readers, source_files
from common.dicom.derived.source import read_source_series
from common.dicom.geometry import stack
from common.dicom.headers import read_header, slices_of
from common.dicom.pixels import read_volume
from common.images.writing import save_volume
from common.transforms import FindKerneld
from tests.helpers.dicom_files import AFFINE, HU, change, change_all, series, write_enhanced
from tests.helpers.shared import needs_shared, shared

load = LoadImaged(keys="image", reader=image_readers())


def test_volume_affine_and_meta_data_are_those_of_the_series(tmp_path):
    image = load({"image": str(series(tmp_path / "S1"))})["image"]
    np.testing.assert_array_equal(image.numpy(), HU)
    np.testing.assert_allclose(image.affine.numpy(), AFFINE, atol=1e-6)
    told = {
        "modality": "CT",
        "body_part": "CHEST",
        "contrast_agent": "Iomeprol",
        "00181210": "B30f",
        "patient_id": "P1",
    }
    assert {key: image.meta[key] for key in told} == told


def test_the_source_files_are_those_that_a_derived_series_needs(tmp_path):
    folder = series(tmp_path / "S1")
    (folder / "notes.txt").write_text("no image")
    image = load({"image": str(folder)})["image"]
    assert source_files(image.meta) == [str(folder / name) for name in ("0004", "0003", "0002", "0001")]
    source = read_source_series(source_files(image.meta))
    np.testing.assert_allclose(source.affine, image.affine.numpy(), atol=1e-6)
    assert source_files(load({"image": nifti(tmp_path)})["image"].meta) == []


def nifti(folder):
    nib.save(nib.Nifti1Image(HU.astype(np.int16), AFFINE), folder / "scan.nii.gz")
    return str(folder / "scan.nii.gz")


def test_dicom_and_nifti_of_one_scan_are_saved_as_one_image(tmp_path):
    folder, path = series(tmp_path / "S1"), nifti(tmp_path)
    saved = []
    for image in (str(folder), path):
        save = save_volume(str(tmp_path / "out"), "T", data_root_dir=str(tmp_path), dtype="int16", key="image")
        Compose([load, EnsureChannelFirstd(keys="image"), save])({"image": image})
        saved.append(tmp_path / "out" / f"{'S1' if image == str(folder) else 'scan'}_synthetic_T.nii.gz")
    one, other = (nib.load(file) for file in saved)
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-6)


def test_volumes_of_unequal_lengths_share_a_batch_and_keep_their_files(tmp_path):
    first, second = series(tmp_path / "S1"), series(tmp_path / "S2", HU[:, :, :3])
    crop = [load, EnsureChannelFirstd(keys="image"), lambda item: {"image": item["image"][..., :2]}]
    loader = monai_data.DataLoader(
        monai_data.Dataset([{"image": str(first)}, {"image": str(second)}], Compose(crop)), batch_size=2
    )
    items = monai_data.decollate_batch(next(iter(loader)))
    assert [len(source_files(item["image"].meta)) for item in items] == [4, 3]


def test_the_kernel_is_found_in_the_header(tmp_path):
    image = Compose([load, EnsureChannelFirstd(keys="image")])({"image": str(series(tmp_path / "S1"))})
    found = FindKerneld(keys="image", domains=["B30f", "B70f"], target="B70f")(image)
    assert found["image"].meta["source_domain"] == "B30f"


def test_kernels_of_several_values_are_told_by_their_first(tmp_path):
    folder = series(tmp_path / "S1", ConvolutionKernel=["Br40d", "3"])
    assert load({"image": str(folder)})["image"].meta["00181210"] == "Br40d"


@pytest.mark.parametrize("agent", ["", "NONE", "no", None])
def test_no_contrast_agent_is_told_where_none_was_given(tmp_path, agent):
    folder = series(tmp_path / "S1")
    change_all(folder, lambda *_: {"ContrastBolusAgent": agent})
    assert "contrast_agent" not in load({"image": str(folder)})["image"].meta


def test_an_enhanced_object_tells_its_kernel_and_agent(tmp_path):
    def reconstructed(index, frame):
        frame.CTReconstructionSequence = [Dataset()]
        frame.CTReconstructionSequence[0].ConvolutionKernel = "B70f"

    agent = Dataset()
    agent.CodeMeaning = "Iohexol"
    path = write_enhanced(tmp_path / "multi.dcm", per_frame=reconstructed, ContrastBolusAgentSequence=[agent])
    image = load({"image": str(path)})["image"]
    np.testing.assert_array_equal(image.numpy(), HU)
    assert (image.meta["00181210"], image.meta["contrast_agent"]) == ("B70f", "Iohexol")


def test_chosen_frames_are_one_of_two_volumes(tmp_path):
    def at_time(index, frame):
        frame.PlanePositionSequence[0].ImagePositionPatient[2] = 2.5 * (index % 2)
        frame.FrameContentSequence = [Dataset()]
        frame.FrameContentSequence[0].TemporalPositionIndex = index // 2 + 1

    items = find_images(write_enhanced(tmp_path / "multi.dcm", per_frame=at_time))
    assert [item["image"][1].partition("?")[2] for item in items] == ["frames=0,1", "frames=2,3"]
    volumes = [load(item)["image"] for item in items]
    np.testing.assert_array_equal(np.concatenate([volume.numpy() for volume in volumes], axis=2), HU)
    assert volumes[0].meta["filename_or_obj"] == str(tmp_path / "E7_5_1")


def read(place):
    reader = DicomSeriesReader()
    return reader.get_data(reader.read(place))[0]


def refusal(place):
    with pytest.raises(ValueError) as caught:  # noqa: PT011, the callers look at the message
        read(place)
    return str(caught.value)


def test_what_is_refused_is_named_with_its_place(tmp_path):
    folder = series(tmp_path / "S1")
    (folder / "0003").unlink()
    assert refusal(folder).startswith(f"{str(folder)!r} (series 3 'source', CT, patient P1, 3 slices) lacks 1 of its 4")
    other = series(tmp_path / "S2")
    assert "must hold one volume, it has 2" in refusal(tmp_path)
    (other / "0001").write_bytes((other / "0001").read_bytes()[:200])
    assert "0001' cannot be read as DICOM" in refusal(other)
    (tmp_path / "empty").mkdir()
    assert "holds no DICOM file" in refusal(tmp_path / "empty")
    assert "is no file or folder" in refusal(tmp_path / "absent")
    assert "9999' does not exist, but is part of the volume" in refusal(
        ["P1_3", str(folder / "0001"), f"{folder}/9999"]
    )


def test_a_report_alone_is_no_volume(tmp_path):
    folder = series(tmp_path / "S1")
    change_all(folder, lambda *_: {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    assert "holds no volume to translate: 0001 is a localizer (ImageType LOCALIZER)" in refusal(folder)


def test_without_pydicom_the_command_that_installs_it_is_told(tmp_path, monkeypatch):
    folder, path = series(tmp_path / "S1"), nifti(tmp_path)
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'pydicom>=3'" in refusal(folder)
    with pytest.raises(ValueError, match="needs pydicom"):
        find_images(folder)
    assert find_images(path) == [{"image": path}]
    np.testing.assert_array_equal(load({"image": path})["image"].numpy(), HU)


def test_every_truncation_of_a_file_ends_in_a_message_that_names_it(tmp_path):
    folder = series(tmp_path / "S1")
    content = (folder / "0002").read_bytes()
    for size in np.random.default_rng(0).integers(0, len(content) - 1, 40):
        (folder / "0002").write_bytes(content[:size])
        assert "0002" in refusal([str(tmp_path / "P1_3"), *(str(folder / f"000{n}") for n in (1, 2, 3, 4))])


def test_mutated_files_are_read_or_refused(tmp_path):
    folder = series(tmp_path / "S1")
    content = (folder / "0002").read_bytes()
    random, messages = np.random.default_rng(1), []
    for _ in range(200):
        mutated = bytearray(content)
        for place in random.integers(132, len(content), 6):
            mutated[place] = random.integers(256)
        (folder / "0002").write_bytes(mutated)
        try:
            volume = read(["P1_3", *(str(folder / f"000{n}") for n in (1, 2, 3, 4))])
        except ValueError as error:
            messages.append(str(error))
        else:
            assert volume.shape == HU.shape
    assert messages
    assert all("P1_3" in message or "0002" in message for message in messages)


def test_a_changed_slice_is_found_however_small_the_change(tmp_path):
    folder = series(tmp_path / "S1")
    change(folder / "0003", PixelSpacing=[0.71, 0.8])
    assert "must hold one volume, it has 2" in refusal(folder)
    assert "1 slices (0003)" in refusal(folder)


SERIES = {  # shape, voxel sizes in mm, modality and kernel, as their headers tell
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

needs_real = needs_shared("data", "dicom")


def load_real(name):
    (item,) = find_images(shared("data", "dicom") / f"{name}.zip")
    return LoadImaged(keys="image", reader=image_readers())(item)["image"]


@needs_real
@pytest.mark.parametrize("name", SERIES)
def test_shape_voxel_size_modality_and_kernel_are_those_of_the_headers(name):
    image = load_real(name)
    shape, sizes, modality, kernel = SERIES[name]
    assert image.shape == shape
    np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine.numpy()), sizes, atol=1e-4)
    assert (image.meta["modality"], image.meta.get("00181210")) == (modality, kernel)
    if name != "ibsi_STS_019_MR_T1":
        assert -1100 < float(image.min()) <= -1000


@needs_real
@pytest.mark.parametrize("name", NIFTI)
def test_values_and_places_agree_with_the_nifti_file_of_the_scan(name):
    image, other = load_real(name), nib.load(shared("data", f"{NIFTI[name]}.nii.gz"))
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


@needs_real
def test_the_writer_finds_the_grid_that_was_read():
    image = load_real("philips_headphantom_UB_8slices")
    np.testing.assert_allclose(read_source_series(source_files(image.meta)).affine, image.affine.numpy(), atol=1e-6)


@needs_real
def test_a_real_enhanced_object_is_placed_by_its_frames():
    path = shared("data", "dicom") / "eCT_Supplemental.dcm"
    ordered = stack(slices_of(read_header(path), path), path.name)
    expected = [[0.388672, 0, 0, -99.5], [0, -0.388672, 0, 301.5], [0, 0, -10, -149], [0, 0, 0, 1]]
    np.testing.assert_allclose(ordered.affine, expected, atol=1e-6)  # from its headers, by hand
    assert [image.frame for image in ordered.slices] == [1, 0]  # the normal runs downwards
    assert read_volume(ordered.slices, path.name).shape == (512, 512, 2)


@needs_real
def test_a_perfusion_map_is_no_ct_to_translate():
    with pytest.raises(ValueError, match=r"eCT_Supplemental\.dcm' .*a map or projection \(ImageType PERFUSION\)"):
        find_images(shared("data", "dicom") / "eCT_Supplemental.dcm")


@needs_real
def test_a_missing_real_slice_is_named(tmp_path):
    with zipfile.ZipFile(shared("data", "dicom") / "lidc_idri_0314_12slices.zip") as archive:
        archive.extractall(tmp_path)
    path = next(tmp_path.rglob("000021.dcm"))
    path.unlink()
    reader = DicomSeriesReader()
    with pytest.raises(ValueError, match=r"lacks 1 of its 12 slices, at -532\.80 mm"):
        reader.get_data(reader.read(path.parent))
