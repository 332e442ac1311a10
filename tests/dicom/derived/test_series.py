"""Derived DICOM series: values, places, what they say, and what they must not say."""

from __future__ import annotations

import json
import zipfile
from datetime import datetime
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from common.bundles import BUNDLES
from common.dicom.derived import headers
from common.dicom.derived.headers import Derivation
from common.dicom.derived.rules import derived_rule
from common.dicom.derived.series import write_derived_series
from common.dicom.derived.source import read_source_series
from common.images import finer_affine
from tests.helpers.dicom_series import write_source_series
from tests.helpers.shared import require_shared

SHAPE = (7, 5, 4)  # columns, rows, slices
HU = np.random.default_rng(0).integers(-1024, 3071, SHAPE).astype(np.int16)
TURN = nib.eulerangles.euler2mat(0.3, -0.2, 0.1)
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN @ np.diag([-0.7, -0.9, 2.5])  # oblique, anisotropic
AFFINE[:3, 3] = [11.25, -32.5, 101.75]
NOW = datetime(2026, 1, 2, 3, 4, 5)
TARGETS = {"ggcl": "B70f", "kcgan_kernel_conversion": "B50f", "nect2cect": "CECT", "sr_cyclegan": "micro"}
TARGETS["nec_t1t2"] = "T2"


SOURCE = SimpleNamespace(headers=[Dataset()])
SOURCE.headers[0].SeriesNumber = 203


def modality_of(bundle):
    return derived_rule(BUNDLES / bundle).modality


def source_folder(tmp_path, bundle="ggcl", **more):
    return write_source_series(tmp_path / "source", HU, AFFINE, modality_of(bundle), **more)


def derive(tmp_path, volume=HU, affine=AFFINE, bundle="ggcl", target=None, source=None, doubts=None, **options):
    source = source or read_source_series(source_folder(tmp_path, bundle))
    derivation = Derivation(bundle, "0.1.0", "ab" * 32, target or TARGETS[bundle], doubts)
    paths = write_derived_series(
        volume,
        affine,
        source=source,
        derivation=derivation,
        rule=derived_rule(BUNDLES / bundle),
        output_dir=tmp_path / "derived",
        now=NOW,
        **options,
    )
    return source, [dcmread(path) for path in paths]


def values(image):
    """Values (rows, columns), by the formula of PS3.3, C.11.1.1.2."""
    return image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)


def reordered(volume, affine, codes):
    image = nib.Nifti1Image(volume, affine)
    axes = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(codes))
    return image.as_reoriented(axes)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PSR", "ILA", "SRP"])
def test_hounsfield_units_and_places_survive_any_order_of_axes(tmp_path, codes):
    stored = reordered(HU, AFFINE, codes)
    source, images = derive(tmp_path, np.asarray(stored.dataobj), stored.affine)
    assert len(images) == SHAPE[2]
    for index, image in enumerate(images):
        np.testing.assert_array_equal(values(image), HU[:, :, index].T)
        assert image.ImagePositionPatient == source.headers[index].ImagePositionPatient
        assert image.PixelSpacing == source.headers[index].PixelSpacing
        assert image.ImageOrientationPatient == source.headers[index].ImageOrientationPatient


def test_some_of_the_slices_are_written_as_the_slices_they_are(tmp_path):
    part = nib.Nifti1Image(HU, AFFINE).slicer[:, :, 1:3]
    source, images = derive(tmp_path, np.asarray(part.dataobj), part.affine)
    assert [int(image.InstanceNumber) for image in images] == [2, 3]
    references = [image.SourceImageSequence[0].ReferencedSOPInstanceUID for image in images]
    assert references == [header.SOPInstanceUID for header in source.headers[1:3]]


