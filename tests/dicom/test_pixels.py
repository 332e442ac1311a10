"""The values of DICOM slices: rescaled one by one, padding kept, damage named."""

import sys

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import JPEGLSLossless

from common.dicom.files import dicom_files
from common.dicom.geometry import stack
from common.dicom.pixels import _stored_bits, padding_value, read_volume
from common.dicom.series import find_volumes
from tests.helpers.dicom_files import AFFINE, HU, SHAPE, change, change_all, series, write_enhanced
from tests.helpers.shared import needs_shared, shared


def slices(folder):
    (volume,) = find_volumes(dicom_files(folder)).volumes
    return stack(volume.slices, "the series").slices


def values(folder):
    return read_volume(slices(folder), "the series")


def set_pixels(file, stored, **attributes):
    image = dcmread(file)
    image.PixelData = np.asarray(stored).tobytes()
    image.save_as(file)
    change(file, **attributes)


def test_hu_are_those_that_were_written(tmp_path):
    volume = values(series(tmp_path / "S1"))
    assert volume.dtype == np.int16
    np.testing.assert_array_equal(volume, HU)


def test_every_slice_has_its_own_slope_and_intercept(tmp_path):
    folder = series(tmp_path / "S1")
    change_all(folder, lambda n, image: {"RescaleSlope": n + 1, "RescaleIntercept": -1000 - 10 * n})
    stored = HU + 1000
    expected = np.stack([stored[:, :, n] * (n + 1) - 1000 - 10 * n for n in range(SHAPE[2])], axis=2)
    np.testing.assert_array_equal(values(folder), expected)


def test_fractional_slopes_give_single_precision(tmp_path):
    folder = series(tmp_path / "S1", modality="MR", RescaleSlope="0.125", RescaleIntercept="0.5")
    volume = values(folder)
    assert volume.dtype == np.float32
    np.testing.assert_array_equal(volume, HU.astype(np.float32) / 8 + 0.5)


def test_mr_without_rescale_is_taken_as_stored(tmp_path):
    np.testing.assert_array_equal(values(series(tmp_path / "S1", modality="MR")), HU)


def test_ge_padding_stays_minus_3024_hu_and_is_told(tmp_path):
    stored = HU.copy()
    stored[:2] = -3000
    folder = series(tmp_path / "S1", stored, RescaleIntercept="-1024", PixelPaddingValue=-2000)
    assert (values(folder)[:2] == -3024).all()
    assert padding_value(slices(folder)[0]) == -3024


def test_philips_offset_of_1000_and_unsigned_pixels(tmp_path):
    folder = series(tmp_path / "S1", RescaleIntercept="-1000")
    change_all(folder, lambda *_: {"PixelRepresentation": 0})
    np.testing.assert_array_equal(values(folder), HU)


def test_unsigned_values_above_32767_do_not_wrap(tmp_path):
    folder = series(tmp_path / "S1", HU[:, :, :1], modality="MR")
    stored = np.linspace(0, 65535, HU[:, :, 0].size).astype("<u2").reshape(HU.shape[1::-1])
    set_pixels(folder / "0001", stored, PixelRepresentation=0)
    volume = values(folder)
    assert volume.dtype == np.int32
    np.testing.assert_array_equal(volume[:, :, 0], stored.T)


def test_bits_beyond_those_stored_are_ignored(tmp_path):
    folder = series(tmp_path / "S1", HU[:, :, :1])
    stored = (HU[:, :, 0].T + 1000).astype("<u2") | 0x8000  # an overlay in the highest bit, as old scanners wrote it
    set_pixels(folder / "0001", stored, BitsStored=12, HighBit=11, PixelRepresentation=0)
    np.testing.assert_array_equal(values(folder)[:, :, 0], HU[:, :, 0])


@needs_shared("cases", "j2k-overlay-in-high-bits")
def test_bits_beyond_those_stored_are_ignored_where_a_decoder_returns_them(tmp_path):
    pytest.importorskip("PIL", reason="decodes JPEG 2000")
    volume = values(shared("cases", "j2k-overlay-in-high-bits"))
    clean = values(shared("cases", "padding-outside-fov-changed"))  # the same image, uncompressed, with padding
    image = clean > -3024
    np.testing.assert_array_equal(volume[image], clean[image])


@pytest.mark.parametrize(("signed", "overlay"), [(0, 0x1000), (0, 0xF000), (1, 0x7000)])
def test_bits_beyond_those_stored_are_ignored_by_the_representation_of_the_values(signed, overlay):
    wanted = np.arange(-2048, 2048).reshape(64, 64) + (0 if signed else 2048)
    stored = ((wanted & 0x0FFF) | overlay).astype(np.uint16).view(np.int16 if signed else np.uint16)
    image = Dataset()
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, signed
    np.testing.assert_array_equal(_stored_bits(stored, image), wanted)


