"""Maps of half-widths as DICOM Parametric Maps: values, places, and what they say."""

from __future__ import annotations

import sys

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ParametricMapStorage

from common.bundles import BUNDLES
from common.dicom.derived.headers import Derivation
from common.dicom.derived.maps import MapText, require_highdicom, write_parametric_map
from common.dicom.derived.rules import derived_rule
from common.dicom.derived.source import read_source_series
from common.dicom.files import why_no_volume
from common.images import finer_affine
from tests.helpers.dicom_series import write_source_series

pytest.importorskip("highdicom", reason="the extra `dicom` brings it")

SHAPE = (7, 5, 4)  # columns, rows, slices
AFFINE = np.eye(4)
AFFINE[:3, :3] = nib.eulerangles.euler2mat(0.3, -0.2, 0.1) @ np.diag([-0.7, -0.9, 2.5])  # oblique, anisotropic
AFFINE[:3, 3] = [11.25, -32.5, 101.75]
PROMISE = "Measured on digital phantoms (test), and ends where they end."
HALF_WIDTHS = np.random.default_rng(0).uniform(5, 90, SHAPE).astype(np.float32)
HALF_WIDTHS[0] = np.nan  # no foreground


def written(tmp_path, half_widths=HALF_WIDTHS, affine=AFFINE, modality="CT", bundle="ggcl", **options):
    volume = np.zeros(SHAPE, np.int16)
    source = read_source_series(write_source_series(tmp_path / "source", volume, AFFINE, modality))
    path = write_parametric_map(
        half_widths,
        affine,
        source=source,
        derivation=Derivation(bundle, "0.1.0", "ab" * 32, "B70f"),
        rule=derived_rule(BUNDLES / bundle),
        text=MapText("HU" if modality == "CT" else "the output's intensities", modality == "CT", PROMISE, "1.2.3"),
        output_dir=tmp_path / "map",
        **options,
    )
    return source, dcmread(path)


def places(image):
    return [frame.PlanePositionSequence[0].ImagePositionPatient for frame in image.PerFrameFunctionalGroupsSequence]


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PSR", "ILA"])
def test_half_widths_and_places_survive_any_order_of_axes(tmp_path, codes):
    image = nib.Nifti1Image(HALF_WIDTHS, AFFINE)
    axes = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(codes))
    stored = image.as_reoriented(axes)
    source, found = written(tmp_path, np.asarray(stored.dataobj), stored.affine)
    expected = {
        tuple(header.ImagePositionPatient): HALF_WIDTHS[:, :, index].T for index, header in enumerate(source.headers)
    }
    assert found.pixel_array.dtype == np.float32
    assert len(places(found)) == len(expected)
    for frame, place in zip(found.pixel_array, places(found), strict=True):
        np.testing.assert_array_equal(frame, np.nan_to_num(expected[tuple(place)], nan=-1.0))
    shared = found.SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.9, 0.7]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == source.headers[0].ImageOrientationPatient


def test_it_stands_in_the_study_and_frame_of_its_source_and_names_its_images(tmp_path):
    source, found = written(tmp_path)
    header = source.headers[0]
    for name in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert found[name].value == header[name].value
    assert found.SOPClassUID == ParametricMapStorage
    assert found.SeriesInstanceUID != header.SeriesInstanceUID
    (series,) = found.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == header.SeriesInstanceUID
    referred = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert referred == {each.SOPInstanceUID for each in source.headers}
    assert why_no_volume(found) is not None  # nobody translates it


def test_it_says_what_it_is_for_whom_and_where_its_promise_ends(tmp_path):
    _, found = written(tmp_path)
    assert found.SeriesDescription == "UNCERTAINTY of SYNTHETIC kernel B70f, research use only"
    assert found.ContentQualification == "RESEARCH"
    for text in (found.DerivationDescription, "".join(found.ImageComments)):
        assert "research use only" in text
        assert PROMISE in text
    assert "series 1.2.3" in found.DerivationDescription
    assert found.FloatPixelPaddingValue == -1
    (mapping,) = found.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "[hnsf'U]"
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped == 0  # -1 lies beyond what is mapped
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == pytest.approx(float(np.nanmax(HALF_WIDTHS)))


def test_intensities_without_a_unit_have_the_code_of_none(tmp_path):
    _, found = written(tmp_path, modality="MR", bundle="nec_t1t2")
    (mapping,) = found.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert found.SeriesDescription.startswith("UNCERTAINTY of SYNTHETIC B70f")


def test_nothing_of_the_source_is_kept_that_the_rule_does_not_name(tmp_path):
    _, found = written(tmp_path)
    names = {element.keyword for element in found.iterall()}
    assert not names & {"FilterType", "ProtocolName", "CTDIvol", "ConvolutionKernel", "KVP"}
    assert not any(element.tag.is_private for element in found.iterall())


def test_finer_pixels_lie_where_the_affine_says(tmp_path):
    factor, start = 4, (2, 1, 0)
    fine = np.kron(HALF_WIDTHS[2:6, 1:4], np.ones((factor, factor, 1))).astype(np.float32)
    _, found = written(tmp_path, fine, finer_affine(AFFINE, factor, start), bundle="sr_cyclegan")
    # closed form: the first fine centre is (factor - 1) / (2 factor) of a pixel before the first coarse centre
    expected = (AFFINE @ [2 - 3 / 8, 1 - 3 / 8, 0, 1])[:3] * [-1, -1, 1]
    first = min(places(found), key=lambda place: float(np.abs(np.subtract(place, expected)).sum()))
    np.testing.assert_allclose(first, expected, atol=1e-6)
    np.testing.assert_allclose(
        found.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing, [0.9 / 4, 0.7 / 4], rtol=1e-6
    )
    assert (found.Rows, found.Columns) == (12, 16)


def test_the_same_seed_gives_the_same_uids(tmp_path):
    uids = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _, found = written(tmp_path / name, seed=["a job"])
        uids.append((found.SeriesInstanceUID, found.SOPInstanceUID))
    assert uids[0] == uids[1]
    assert uids[0][0] != uids[0][1]


def test_a_map_that_promises_nothing_is_refused_and_an_existing_folder_is_kept(tmp_path):
    with pytest.raises(ValueError, match="nothing is promised"):
        written(tmp_path, np.full(SHAPE, np.nan))
    assert not (tmp_path / "map").exists()
    (tmp_path / "map").mkdir()
    source = read_source_series(tmp_path / "source")
    with pytest.raises(FileExistsError, match="exists already"):
        write_parametric_map(
            HALF_WIDTHS,
            AFFINE,
            source=source,
            derivation=Derivation("ggcl", "0.1.0", "", "B70f"),
            rule=derived_rule(BUNDLES / "ggcl"),
            text=MapText("HU", True, PROMISE),
            output_dir=tmp_path / "map",
        )


def test_without_the_package_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom.pm", None)
    with pytest.raises(ModuleNotFoundError, match=r"highdicom, which is not installed: `pip install .*\[dicom\]"):
        require_highdicom()