def test_finer_pixels_lie_where_the_affine_says(tmp_path):
    factor, start = 4, (2, 1, 0)
    fine = np.kron(HU[2:6, 1:4], np.ones((factor, factor, 1))).astype(np.int16)
    affine = finer_affine(AFFINE, factor, start)
    _, images = derive(tmp_path, fine, affine, "sr_cyclegan")
    first = images[0]
    np.testing.assert_array_equal(values(first), fine[:, :, 0].T)
    # closed form: the first fine centre is (factor - 1) / (2 factor) of a pixel before the first coarse centre
    expected = AFFINE @ [2 - 3 / 8, 1 - 3 / 8, 0, 1]
    np.testing.assert_allclose(first.ImagePositionPatient, expected[:3] * [-1, -1, 1], atol=1e-6)
    np.testing.assert_allclose(first.PixelSpacing, [0.9 / 4, 0.7 / 4], rtol=1e-6)
    assert (first.Rows, first.Columns) == (12, 16)
    assert first.SliceThickness == 2.5
    assert "SpatialLocationsPreserved" not in first.SourceImageSequence[0]


def test_hu_that_are_not_whole_are_rounded_and_said_to_be(tmp_path):
    _, images = derive(tmp_path, HU + 0.4)
    np.testing.assert_array_equal(values(images[1]), HU[:, :, 1].T)
    assert images[0].DerivationDescription.endswith("Values are rounded to steps of 1.")


@pytest.mark.parametrize("scale", [0.731, 1e-4, 40.0])
def test_mr_values_are_stored_in_steps_that_are_stated(tmp_path, scale):
    volume = (HU * scale).astype(np.float32)
    _, images = derive(tmp_path, volume, bundle="nec_t1t2")
    slope = float(images[0].RescaleSlope)
    assert slope <= (volume.max() - volume.min()) / 32700
    assert max(image.pixel_array.max() for image in images) < 2**15  # some viewers take more for negative values
    for index, image in enumerate(images):
        assert np.abs(values(image) - volume[:, :, index].T).max() <= slope / 2 * 1.001
    assert images[0].DerivationDescription.endswith(f"Values are rounded to steps of {slope:g}.")
    assert images[0].WindowWidth == pytest.approx(np.ptp(volume), rel=1e-4)


def test_mr_values_that_are_whole_are_exact_without_a_rescale(tmp_path):
    volume = np.abs(HU)
    _, images = derive(tmp_path, volume, bundle="nec_t1t2")
    np.testing.assert_array_equal(images[2].pixel_array, volume[:, :, 2].T)
    assert (images[0].RescaleSlope, images[0].RescaleIntercept) == (1, 0)
    assert images[0].DerivationDescription.endswith("Values are exact.")


def test_mr_values_that_some_viewers_would_take_for_negative_are_rounded(tmp_path):
    volume = np.abs(HU).astype(np.float32)
    volume[0, 0, 0] = 40_000
    _, images = derive(tmp_path, volume, bundle="nec_t1t2")
    assert max(image.pixel_array.max() for image in images) < 2**15
    found = np.stack([values(image).T for image in images], axis=-1)
    np.testing.assert_allclose(found, volume, atol=0.62)


def test_a_constant_volume_is_written(tmp_path):
    _, images = derive(tmp_path, np.full(SHAPE, 0.25), bundle="nec_t1t2")
    np.testing.assert_allclose(values(images[0]), 0.25, atol=1e-6)


@pytest.mark.parametrize("bundle", TARGETS)
def test_patient_study_and_frame_stay_and_series_and_instances_are_new(tmp_path, bundle):
    source, images = derive(tmp_path, bundle=bundle)
    for header, image in zip(source.headers, images):
        for name in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate", "Modality"):
            assert image[name] == header[name]
        assert image.SeriesInstanceUID != header.SeriesInstanceUID
    new = {image.SOPInstanceUID for image in images}
    assert len(new) == len(images)
    assert not new & {header.SOPInstanceUID for header in source.headers}
    assert {image.SeriesInstanceUID for image in images} == {images[0].SeriesInstanceUID}
    assert images[0].SeriesNumber // 10_000 == 3
    assert images[0].SeriesDate + images[0].SeriesTime == "20260102030405"