def test_values_in_other_than_the_lowest_bits_are_refused(tmp_path):
    folder = series(tmp_path / "S1", HU[:, :, :1])
    change(folder / "0001", BitsStored=12, HighBit=15)
    with pytest.raises(ValueError, match=r"0001 cannot be read, .*its HighBit is 15, not BitsStored 12 minus 1"):
        values(folder)


def test_padding_that_lost_its_sign_gets_it_back(tmp_path):
    stored = HU.copy()
    stored[:2] = -3000  # of which the file has 1000 more: -2000, whose 16 bits are those of 63536
    folder = series(tmp_path / "S1", stored, RescaleIntercept="-1024")
    change_all(folder, lambda *_: {"PixelRepresentation": 0})
    for file in folder.iterdir():
        image = dcmread(file)
        image.add_new("PixelPaddingValue", "US", 63536)
        image.save_as(file)
    volume = values(folder)
    assert (volume[:2] == -2000 - 1024).all()
    assert padding_value(slices(folder)[0]) == -3024
    np.testing.assert_array_equal(volume[2:], HU[2:] + 1000 - 1024)


@needs_shared("cases", "unsigned-padding-63536")
def test_a_series_with_padding_63536_is_the_one_with_padding_minus_2000():
    wrapped, signed = (
        values(shared("cases", name)) for name in ("unsigned-padding-63536", "padding-outside-fov-changed")
    )
    np.testing.assert_array_equal(wrapped, signed)
    assert (wrapped == -3024).sum() == 4608


def test_enhanced_frames_are_rescaled_and_ordered_one_by_one(tmp_path):
    stored = HU + 1000
    scales = [(1, -1000), (2, -1000), (1, -990), (3, 0)]
    path = write_enhanced(tmp_path / "multi", stored, order=[2, 0, 3, 1], scales=scales)
    expected = np.stack([stored[:, :, n] * a + b for n, (a, b) in enumerate(scales)], axis=2)
    np.testing.assert_array_equal(values(path), expected)
    np.testing.assert_allclose(stack(slices(path), "").affine, AFFINE, atol=1e-6)


def test_monochrome1_is_taken_as_stored_with_a_warning(tmp_path, caplog):
    folder = series(tmp_path / "S1")
    change_all(folder, lambda *_: {"PhotometricInterpretation": "MONOCHROME1"})
    np.testing.assert_array_equal(values(folder), HU)
    assert "MONOCHROME1, shown inverted by viewers: its values are taken as they are stored" in caplog.text


def test_truncated_and_absent_pixels_are_named(tmp_path):
    folder = series(tmp_path / "S1")
    whole = (folder / "0002").read_bytes()
    (folder / "0002").write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"the series: the pixels of 0002 cannot be read, the file is truncated"):
        values(folder)
    (folder / "0002").write_bytes(whole)
    change(folder / "0002", PixelData=None)
    with pytest.raises(ValueError, match=r"0002 cannot be read, .*it has no pixel data"):
        values(folder)


def test_a_compression_without_decoder_is_named_with_the_command_that_installs_one(tmp_path, monkeypatch):
    folder = series(tmp_path / "S1", HU[:, :, :1])
    image = dcmread(folder / "0001")
    image.PixelData = encapsulate([b"\xff\xd8 not looked at \xff\xd9"])
    image["PixelData"].is_undefined_length = True
    image.file_meta.TransferSyntaxUID = JPEGLSLossless
    image.save_as(folder / "0001")
    for name in ("jpeg_ls", "pylibjpeg", "openjpeg", "libjpeg", "gdcm"):
        monkeypatch.setitem(sys.modules, name, None)
    decoder = get_decoder(JPEGLSLossless)  # pydicom asked for its packages when it was imported
    monkeypatch.setattr(decoder, "_available", {})
    monkeypatch.setattr(decoder, "_unavailable", {"pyjpegls": ("jpeg_ls",)})
    with pytest.raises(ValueError, match=r"0001 is compressed, .*no decoder .*JPEG-LS.*pip install 'pylibjpeg\[all\]'"):
        values(folder)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"RescaleIntercept": None}, "0002 lacks RescaleSlope or RescaleIntercept, its values are no HU"),
        ({"RescaleSlope": 0}, "0002 has RescaleSlope 0, all its values are lost"),
        ({"RescaleType": "MGML"}, r"0002 has values in 'MGML' \(RescaleType\), give a CT in HU"),
        ({"RescaleIntercept": 99999999}, r"0002 has values up to 1\.00\d*e\+08, too large for HU"),
        ({"ModalityLUTSequence": [Dataset()]}, "0002 has a modality look-up table"),
    ],
)
def test_values_that_are_no_hu_are_refused(tmp_path, attributes, message):
    folder = series(tmp_path / "S1")
    change(folder / "0002", **attributes)
    with pytest.raises(ValueError, match=message):
        values(folder)