@pytest.mark.parametrize("bundle", TARGETS)
def test_every_series_says_that_it_is_synthetic_and_for_research(tmp_path, bundle):
    _, images = derive(tmp_path, bundle=bundle)
    for image in images:
        assert image.ImageType[:2] == ["DERIVED", "SECONDARY"]
        assert image.ImageType[2] == ("AXIAL" if image.Modality == "CT" else "OTHER")
        assert image.SyntheticData == "YES"
        assert image.SeriesDescription.startswith("SYNTHETIC")
        for text in (image.SeriesDescription, image.ImageComments, image.DerivationDescription):
            assert "research use only" in text
        assert f"MONAI bundle {bundle} 0.1.0" in image.DerivationDescription
        assert "ab" * 32 in image.DerivationDescription
        assert image.BitsAllocated == 16


@pytest.mark.parametrize("bundle", TARGETS)
def test_nothing_private_and_no_name_of_the_sources_protocol_is_kept(tmp_path, bundle):
    _, images = derive(tmp_path, bundle=bundle)
    for image in images:
        assert not any(element.tag.is_private for element in image.iterall())
        assert not {"ProtocolName", "FilterType", "CTDIvol", "SequenceName", "FlipAngle"} & set(image.dir())


@pytest.mark.parametrize("bundle", ["ggcl", "kcgan_kernel_conversion"])
def test_a_converted_kernel_is_called_synthetic(tmp_path, bundle):
    _, images = derive(tmp_path, bundle=bundle)
    assert images[0].ConvolutionKernel == f"{TARGETS[bundle]} synthetic"
    name = {"ggcl": "ggcl", "kcgan_kernel_conversion": "kcgan_"}[bundle]  # cut to the 64 characters of DICOM
    assert (
        images[0].SeriesDescription == f"SYNTHETIC kernel {TARGETS[bundle]} from B30f, {name} 0.1.0, research use only"
    )
    assert len(images[0].SeriesDescription) <= 64
    assert images[0].ContrastBolusAgent == "Iomeprol"  # the patient was given it before the source was acquired


def test_a_blend_of_kernels_fits_the_sixteen_characters_of_dicom(tmp_path):
    _, images = derive(tmp_path, target={"B30f": 0.25, "B70f": 0.75})
    assert images[0].ConvolutionKernel == "synthetic"
    assert "0.25B30f+0.75B70f" in images[0].DerivationDescription
    assert images[0].SeriesDescription.endswith(", research use only")


def test_a_synthetic_enhancement_claims_no_agent(tmp_path):
    _, images = derive(tmp_path, bundle="nect2cect")
    for image in images:
        assert not [name for name in image.dir() if "Contrast" in name or "Bolus" in name or "Phase" in name]
        assert image.SeriesDescription == "SYNTHETIC contrast, nect2cect 0.1.0, research use only"
        assert image.DerivationDescription.startswith("SYNTHETIC contrast, research use only, not for diagnosis.")
        assert "portal" not in str(image).lower()
        assert image.ConvolutionKernel == "B30f"


def test_a_synthetic_t2_has_no_times_and_no_sequence(tmp_path):
    _, images = derive(tmp_path, bundle="nec_t1t2")
    for image in images:
        assert (image.ScanningSequence, image.SequenceVariant) == ("RM", "NONE")
        for name in ("RepetitionTime", "EchoTime", "EchoTrainLength", "ScanOptions", "MRAcquisitionType"):
            assert not image[name].value
        assert "InversionTime" not in image
        assert image.SeriesDescription == "SYNTHETIC T2, nec_t1t2 0.1.0, research use only"


def test_a_super_resolved_series_says_no_kernel_of_the_scanner(tmp_path):
    _, images = derive(tmp_path, bundle="sr_cyclegan")
    assert images[0].ConvolutionKernel == "micro synthetic"
    assert images[0].SeriesDescription == "SYNTHETIC resolution micro, sr_cyclegan 0.1.0, research use only"


def test_sources_and_equipment_are_referred_to(tmp_path):
    source, images = derive(tmp_path)
    for header, image in zip(source.headers, images):
        (reference,) = image.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == header.SOPInstanceUID
        assert reference.SpatialLocationsPreserved == "YES"
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        (series,) = image.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == header.SeriesInstanceUID
        (instance,) = series.ReferencedInstanceSequence
        assert instance.ReferencedSOPInstanceUID == header.SOPInstanceUID
    scanner, software = images[0].ContributingEquipmentSequence
    assert (scanner.Manufacturer, scanner.ManufacturerModelName) == ("Scanner Works", "One")
    assert (software.ManufacturerModelName, software.SoftwareVersions) == ("ggcl", "0.1.0")
    assert software.ContributionDescription == "weights SHA-256 " + "ab" * 32
    assert images[0].Manufacturer == software.Manufacturer


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([{}, {}], (None, None)),
        ([{"BurnedInAnnotation": "NO", "LossyImageCompression": "00"}] * 2, ("NO", "00")),
        ([{"BurnedInAnnotation": "YES"}, {"BurnedInAnnotation": "NO"}], ("YES", None)),
        ([{"LossyImageCompression": "00"}, {"LossyImageCompression": "01"}], (None, "01")),
    ],
)
def test_burned_in_text_and_lossy_compression_are_never_played_down(tmp_path, said, expected):
    source = read_source_series(source_folder(tmp_path))
    for index, header in enumerate(source.headers):
        for name, value in said[index % 2].items():
            setattr(header, name, value)
    _, images = derive(tmp_path, source=source)
    assert (images[0].get("BurnedInAnnotation"), images[0].get("LossyImageCompression")) == expected


def test_a_source_compressed_with_loss_is_said_to_be_so(tmp_path):
    source = read_source_series(source_folder(tmp_path))
    source.headers[1].file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.91"
    assert derive(tmp_path, source=source)[1][0].LossyImageCompression == "01"


def test_an_unknown_acquisition_leaves_its_attributes_empty(tmp_path):
    source = read_source_series(source_folder(tmp_path))
    for header in source.headers:
        del header.KVP, header.StudyID, header.Manufacturer
    image = derive(tmp_path, source=source)[1][0]
    assert image["KVP"].value is None
    assert not image["StudyID"].value
    assert len(image.ContributingEquipmentSequence) == 1


class Failing:
    """A volume whose third slice cannot be read the second time."""

    shape = SHAPE

    def __init__(self):
        self.reads = 0

    def __getitem__(self, place):
        self.reads += 1
        if self.reads == SHAPE[2] + 3:
            raise OSError("disk gone")
        return HU[place]


def test_an_interrupted_series_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="disk gone"):
        derive(tmp_path, Failing())
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def shifted(mm):
    affine = AFFINE.copy()
    affine[:3, 3] += mm
    return affine


@pytest.mark.parametrize(
    ("volume", "affine", "message"),
    [
        (HU, AFFINE @ np.diag([1, 1, 2, 1]), "Each slice of the volume must be one of the source's 4 slices"),
        (HU, shifted(AFFINE[:3, 2]), r"the first and the last lie at 1\.000 and 4\.000, 1\.000 slices apart"),
        (HU, shifted(AFFINE[:3, 0] * 2), "from 2.00 to 9.00 of the source's 7 columns"),
        (HU, np.diag([1.0, 1, 1, 1]), "axes are turned against those of the source series"),
        (HU[..., 0], AFFINE, r"`volume` must have three axes, got shape \(7, 5\)"),
        (np.where(HU > 3000, np.nan, HU), AFFINE, "values that are not finite"),
        (HU * 20.0, AFFINE, r"HU must be within \[-32768, 32767\] to be stored in 16 bits"),
    ],
)
def test_a_volume_that_does_not_fit_is_refused(tmp_path, volume, affine, message):
    with pytest.raises(ValueError, match=message):
        derive(tmp_path, volume, affine)
    assert not (tmp_path / "derived").exists()


def test_an_existing_folder_is_not_written_into(tmp_path):
    (tmp_path / "derived").mkdir()
    with pytest.raises(FileExistsError, match="exists already: name a new folder, or remove it"):
        derive(tmp_path)


def test_a_series_of_another_modality_is_refused(tmp_path):
    source = read_source_series(source_folder(tmp_path, "nec_t1t2"))
    with pytest.raises(ValueError, match="The source series must be CT for ggcl, got MR"):
        derive(tmp_path, source=source)


@pytest.mark.parametrize(("metadata", "found"), [({}, "None"), ({"translation_task": "denoising"}, "'denoising'")])
def test_no_rule_is_guessed_for_a_bundle_that_does_not_say_what_it_does(tmp_path, metadata, found):
    path = tmp_path / "configs" / "metadata.json"
    path.parent.mkdir()
    path.write_text(json.dumps(metadata))
    message = rf"`translation_task` in .* must be one of \['contrast_enhancement', .*, got {found}: set"
    with pytest.raises(ValueError, match=message):
        derived_rule(tmp_path)


def test_a_single_slice_is_a_series(tmp_path):
    folder = write_source_series(tmp_path / "one", HU[..., :1], AFFINE)
    source = read_source_series(folder)
    np.testing.assert_allclose(source.affine, AFFINE, atol=1e-6)
    _, images = derive(tmp_path, HU[..., :1], source=source)
    np.testing.assert_array_equal(values(images[0]), HU[..., 0].T)


def test_a_nested_private_element_is_not_kept(tmp_path):
    source = read_source_series(source_folder(tmp_path))
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "113100", "DCM", "Basic"
    item.private_block(0x0029, "SCANNER WORKS", create=True).add_new(0x10, "LO", "hidden")
    for header in source.headers:
        header.DeidentificationMethodCodeSequence = [item]
    image = derive(tmp_path, source=source)[1][0]
    assert image.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert not any(element.tag.is_private for element in image.iterall())


def test_a_source_with_an_unknown_character_set_is_written_without_a_line_of_pydicom_for_each_header(tmp_path, caplog):
    folder = source_folder(tmp_path, SpecificCharacterSet="ISO_IR 100")
    for path in folder.iterdir():
        content = path.read_bytes()
        assert b"ISO_IR 100" in content
        path.write_bytes(content.replace(b"ISO_IR 100", b"ISO_IR 149"))  # pydicom would not write such a term itself
    made = {"source": read_source_series(folder), "derivation": Derivation("ggcl", "0.1.0", "ab" * 32, "B70f")}
    write_derived_series(HU, AFFINE, rule=derived_rule(BUNDLES / "ggcl"), output_dir=tmp_path / "out", **made)
    assert not [record for record in caplog.records if record.name.startswith("pydicom")]


def test_a_derived_ct_names_the_padding_that_it_keeps(tmp_path):
    padded = HU.copy()
    padded[:2] = -2000
    folder = write_source_series(tmp_path / "source", padded, AFFINE, "CT", RescaleIntercept="-1024")
    for file in folder.iterdir():
        image = dcmread(file)
        image.add_new("PixelPaddingValue", "SS", -2000)
        image.save_as(file)
    volume = padded.astype(int) - 1024
    _, images = derive(tmp_path, volume, source=read_source_series(folder))
    for image in images:
        assert (image.PixelPaddingValue, image["PixelPaddingValue"].VR) == (-3024, "SS")
        assert (values(image)[:, :2] == -3024).all()


def test_what_was_doubted_stands_in_the_series(tmp_path):
    doubts = ["body_part: a leg, not an abdomen.", "spacing: 3 mm is too wide."]
    _, images = derive(tmp_path, bundle="nect2cect", doubts=doubts)
    for image in images:
        assert all(doubt in image.ImageComments for doubt in doubts)
        assert "DOUBTED by 2 checks, see ImageComments." in image.DerivationDescription
        assert image.ContentQualification == "RESEARCH"


@pytest.mark.parametrize(("doubts", "said"), [([], "All checks passed."), (None, "It was not checked.")])
def test_a_series_says_that_its_checks_passed_only_if_they_were_made(tmp_path, doubts, said):
    _, images = derive(tmp_path, doubts=doubts)
    assert said in images[0].DerivationDescription
    assert images[0].ImageComments.endswith(said)
    assert "DOUBTED" not in images[0].ImageComments


def test_a_long_list_of_doubts_is_cut_to_what_dicom_allows_and_says_so(tmp_path):
    _, images = derive(tmp_path, doubts=["x" * 900] * 20)
    assert len(images[0].ImageComments) == 10240
    assert images[0].ImageComments.endswith("the sidecar beside the series has all)")


def header_bytes(path):
    image = dcmread(path)
    del image.PixelData
    image.save_as(path)
    return path.stat().st_size


def test_the_headers_of_a_long_series_are_as_long_as_those_of_a_short_one(tmp_path):
    """One reference a slice: else the headers of 2,000 slices grow as their square."""
    sizes = {}
    for slices in (10, 2000):
        volume = np.zeros((2, 2, slices), np.int16)
        folder = tmp_path / str(slices)
        source_files = write_source_series(folder / "source", volume, AFFINE, "CT")
        derive(folder, volume, source=read_source_series(source_files))
        derived, sources = sorted((folder / "derived").iterdir()), sorted((folder / "source").iterdir())
        assert len(derived) == slices
        sizes[slices] = [sum(header_bytes(path) for path in paths[-5:]) for paths in (derived, sources)]
    assert sizes[2000][0] <= 1.05 * sizes[10][0]


@pytest.mark.parametrize(("name", "bundle"), [("ibsi_STS_019_CT", "ggcl"), ("ibsi_STS_019_MR_T1", "nec_t1t2")])
def test_an_archive_serves_at_most_twice_the_metadata_of_a_real_source(name, bundle, tmp_path):
    with zipfile.ZipFile(require_shared("data", "dicom", f"{name}.zip")) as archive:
        archive.extractall(tmp_path / "source")
    files = [path for path in (tmp_path / "source").rglob("*") if path.is_file()]
    source, first = read_source_series(files), dcmread(files[0])
    volume = np.zeros((first.Columns, first.Rows, len(files)), np.int16)
    doubts = [f"kernel: {'x' * 150}", f"spacing: {'x' * 150}"]
    _, made = derive(tmp_path, volume, source.affine, bundle, source=source, doubts=doubts)
    assert len(made) == len(files)
    assert metadata_bytes(made) <= 2 * metadata_bytes(map(dcmread, files))


def metadata_bytes(images):
    """The size of DICOM JSON, as DICOMweb serves it, without the pixels."""
    pixels = "7FE00010"
    return sum(len(json.dumps({k: v for k, v in image.to_json_dict().items() if k != pixels})) for image in images)


def test_targets_bundles_and_versions_have_series_numbers_of_their_own():
    numbers = {
        headers.series_number_of(SOURCE, Derivation(bundle, version, "", target))
        for bundle in ("ggcl", "kcgan_kernel_conversion")
        for version in ("0.1.0", "0.2.0")
        for target in ("B30f", "B50f", "B70f")
    }
    assert len(numbers) == 12
    assert {number // 10_000 for number in numbers} == {203}


def test_the_distance_between_slices_is_along_their_normal(tmp_path):
    _, images = derive(tmp_path)
    assert float(images[0].SpacingBetweenSlices) == pytest.approx(2.5)


def test_what_made_the_series_is_coded(tmp_path):
    _, images = derive(tmp_path)
    assert [item.CodeValue for item in images[0].DerivationCodeSequence] == ["123110"]
    finer = finer_affine(AFFINE, 2)
    _, images = derive(tmp_path / "finer", np.repeat(np.repeat(HU, 2, 0), 2, 1), finer, bundle="sr_cyclegan")
    assert [item.CodeValue for item in images[0].DerivationCodeSequence] == ["123110", "113085"]
